"""What a study asks, as plain values: the identity of data, networks and settings; and what is not the default."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe.backbones import Networks, NetworkSpec
from probe.base.files import digest_of
from probe.base.runtime import versions
from probe.cache.requests import data_fingerprint
from probe.data import Dataset, FileHashes
from probe.settings import Tuning
from probe.settings.training import reads

if TYPE_CHECKING:
    from probe.backbones import Backbone


def decisive(*settings: Any) -> dict[str, dict[str, Any]]:
    """By class the fields of settings that decide a number; threads and batches of a forward pass do not."""
    return {
        type(each).__name__: {
            entry.name: getattr(each, entry.name) for entry in fields(each) if entry.metadata.get("decides", True)
        }
        for each in settings
    }


def setting_words(*settings: Any, strategy: str | None = None) -> str:
    """The settings that are not the default and that a reader compares, such as "top_k=2, lr=0.01".

    Of `Tuning` those count that `strategy` reads.
    """
    words = []
    for each in settings:
        for entry in fields(each):
            read = not isinstance(each, Tuning) or (strategy is not None and entry.name in reads(strategy))
            value = getattr(each, entry.name)
            if read and value != entry.default and entry.metadata.get("compared", entry.metadata.get("decides", True)):
                words.append(f"{entry.name}={_word(value)}")
    return ", ".join(words)


class DataIdentity:
    """What decides the numbers of a data set: its images, hashed once for all seeds; labels, groups and splits."""

    def __init__(self, data: Dataset, cache: Path) -> None:
        self.images = data_fingerprint(data, FileHashes(cache))
        self._by_seed: dict[int, dict[str, Any]] = {}

    def of(self, data: Dataset) -> dict[str, Any]:
        """The identity of the data set, or of the same one with splits drawn from another seed, as plain values."""
        if data.seed not in self._by_seed:
            self._by_seed[data.seed] = self._identity(data)
        return self._by_seed[data.seed]

    def _identity(self, data: Dataset) -> dict[str, Any]:
        groups = None if data.groups is None else data.groups.tolist()
        table = {"labels": data.labels.tolist(), "groups": groups, "splits": data.splits.tolist()}
        skipped = len(data.skipped)  # which a row states
        return {
            "images": self.images, "table": digest_of(table), "classes": list(data.classes), "skipped": skipped,
        }  # fmt: skip


def _word(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "/".join(map(_word, value))
    return str(value)


def network_identity(spec: NetworkSpec, cache: Path, networks: Networks) -> dict[str, Any]:
    """What decides the numbers of a network, without building it where its weights are on this machine.

    Raises Unreachable for weights that cannot be had.
    """

    def known() -> dict[str, Any] | None:
        return spec.identity(lambda file: FileHashes(cache).hash([file])[0])

    identity = known()
    if identity is None:
        net = networks(spec)  # which fetches the weights
        identity = known() or built_identity(net)
    return identity


def in_words(network: "str | Backbone") -> Any:
    """A network as a run states it: its name, or of one that is built what it is and the hash of its weights."""
    return network if isinstance(network, str) else {**network.describe(), "state": network.weights_hash()}


def built_identity(net: "Backbone") -> dict[str, Any]:
    """What decides the numbers of a network that is there already: its origin, and the hash of its weights."""
    return {**net.describe(), "state": net.weights_hash(), "versions": versions()}
