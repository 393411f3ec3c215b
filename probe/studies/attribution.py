"""What `probe attribute` does: the networks it asks, the images it asks about, the maps and their numbers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.attribution import METHODS
from analysis.attribution.tables import AGAINST, difference_of, summary, with_differences
from probe.backbones import Networks, NetworkSpec
from probe.base.errors import ProbeError
from probe.base.runtime import log, pick_device
from probe.data import Dataset, Masks, draw_order
from probe.features.named import features_of
from probe.features.reader import full_precision
from probe.records.rows import frame, make_row
from probe.settings import Attribution, Batches, Extraction, Network
from probe.studies.attribution_maps import Asked, Pictures
from probe.truncation import Truncated, load, probed

STUDY = "attribution"


@dataclass(frozen=True)
class Arm:
    """One network cut at some taps, each with a head, and what its rows say of it."""

    name: str
    arch: str
    weights: str
    models: dict[str, Truncated]
    depths: dict[str, float | None]

    @property
    def classes(self) -> Sequence[str]:
        """What its heads tell apart, at every tap the same."""
        return next(iter(self.models.values())).classes


@dataclass(frozen=True)
class Explained:
    """`saved` holds the maps and all that a figure of them takes, `table` a number per image, `summary` their means."""

    saved: dict[str, NDArray[Any]]
    table: pd.DataFrame
    summary: pd.DataFrame
    known: dict[str, Any]
    arms: Sequence[Arm]

    def rows(self) -> pd.DataFrame:
        """The means as result rows; the stage down to which weights were drawn anew stands as the strategy."""
        rows, (first, *others) = [], self.arms
        meant = {arm.name: [arm] for arm in self.arms}
        meant |= {difference_of(first.name, arm.name): [first, arm] for arm in others}
        for each in self.summary.to_dict(orient="records"):
            arms = meant[each["arm"]]
            numbers = {key: each[key] for key in ("metric", "class", "value", "ci_low", "ci_high")}
            place = {"tap": each["tap"], "depth": arms[0].depths[each["tap"]], "strategy": each["randomised"] or None}
            weights = AGAINST.join(arm.weights for arm in arms)
            rows.append(make_row(**self.known, arch=arms[0].arch, weights=weights, **place, **numbers))
        return frame(rows)


def saved_arms(files: Sequence[Path]) -> list[Arm]:
    """Networks that were saved, called as their files are. Raises ProbeError when two are called the same."""
    arms = []
    _check_names([file.stem for file in files])
    for file in files:
        model = load(file)
        arms.append(Arm(file.stem, model.trunk.origin.arch, str(file), {model.tap: model}, {model.tap: None}))
    return arms


def probed_arms(
    arch: str, weights: Sequence[str], taps: Sequence[str], data: Dataset, seed: int, network: Network,
    batches: Batches, cache: Path,
) -> list[Arm]:  # fmt: skip
    """A network with every set of weights, by which it is called, and the linear probes of some taps as heads."""
    from probe.records.labels import weights_names

    extraction = Extraction(**asdict(batches), dtype="float32", compile="off")
    arms, networks = [], Networks()
    for source, called in weights_names(weights or ("pretrained",)).items():
        spec = NetworkSpec.of(network, arch, source, seed).sized(data.image_size)
        net = networks(spec)
        names = [net.stage(tap).name for tap in dict.fromkeys(taps or (net.taps[-1],))]
        features = features_of(spec, data, extraction, cache, networks)
        depths: dict[str, float | None] = {tap.name: tap.depth for tap in features.taps if tap.name in names}
        arms.append(Arm(called, arch, source, probed(net, features, names), depths))
    return arms


def explain(
    arms: Sequence[Arm], data: Dataset, masks: Masks | None, settings: Attribution, batches: Batches, seed: int
) -> Explained:
    """Maps of the same images by every network at every tap, and the numbers that say what to think of them.

    Raises ProbeError for networks of the same name, targets that are no class, and as `attribute` does.
    """
    _check_names([arm.name for arm in arms])
    rows = _choose(data, settings, seed)
    device, pictures = pick_device(batches.device), Pictures(data, masks, batches)
    if len(rows) == 1:
        log.info("one image: its numbers have no interval")
    saved: dict[str, Any] = {"arms": [], "taps": [], "targets": [], "maps": []}
    numbers: list[dict[str, Any]] = []
    for arm in arms:
        for tap, model in arm.models.items():
            log.info("%s of %d images: %s, %s", METHODS[settings.method].title, len(rows), arm.name, tap)
            with full_precision(device):
                one = Asked(model, pictures, rows, settings, batches, device, seed)
                maps = one.maps()
                numbers += one.numbers(maps, arm=arm.name, tap=tap)
            saved["pictures"] = saved.get("pictures", one.pictures.permute(0, 2, 3, 1).numpy())
            saved["masks"] = saved.get("masks", one.masks)
            asked = [model.classes[target] for target in one.targets.tolist()]
            for key, value in (("arms", arm.name), ("taps", tap), ("targets", asked), ("maps", maps.cpu().numpy())):
                saved[key].append(value)
    method, labels = METHODS[settings.method], np.array(data.label_names())[rows]
    facts = {"method": method.title, "unit": method.unit, "signed": method.signed, "data": data.name}
    stored = {f"maps_{i}": maps for i, maps in enumerate(saved.pop("maps"))}
    arrays = {key: np.array(value) for key, value in (saved | facts).items()}
    arrays |= {"ids": data.ids[rows], "labels": labels, **stored}
    table = with_differences(pd.DataFrame(numbers))
    kinds = labels.tolist() if data.task != "multilabel" else [""] * len(rows)
    means = summary(table, kinds, None if data.groups is None else data.groups[rows], settings.draws, seed)
    known = {"study": STUDY, "dataset": data.name, "task": data.task, "method": settings.method}
    table = table.assign(id=data.ids[rows][table["image"]])
    return Explained(arrays, table, means, known | {"split": settings.split, "seed": seed}, arms)


def _check_names(names: Sequence[str]) -> None:
    called = [*names, *(difference_of(names[0], name) for name in names[1:])]
    if len(set(called)) < len(called):
        what = "networks" if len(set(names)) < len(names) else "networks, or a network and a difference of two,"
        raise ProbeError(f"two {what} are called '{max(called, key=called.count)}'; rename the file of one")


def _choose(data: Dataset, settings: Attribution, seed: int) -> NDArray[np.int64]:
    """Rows of the split, in a random order of which every beginning has the frequencies of the classes."""
    rows = np.flatnonzero((data.splits == settings.split) | (settings.split == "all"))
    order = rows[draw_order(data.labels[rows], None, seed)]
    return order[: settings.images or len(order)]
