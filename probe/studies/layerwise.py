"""The main job: arms of networks, their features, their probes, and where to cut."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.audit import Finding, quick_audit
from probe.backbones import NetworkSpec, Tap
from probe.base.errors import ProbeError, Unreachable
from probe.base.runtime import default_folder, log, probing_device
from probe.data import Dataset, FileHashes, dataset
from probe.features import Features, read_features
from probe.features.named import features_of
from probe.probes import PROBES, Draws, check_request, sweep
from probe.records.rows import frame, make_row
from probe.scoring.differences import all_differences
from probe.scoring.recommendation import recommend, recommend_by_size
from probe.settings import Checks, Extraction, Network, ProbeGrid, Reading

Made = TypeVar("Made")
STUDY = "layerwise"
DEFAULT_WEIGHTS = ("pretrained", "scratch")


@dataclass(frozen=True)
class Arm:
    """One network with one set of weights, and the features of each of its seeds."""

    arch: str
    weights: str
    features: dict[int, Features]

    @property
    def taps(self) -> list[Tap]:
        """What is known of each tap."""
        return next(iter(self.features.values())).taps


@dataclass(frozen=True)
class Study:
    """What was asked, what could not be had, and what came out."""

    data: Dataset
    arms: list[Arm]
    skipped: list[dict[str, str]]
    rows: pd.DataFrame = field(repr=False)
    draws: list[Draws] = field(repr=False)
    probes: tuple[str, ...]
    grid: ProbeGrid
    findings: list[Finding]

    def summaries(self) -> list[dict[str, Any]]:
        """Per arm and kind of probe: its taps, the best on validation, the earliest sufficient one, and the oracle."""
        found = []
        for arm, method in product(self.arms, self.probes):
            rows = self.rows_of(arm, method)
            known = {"arch": arm.arch, "weights": arm.weights, "method": method, "seeds": sorted(arm.features)}
            main = recommend(rows[rows["study"] == STUDY], arm.taps, self.grid)
            found.append({**known, **main, "training_sizes": recommend_by_size(rows, arm.taps, self.grid)})
        return found

    def rows_of(self, arm: Arm, method: str) -> pd.DataFrame:
        """The rows of one kind of probe in one arm."""
        rows = self.rows
        return rows[(rows["arch"] == arm.arch) & (rows["weights"] == arm.weights) & (rows["method"] == method)]

    def differences(self) -> pd.DataFrame:
        """Every tap against the best on validation, and weights against weights: paired on test, with Holm's p."""
        arms = [
            {
                "arch": summary["arch"], "weights": summary["weights"], "method": summary["method"],
                "taps": [tap["tap"] for tap in summary["taps"]], "best": summary["best"]["tap"], "draws": draws,
            }
            for summary, draws in zip(self.summaries(), self._test_draws(), strict=True)
        ]  # fmt: skip
        return all_differences(arms, self.grid.metric)

    def _test_draws(self) -> list[NDArray[np.float64]]:
        return [draws[method, "test"] for draws, method in product(self.draws, self.probes)]


def run_layerwise(
    archs: Sequence[str],
    weights: Sequence[str] = (),
    data: str | Path | Dataset = "digits",
    *,
    seeds: Sequence[int] = (0,),
    reading: Reading | None = None,
    network: Network | None = None,
    extraction: Extraction | None = None,
    probes: Sequence[str] = PROBES,
    grid: ProbeGrid | None = None,
    checks: Checks | None = None,
    cache: str | Path | None = None,
) -> Study:
    """Probe every tap of every network with every set of weights.

    Without `weights`, pretrained and scratch are set side by side, and a pretrained network that
    cannot be had is skipped, loudly; asked for by name it is an error. More than one of `seeds`
    repeats what is random: scratch weights and splits that were drawn. What the quick audit finds
    is told and kept; the run goes on.
    """
    network, extraction, grid = network or Network(), extraction or Extraction(), grid or ProbeGrid()
    place = Path(cache) if cache else default_folder()
    table = data
    if not isinstance(table, Dataset):
        table = dataset(table, seed=seeds[0], cache=place, **asdict(reading or Reading()))
    _describe_data(table)
    check_request(table, probes, grid, checks or Checks())
    findings = quick_audit(table, FileHashes(place))
    for finding in findings:
        log.warning("%s: %s", finding.level.upper(), finding.text)

    def features_of_seeds(arch: str, source: str) -> dict[int, Features]:
        return _features_by_seed(arch, source, table, seeds, network, extraction, place)

    found, skipped = for_each_arm(archs, weights, features_of_seeds)
    arms = [Arm(arch, source, features) for (arch, source), features in found.items()]
    return _probed(arms, skipped, table, findings, probes, grid, checks or Checks(), extraction.device)


def for_each_arm(
    archs: Sequence[str], weights: Sequence[str], make: Callable[[str, str], Made]
) -> tuple[dict[tuple[str, str], Made], list[dict[str, str]]]:
    """What `make` gives for every network with every set of weights, and the arms that were skipped.

    Without `weights` they are pretrained and scratch, and pretrained ones that cannot be had are skipped, loudly. Asked
    for by name it is a ProbeError, and so is nothing left.
    """
    found: dict[tuple[str, str], Made] = {}
    skipped: list[dict[str, str]] = []
    for arch, source in product(dict.fromkeys(archs), dict.fromkeys(weights or DEFAULT_WEIGHTS)):
        try:
            found[arch, source] = make(arch, source)
        except Unreachable as error:
            if weights:
                raise ProbeError(f"{error}; {_how_to_get(arch)}") from None
            log.warning("SKIPPED %s with pretrained weights: %s. %s", arch, error, _how_to_get(arch))
            skipped.append({"arch": arch, "weights": source, "reason": str(error)})
    if not found:
        raise ProbeError(f"no network is left to probe: {skipped[0]['reason']}")
    return found, skipped


def run_features(
    sources: Sequence[str | Path],
    *,
    seeds: Sequence[int] = (0,),
    probes: Sequence[str] = PROBES,
    grid: ProbeGrid | None = None,
    checks: Checks | None = None,
    device: str = "auto",
) -> Study:
    """Probe features that were made elsewhere; see `read_features` for their layout.

    Several sources are several arms, which must be of the same images, splits and groups. More than one of `seeds`
    repeats what is random, splits that were drawn.
    """
    arms: list[Arm] = []
    for source in sources:
        one = read_features(source, seeds[0])
        features = {seed: read_features(source, seed) for seed in (seeds if one.data.drawn else seeds[:1])}
        arms.append(Arm(one.origin["arch"], one.origin["weights"], features))
    _check_arms(arms)
    first = next(iter(arms[0].features.values())).data
    _describe_data(first)
    return _probed(arms, [], first, [], probes, grid or ProbeGrid(), checks or Checks(), device)


def _check_arms(arms: Sequence[Arm]) -> None:
    """Raise ProbeError for arms that cannot be told apart, or not be set side by side."""
    first = arms[0]
    for i, arm in enumerate(arms[1:], 1):
        mine, other = (next(iter(each.features.values())) for each in (first, arm))
        if any((arm.arch, arm.weights) == (each.arch, each.weights) for each in arms[:i]):
            raise ProbeError(f"two sources of features are called {arm.arch}, {arm.weights}; give them different names")
        for what in ("ids", "labels", "splits", "groups"):
            if not np.array_equal(getattr(mine, what), getattr(other, what)):
                raise ProbeError(f"'{mine.folder}' and '{other.folder}' do not have the same {what} in the same order")


def _probed(
    arms: list[Arm], skipped: list[dict[str, str]], data: Dataset, findings: list[Finding],
    probes: Sequence[str], grid: ProbeGrid, checks: Checks, device: str,
) -> Study:  # fmt: skip
    solver = probing_device(device)
    sweeps = [sweep(arm.features, probes, grid, checks, device=solver) for arm in arms]
    rows = pd.concat([each.rows for each in sweeps], ignore_index=True)
    if data.skipped:
        count = make_row(study=STUDY, dataset=data.name, metric="skipped_images", value=len(data.skipped))
        rows = frame([*rows.to_dict(orient="records"), count])
    draws = [each.draws for each in sweeps]
    return Study(data, arms, skipped, rows, draws, tuple(dict.fromkeys(probes)), grid, findings)


def _features_by_seed(
    arch: str, weights: str, data: Dataset, seeds: Sequence[int], network: Network, extraction: Extraction, cache: Path
) -> dict[int, Features]:
    """Features for every seed that changes something: the weights when scratch, the splits when drawn."""
    scratch = weights == "scratch"
    useful = seeds if scratch or data.drawn else seeds[:1]
    found = {}
    for seed in useful:
        found[seed] = features_of(NetworkSpec.of(network, arch, weights, seed), data.redraw(seed), extraction, cache)
    return found


def _describe_data(data: Dataset) -> None:
    counts = ", ".join(f"{count} {split}" for split, count in data.counts().items())
    drawn = f"; drawn from seed {data.seed}: {', '.join(data.drawn)}" if data.drawn else ""
    grouped = f", {len(set(data.groups.tolist()))} groups" if data.groups is not None else ""
    log.info(
        "%s: %s images (%s%s), %d classes, %s%s",
        data.name,
        len(data),
        counts,
        grouped,
        len(data.classes),
        data.task,
        drawn,
    )


def _how_to_get(arch: str) -> str:
    return (
        f"Run once where the network is reachable and copy the download cache here, or pass a file: "
        f"--arch {arch} --weights FILE.safetensors"
    )
