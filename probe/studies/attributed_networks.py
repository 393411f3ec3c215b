"""Networks that are asked what a class rests on: with linear probes as heads, or truncated with heads of their own."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from probe.backbones import Backbone
from probe.backbones.state_dicts import hash_tensors
from probe.base.runtime import versions
from probe.data import Dataset
from probe.features import extract
from probe.records.display_names import weights_name, weights_names
from probe.settings import ProbeGrid
from probe.studies.arms import Built, Named, NetworkArm, Setup
from probe.studies.identity import decisive
from probe.truncation import Truncated, load, probed, read_card

CARD = ("arch", "level", "modules", "preprocessing", "tap", "halved", "head", "classes", "task", "source", "hash")
Models = tuple[dict[str, Truncated], dict[str, float | None]]  # by tap the network cut there, and the depth of the cut


class Subject(Protocol):
    """One network: what it is called in rows, where it is cut, its classes, and what decides its numbers."""

    name: str
    arch: str
    weights: str
    taps: Sequence[str | int]
    classes: Sequence[str]
    identity: dict[str, Any]

    def models(self) -> Models:
        """The networks in question, made when they are needed."""
        ...


class ProbedNetwork:
    """A network with the linear probes of some taps as heads."""

    def __init__(self, name: str, arm: NetworkArm, taps: Sequence[str | int], setup: Setup) -> None:
        self.name, self.taps = name, taps
        self.arch: str = arm.origin["arch"]
        self.weights: str = arm.origin["weights"]
        self.classes: Sequence[str] = arm.data.classes
        self.identity = {"network": arm.identity, "taps": list(taps), **decisive(ProbeGrid())}
        self._arm, self._setup = arm, setup

    def models(self) -> Models:
        """The network is built once, for its features and for its maps."""
        net, data = self._arm.net, self._arm.data
        names = [net.stage(tap).name for tap in dict.fromkeys(self.taps or (net.taps[-1],))]
        features = extract(net, data, self._setup.extraction, cache=self._setup.folder)
        depths: dict[str, float | None] = {tap.name: tap.depth for tap in features.taps if tap.name in names}
        return probed(net, features, names), depths


class TruncatedNetwork:
    """A truncated network, or its file."""

    def __init__(self, name: str, source: Path | Truncated) -> None:
        card = read_card(source) if isinstance(source, Path) else _card(source)
        self.name, self._source = name, source
        self.arch: str = card["arch"]
        self.weights = str(source) if isinstance(source, Path) else str(card["source"]["weights"])
        self.taps: Sequence[str | int] = [card["tap"]]
        self.classes: Sequence[str] = card["classes"]
        self.identity = {**{part: card[part] for part in CARD}, "versions": versions()}

    def models(self) -> Models:
        """A copy of one that somebody else holds."""
        model = load(self._source) if isinstance(self._source, Path) else copy.deepcopy(self._source)
        return {model.tap: model}, {model.tap: None}


def probed_networks(
    arch: str | Backbone | None, weights: Sequence[str], taps: Sequence[str | int], data: Dataset, setup: Setup
) -> list[Subject]:
    """A network with every set of weights, by which it is called. Raises Unreachable for weights that cannot be had."""
    if arch is None:
        return []
    if isinstance(arch, Backbone):
        return [ProbedNetwork(weights_name(arch.origin.weights), Built(arch, data, setup), taps, setup)]
    names = weights_names(weights or ("pretrained",))
    return [ProbedNetwork(names[each], Named.of(arch, each, data, setup), taps, setup) for each in names]


def truncated_networks(
    models: Sequence[str | Path | Truncated] | Mapping[str, str | Path | Truncated],
) -> list[Subject]:
    """Truncated networks by the names they are given, else as their files are called, or by network and tap."""
    named = list(models.items()) if isinstance(models, Mapping) else [(_name(model), model) for model in models]
    return [TruncatedNetwork(name, model if isinstance(model, Truncated) else Path(model)) for name, model in named]


def _name(model: str | Path | Truncated) -> str:
    return f"{model.trunk.origin.arch}, {model.tap}" if isinstance(model, Truncated) else Path(model).stem


def _card(model: Truncated) -> dict[str, Any]:
    """What the card of its file would say, but for what is measured."""
    origin = model.trunk.describe()
    return {
        **{name: origin[name] for name in ("arch", "level", "modules", "preprocessing")},
        "tap": model.tap, "halved": model.halved, "head": asdict(model.settings), "classes": list(model.classes),
        "task": model.task.name, "source": {"weights": origin["weights"], "seed": origin["seed"]},
        "hash": hash_tensors(model.weights()),
    }  # fmt: skip
