"""The main job: arms of networks, their features, their probes, and where to cut."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from probe.audit import Finding, quick_audit
from probe.cache import Features, default_folder
from probe.data import Dataset, FileHashes, dataset
from probe.errors import ProbeError, Unreachable
from probe.metrics import MACRO
from probe.probes import GAP, SELECTS, layerwise
from probe.recipes import features_of
from probe.results import frame, make_row
from probe.runtime import hardware, log, pick_device, versions
from probe.settings import Extraction, Network, ProbeGrid, Reading
from probe.statistics import earliest_sufficient

DEFAULT_WEIGHTS = ("pretrained", "scratch")


@dataclass(frozen=True)
class Arm:
    """One network with one set of weights, and the features of each of its seeds."""

    arch: str
    weights: str
    features: dict[int, Features]

    @property
    def taps(self) -> list[dict[str, Any]]:
        """What is known of each tap."""
        return next(iter(self.features.values())).taps


@dataclass(frozen=True)
class Study:
    """What was asked, what could not be had, and what came out."""

    data: Dataset
    arms: list[Arm]
    skipped: list[dict[str, str]]
    rows: pd.DataFrame = field(repr=False)
    delta: float
    findings: list[Finding]

    def summaries(self) -> list[dict[str, Any]]:
        """Per arm: its taps, the best on validation, the earliest sufficient one, and the oracle."""
        return [summarise(self.rows, arm, self.delta) for arm in self.arms]


def run_layerwise(
    archs: Sequence[str],
    weights: Sequence[str] = (),
    data: str | Path | Dataset = "digits",
    *,
    seeds: Sequence[int] = (0,),
    reading: Reading | None = None,
    network: Network | None = None,
    extraction: Extraction | None = None,
    grid: ProbeGrid | None = None,
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
    findings = quick_audit(table, FileHashes(place))
    for finding in findings:
        log.warning("%s: %s", finding.level.upper(), finding.text)
    arms: list[Arm] = []
    skipped: list[dict[str, str]] = []
    for arch in dict.fromkeys(archs):
        for source in dict.fromkeys(weights or DEFAULT_WEIGHTS):
            try:
                features = _features_by_seed(arch, source, table, seeds, network, extraction, place)
            except Unreachable as error:
                if weights:
                    raise ProbeError(f"{error}; {_how_to_get(arch)}") from None
                log.warning("SKIPPED %s with pretrained weights: %s. %s", arch, error, _how_to_get(arch))
                skipped.append({"arch": arch, "weights": source, "reason": str(error)})
            else:
                arms.append(Arm(arch, source, features))
    if not arms:
        raise ProbeError(f"no network is left to probe: {skipped[0]['reason']}")
    solver = "cuda" if pick_device(extraction.device).startswith("cuda") else "cpu"  # others lack float64
    rows = pd.concat([layerwise(arm.features, grid=grid, device=solver) for arm in arms], ignore_index=True)
    if table.skipped:
        count = make_row(study="layerwise", dataset=table.name, metric="skipped_images", value=len(table.skipped))
        rows = frame([*rows.to_dict(orient="records"), count])
    return Study(table, arms, skipped, rows, grid.delta, findings)


def summarise(rows: pd.DataFrame, arm: Arm, delta: float) -> dict[str, Any]:
    """What the rows of one arm say about where to cut; means over seeds. Chosen on val, reported on test."""
    mine = rows[(rows["arch"] == arm.arch) & (rows["weights"] == arm.weights) & rows["class"].isin([MACRO])]
    val, test = (_by_tap(mine, SELECTS, split, arm) for split in ("val", "test"))
    bounds = mine[mine["metric"] == GAP].set_index("tap")["ci_high"].reindex(val.index)
    enough = earliest_sufficient(bounds.to_list(), delta)
    taps = {
        tap["tap"]: {**tap, "val": val[tap["tap"]], "test": test[tap["tap"]], "gap_high": bounds[tap["tap"]]}
        for tap in arm.taps
    }
    whole = arm.taps[-1]
    pick = {name: _with_savings(taps[name], whole) for name in taps}
    return {
        "arch": arm.arch,
        "weights": arm.weights,
        "seeds": sorted(arm.features),
        "taps": list(taps.values()),
        "best": pick[str(val.idxmax())],
        "earliest_sufficient": None if enough is None else pick[arm.taps[enough]["tap"]],
        "oracle": pick[str(test.idxmax())] if test.notna().any() else None,
        "smallest_gap_high": float(bounds.min()),
    }


def facts(study: Study, settings: Mapping[str, Any], command: Sequence[str] = ()) -> dict[str, Any]:
    """Everything needed to repeat a run: command, settings, versions, hashes, splits, hardware, preprocessing."""
    device = pick_device(settings["extraction"]["device"]) if "extraction" in settings else "cpu"
    return {
        "command": list(command or sys.argv),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": dict(settings),
        "versions": versions(),
        "hardware": hardware(device),
        "data": study.data.facts(),
        "audit": [asdict(finding) for finding in study.findings],
        "arms": [
            {"seed": seed, "origin": features.origin, "features": str(features.folder), "request": features.details}
            for arm in study.arms
            for seed, features in arm.features.items()
        ],
        "skipped": study.skipped,
    }


def _by_tap(rows: pd.DataFrame, metric: str, split: str, arm: Arm) -> "pd.Series[float]":
    chosen = rows[(rows["metric"] == metric) & (rows["split"] == split)]
    return chosen.groupby("tap")["value"].mean().reindex([tap["tap"] for tap in arm.taps])


def _with_savings(tap: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    saved = {f"saved_{cost}": 1 - tap[cost] / whole[cost] for cost in ("params", "macs")}
    return {key: tap[key] for key in ("tap", "index", "depth", "val", "test", "gap_high", "params", "macs")} | saved


def _features_by_seed(
    arch: str, weights: str, data: Dataset, seeds: Sequence[int], network: Network, extraction: Extraction, cache: Path
) -> dict[int, Features]:
    """Features for every seed that changes something: the weights when scratch, the splits when drawn."""
    scratch = weights == "scratch"
    useful = seeds if scratch or data.drawn else seeds[:1]
    found = {}
    for seed in useful:
        drawn = seed if scratch else 0
        found[seed] = features_of(arch, weights, data.redraw(seed), drawn, network, extraction, cache)
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
