"""What is set side by side: networks by name, networks that are built, and features; all of the same images."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import numpy as np

from probe.backbones import Networks, NetworkSpec
from probe.base.errors import ProbeError, Unreachable
from probe.base.files import digest_of
from probe.base.runtime import default_folder, log, pick_device, versions
from probe.data import Dataset, dataset
from probe.features import Features, extract
from probe.features.by_spec import features_of
from probe.records.display_names import weights_names
from probe.settings import Extraction, Network, Reading
from probe.studies.identity import DataIdentity, built_identity, network_identity

if TYPE_CHECKING:
    from probe.backbones import Backbone

Made = TypeVar("Made")
DEFAULT_WEIGHTS = ("pretrained", "scratch")
SETTLED = ("dtype", "compile")  # what `auto` stands for


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How networks are built and read: settings, the seed of scratch weights, and the folder of the feature cache.

    `networks` hands out what is built already.
    """

    seed: int
    reading: Reading
    network: Network
    extraction: Extraction
    cache: Path | None
    networks: Networks = field(default_factory=Networks)

    @classmethod
    def of(
        cls, seed: int, reading: Reading | None, network: Network | None, extraction: Extraction | None,
        cache: str | Path | None,
    ) -> Self:  # fmt: skip
        """The defaults in place of what is None."""
        return cls(
            seed=seed, reading=reading or Reading(), network=network or Network(),
            extraction=extraction or Extraction(), cache=Path(cache) if cache else None,
        )  # fmt: skip

    @property
    def folder(self) -> Path:
        """Of the cache."""
        return self.cache or default_folder()

    def load(self, data: "str | Path | Dataset") -> Dataset:
        """The images and labels."""
        if isinstance(data, Dataset):
            return data
        return dataset(data, seed=self.seed, cache=self.cache, **asdict(self.reading))


class NetworkArm(Protocol):
    """A network or its features: `identity` is what decides their numbers, `origin` the names of its rows."""

    @property
    def data(self) -> Dataset:
        """The images and their labels."""
        ...

    @property
    def origin(self) -> dict[str, Any]:
        """Architecture, weights, seed."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """Plain values, known before anything is built."""
        ...

    @property
    def features(self) -> Features:
        """Pooled features of all images."""
        ...

    @property
    def net(self) -> "Backbone":
        """The network."""
        ...


@dataclass(frozen=True)
class Named:
    """A network by name, built only when its numbers are not known yet."""

    spec: NetworkSpec
    data: Dataset
    setup: Setup
    identity: dict[str, Any]

    @classmethod
    def of(cls, arch: str, weights: str, data: Dataset, setup: Setup) -> "Named":
        """Raises Unreachable for weights that cannot be had."""
        spec = NetworkSpec.of(setup.network, arch, weights, setup.seed).sized(data.image_size)
        return cls(spec, data, setup, network_identity(spec, setup.folder, setup.networks))

    @property
    def origin(self) -> dict[str, Any]:
        """As it was asked for."""
        return {"arch": self.spec.arch, "weights": self.spec.weights, "seed": self.spec.seed}

    @cached_property
    def features(self) -> Features:
        """From the cache, or extracted."""
        return features_of(self.spec, self.data, self.setup.extraction, self.setup.folder, self.setup.networks)

    @property
    def net(self) -> "Backbone":
        """Built for the images."""
        return self.setup.networks(self.spec)


@dataclass(frozen=True)
class Built:
    """A network that is there already; it is left as it is."""

    net: "Backbone"
    data: Dataset
    setup: Setup

    @property
    def origin(self) -> dict[str, Any]:
        """As it was built."""
        return self.net.describe()

    @cached_property
    def identity(self) -> dict[str, Any]:
        """By the content of its weights."""
        return built_identity(self.net)

    @cached_property
    def features(self) -> Features:
        """From the cache, or extracted."""
        return extract(self.net, self.data, self.setup.extraction, cache=self.setup.folder)


@dataclass(frozen=True)
class Given:
    """Features that are there already."""

    features: Features

    @property
    def data(self) -> Dataset:
        """Their labels."""
        return self.features.data

    @property
    def origin(self) -> dict[str, Any]:
        """Of the network that they were read from, or their own name."""
        return self.features.origin

    @cached_property
    def identity(self) -> dict[str, Any]:
        """By the content of their arrays."""
        return {"features": content_of(self.features), "versions": versions()}

    @property
    def net(self) -> "Backbone":
        """Raises ProbeError: it is not known."""
        raise ProbeError(f"'{self.features.folder}' holds features alone; give the network that they were read from")


@dataclass(frozen=True)
class Arms:
    """What is set side by side, by name; the images, what decides their numbers, and what could not be had.

    `setup` is how all of them are read, with `auto` settled.
    """

    by_name: dict[str, NetworkArm]
    data: Dataset
    identity: dict[str, Any]
    skipped: list[dict[str, str]]
    setup: Setup

    @property
    def title(self) -> str:
        """Name of the images, where there are some."""
        return "" if all(isinstance(arm, Given) for arm in self.by_name.values()) else self.data.name

    def features(self, name: str) -> Features:
        """Of one of several networks, all read alike. Raises ProbeError where this one alone cannot be compiled."""
        arm = self.by_name[name]
        features = arm.features
        alike = self.setup.extraction.compile == "on" and len(self.by_name) > 1 and not isinstance(arm, Given)
        if alike and not features.details["compiled"]:
            raise ProbeError(f"{name} cannot be compiled, so networks would be read unlike; give --compile off")
        return features


def gather(
    subjects: "str | Backbone | Features | Sequence[str | Backbone | Features]", weights: Sequence[str],
    data: "str | Path | Dataset", setup: Setup,
) -> Arms:  # fmt: skip
    """Names, each with every one of `weights`, then networks and features; those to be had of what is asked for.

    Raises ProbeError for features of other images, and for two arms of one name.
    """
    if isinstance(subjects, str) or not isinstance(subjects, Sequence):
        subjects = [subjects]
    others = [subject for subject in subjects if not isinstance(subject, str)]
    given = [Given(subject) for subject in others if isinstance(subject, Features)]
    built = [subject for subject in others if not isinstance(subject, Features)]
    names = [subject for subject in subjects if isinstance(subject, str)]
    arms: list[NetworkArm] = []
    skipped: list[dict[str, str]] = []
    table = setup.load(data) if names or built else given[0].data
    setup = read_alike([*names, *built], table, setup)
    if names:
        arms, skipped = for_each_arm(names, weights, lambda arch, source: arm_of(arch, source, table, setup))
    arms += [Built(net, table, setup) for net in built]
    identity = DataIdentity(table, setup.folder).of(table) if arms else identity_of_labels(table)
    arms += given
    by_name = dict(zip(_names([arm.origin for arm in arms]), arms, strict=True))
    first = next(iter(by_name))
    for name, arm in by_name.items():
        if list(arm.data.ids) != list(table.ids):
            raise ProbeError(f"'{first}' and '{name}' are not of the same images in the same order")
    return Arms(by_name, table, identity, skipped, setup)


def read_alike(
    subjects: "Sequence[str | Backbone]", data: Dataset, setup: Setup, earlier: Mapping[str, Any] | None = None
) -> Setup:
    """The setup with `auto` settled for several networks, which are compared and so read alike.

    The largest of them decides, or what was settled in an `earlier` run. A single network settles it by itself.
    """
    extraction = setup.extraction
    if len(set(subjects)) < 2 or all(getattr(extraction, name) != "auto" for name in SETTLED):
        return setup
    if earlier:
        return replace(setup, extraction=replace(extraction, **earlier))
    from probe.features.network_reader import settle

    nets = [arm_of(subject, "scratch", data, setup).net for subject in dict.fromkeys(subjects)]
    macs = len(data) * max(net.tap(-1).macs or 0 for net in nets)
    return replace(setup, extraction=settle(extraction, macs, pick_device(extraction.device)))


def arm_of(subject: "str | Backbone", weights: str, data: Dataset, setup: Setup) -> NetworkArm:
    """A network by name with some weights, or one that is built. Raises Unreachable for weights that cannot be had."""
    return Named.of(subject, weights, data, setup) if isinstance(subject, str) else Built(subject, data, setup)


def for_each_arm(
    archs: "Sequence[str | Backbone]", weights: Sequence[str], make: "Callable[[str | Backbone, str], Made]"
) -> tuple[list[Made], list[dict[str, str]]]:
    """What `make` gives for every network with every set of weights, and the arms that were skipped.

    Without `weights` they are pretrained and scratch, and pretrained ones that cannot be had are skipped, loudly. Asked
    for by name it is a ProbeError, and so is nothing left. A network that is built has its own weights.
    """
    made: list[Made] = []
    skipped: list[dict[str, str]] = []
    for arch in dict.fromkeys(archs):
        sources = weights or DEFAULT_WEIGHTS if isinstance(arch, str) else (arch.origin.weights,)
        for source in dict.fromkeys(sources):
            try:
                made.append(make(arch, source))
            except Unreachable as error:
                if weights:
                    raise ProbeError(f"{error}; {_how_to_get(str(arch))}") from None
                log.warning("SKIPPED %s with pretrained weights: %s. %s", arch, error, _how_to_get(str(arch)))
                skipped.append({"arch": str(arch), "weights": source, "reason": str(error)})
    if not made:
        raise ProbeError(f"no network is left to probe: {skipped[0]['reason']}")
    return made, skipped


def content_of(features: Features) -> list[list[Any]]:
    """Every tap of some features, in order, with what is known of it and the hash of its array."""
    return [
        [tap.to_dict(), hashlib.sha256(np.ascontiguousarray(features[tap.name]).tobytes()).hexdigest()]
        for tap in features.taps
    ]


def identity_of_labels(data: Dataset) -> dict[str, Any]:
    """What decides the numbers of features besides their arrays: names, labels, groups and splits of the rows."""
    groups = None if data.groups is None else data.groups.tolist()
    table = {"ids": data.ids.tolist(), "labels": data.labels.tolist(), "groups": groups, "splits": data.splits.tolist()}
    return {"table": digest_of(table), "classes": list(data.classes)}


def _names(origins: Sequence[dict[str, Any]]) -> list[str]:
    """What tells networks apart: files of weights by as much of their paths as it takes."""
    called = weights_names(origin["weights"] for origin in origins)
    names = [f"{origin['arch']}, {called[origin['weights']]}" for origin in origins]
    if len(set(names)) < len(names):
        raise ProbeError(f"two sets of features are both called '{max(names, key=names.count)}'; compare one of them")
    return names


def _how_to_get(arch: str) -> str:
    return (
        f"Run once where the network is reachable and copy the download cache here, or pass a file: "
        f"--arch {arch} --weights FILE.safetensors"
    )
