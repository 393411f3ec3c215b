"""The main job: arms of networks, their features, their probes, and where to cut."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.audit import Finding, quick_audit
from probe.backbones import Networks, Tap
from probe.base.errors import ProbeError
from probe.base.files import digest_of, plain
from probe.base.runtime import log, pick_device, probing_device, versions
from probe.data import Dataset, FileHashes
from probe.features import Features, read_features
from probe.probes import PROBES, check_request, sweep
from probe.records.cell import Cell, Outcome
from probe.records.record import Entry, Record, Run
from probe.records.rows import frame, make_row, records
from probe.scoring.differences import all_differences
from probe.scoring.recommendation import recommend, recommend_by_size
from probe.settings import Controls, Extraction, Network, ProbeGrid, Reading
from probe.studies.arms import NetworkArm, Setup, arm_of, for_each_arm
from probe.studies.engine import complete
from probe.studies.plan import DataIdentity, decisive, setting_words

if TYPE_CHECKING:
    from probe.backbones import Backbone

STUDY = "layerwise"
SETTLED = ("dtype", "compile")  # what `auto` stands for
RECOMMENDED = ("best", "earliest_sufficient", "oracle")


@dataclass(frozen=True)
class ProbedArm:
    """The recorded probes of one network with one set of weights, over all of its seeds."""

    entry: Entry

    @property
    def arch(self) -> str:
        """Name of the network."""
        return str(self.entry.labels["arch"])

    @property
    def weights(self) -> str:
        """Name of its weights."""
        return str(self.entry.labels["weights"])

    @property
    def taps(self) -> list[Tap]:
        """Where its features were read, bottom to top."""
        return list(map(Tap.from_dict, self.entry.facts["taps"]))

    @property
    def seeds(self) -> list[int]:
        """Those that changed something."""
        return [network["seed"] for network in self.entry.facts["networks"]]

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Its rows."""
        return frame(self.entry.rows)

    def draws(self, method: str, split: str) -> NDArray[np.float64]:
        """(taps, 1 + draws) the score of every tap and its bootstrap draws, means over seeds."""
        drawn: NDArray[np.float64] = self.entry.arrays[f"draws/{method}/{split}"]
        return drawn


@dataclass(frozen=True)
class Study:
    """What was asked, what could not be had, and what came out."""

    data: Dataset
    arms: list[ProbedArm]
    skipped: list[dict[str, str]]
    probes: tuple[str, ...]
    grid: ProbeGrid
    facts: dict[str, Any]
    record: Record

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The rows of all arms."""
        return frame(row for arm in self.arms for row in arm.entry.rows)

    def summaries(self) -> list[dict[str, Any]]:
        """Per arm and kind of probe: its taps, the best on validation, the earliest sufficient one, and the oracle."""
        summaries = []
        for arm, method in product(self.arms, self.probes):
            rows = arm.rows[arm.rows["method"] == method]
            names = {"arch": arm.arch, "weights": arm.weights, "method": method, "seeds": arm.seeds}
            main = recommend(rows[rows["study"] == STUDY], arm.taps, self.grid)
            summaries.append({**names, **main, "training_sizes": recommend_by_size(rows, arm.taps, self.grid)})
        return summaries

    def differences(self) -> pd.DataFrame:
        """Every tap against the best on validation, and weights against weights: paired on test, with Holm's p."""
        drawn = [arm.draws(method, "test") for arm, method in product(self.arms, self.probes)]
        arms = [
            {
                "arch": summary["arch"], "weights": summary["weights"], "method": summary["method"],
                "taps": [tap["tap"] for tap in summary["taps"]], "best": summary["best"]["tap"], "draws": draws,
            }
            for summary, draws in zip(self.summaries(), drawn, strict=True)
        ]  # fmt: skip
        return all_differences(arms, self.grid.metric)


def run_layerwise(
    archs: "Sequence[str | Backbone]",
    weights: Sequence[str] = (),
    data: str | Path | Dataset = "digits",
    *,
    seeds: Sequence[int] = (0,),
    reading: Reading | None = None,
    network: Network | None = None,
    extraction: Extraction | None = None,
    probes: Sequence[str] = PROBES,
    grid: ProbeGrid | None = None,
    controls: Controls | None = None,
    cache: str | Path | None = None,
    out: str | Path | Record | None = None,
    entered: bool = True,
    networks: Networks | None = None,
) -> Study:
    """Probe every tap of every network with every set of weights; results are recorded in the folder `out`.

    A network is a name, or is built already and then has its own weights.
    Without `weights`, pretrained and scratch are set side by side, and a pretrained network that
    cannot be had is skipped, loudly; asked for by name it is an error. More than one of `seeds`
    repeats what is random: scratch weights and splits that were drawn. What the quick audit finds
    is logged and recorded; the run goes on. What `auto` means is settled alike for all networks. With `entered`
    False the cells are recorded and the run is not, for it is part of another. `networks` holds those built already.
    """
    setup = Setup(
        seed=seeds[0], reading=reading or Reading(), network=network or Network(),
        extraction=extraction or Extraction(), cache=Path(cache) if cache else None,
        networks=networks or Networks(len(seeds)),
    )  # fmt: skip
    table = setup.load(data)
    job = _Job(table, tuple(seeds), setup, tuple(dict.fromkeys(probes)), grid or ProbeGrid(), controls or Controls())
    record = out if isinstance(out, Record) else Record(out)
    _describe_data(table)
    check_request(table, probes, job.grid, job.controls)
    findings = audited(table, setup.folder)
    asked = plain({"archs": list(map(str, archs)), "weights": list(weights), **job.asked()})
    settled = _settled(job, archs, [run for run in record.runs if run.asked == asked])
    job = replace(job, setup=replace(setup, extraction=settled))
    cells, skipped = for_each_arm(archs, weights, job.cell)
    read = {name: getattr(settled, name) for name in SETTLED}
    facts = {"data": table.facts(), "audit": list(map(asdict, findings)), "skipped": skipped, "read": read}
    if entered:
        record.enter(Run.of(STUDY, asked, cells, facts))
    entries = complete(record, cells, job.work, doing="networks")
    if _read_unlike(entries) and (extraction or Extraction()).compile == "auto":
        log.warning("not every network could be compiled, so all are read again, uncompiled and alike")
        plainly = replace(extraction or Extraction(), compile="off")
        return run_layerwise(
            archs, weights, table, seeds=seeds, reading=reading, network=network, extraction=plainly, probes=probes,
            grid=grid, controls=controls, cache=cache, out=record, entered=entered, networks=setup.networks,
        )  # fmt: skip
    return Study(table, list(map(ProbedArm, entries)), skipped, job.probes, job.grid, facts, record)


@dataclass(frozen=True)
class _Job:
    """What is done for each network: its cell, and the probes behind it."""

    data: Dataset
    seeds: tuple[int, ...]
    setup: Setup
    probes: tuple[str, ...]
    grid: ProbeGrid
    controls: Controls

    @cached_property
    def identity(self) -> DataIdentity:
        """Of the data, hashed once."""
        return DataIdentity(self.data, self.setup.folder)

    @cached_property
    def arms(self) -> dict[Cell, dict[int, NetworkArm]]:
        """The networks of each cell, by seed."""
        return {}

    def asked(self) -> dict[str, Any]:
        """The request but for the networks, as plain values."""
        settings = decisive(self.setup.reading, self.setup.network, self.setup.extraction, self.grid, self.controls)
        return {"seeds": list(self.seeds), "probes": list(self.probes), **settings}

    def cell(self, arch: "str | Backbone", weights: str) -> Cell:
        """The probes of one network, over all seeds that change something: scratch weights, or drawn splits.

        Raises Unreachable for weights that cannot be had.
        """
        drawn = isinstance(arch, str) and weights == "scratch"
        seeds = self.seeds if drawn or self.data.drawn else self.seeds[:1]
        arms = {seed: arm_of(arch, weights, self.data.redraw(seed), replace(self.setup, seed=seed)) for seed in seeds}
        networks = [
            {"network": arm.identity, "data": self.identity.of(arm.data), "seed": seed} for seed, arm in arms.items()
        ]
        setting = setting_words(self.setup.reading, self.setup.network, self.setup.extraction, self.grid)
        cell = Cell(
            kind="probes",
            asked={
                "networks": networks, "probes": list(self.probes),
                **decisive(self.setup.extraction, self.grid, self.controls),
            },
            labels={
                "dataset": self.data.name, "arch": next(iter(arms.values())).origin["arch"], "weights": weights,
                "setting": setting,
            },
        )  # fmt: skip
        self.arms[cell] = arms
        return cell

    def work(self, cell: Cell) -> Outcome:
        """Features of every seed, and their probes."""
        features = {seed: arm.features for seed, arm in self.arms[cell].items()}
        device = probing_device(self.setup.extraction.device)
        outcome = probed(features, self.probes, self.grid, self.controls, device)
        if skipped := len(self.data.skipped):
            outcome.rows.append(make_row(study=STUDY, metric="skipped_images", value=skipped))
        return outcome


def probed(
    features: Mapping[int, Features], probes: Sequence[str], grid: ProbeGrid, controls: Controls, device: str
) -> Outcome:
    """The probes of one network, by seed, as they are recorded."""
    swept = sweep(features, probes, grid, controls, device=device)
    first = next(iter(features.values()))
    main = swept.rows[swept.rows["study"] == STUDY]
    recommended = {}
    for method in dict.fromkeys(probes):
        chosen = recommend(main[main["method"] == method], first.taps, grid)
        recommended[method] = {name: chosen[name] and chosen[name]["tap"] for name in RECOMMENDED}
    networks = [
        {"seed": seed, "origin": each.origin, "features": str(each.folder), "request": each.details}
        for seed, each in features.items()
    ]
    return Outcome(
        rows=records(swept.rows),
        facts={"taps": [tap.to_dict() for tap in first.taps], "recommended": recommended, "networks": networks},
        arrays=swept.arrays(),
    )


def audited(data: Dataset, cache: Path) -> list[Finding]:
    """What the quick audit finds, logged."""
    findings = quick_audit(data, FileHashes(cache))
    for finding in findings:
        log.warning("%s: %s", finding.level.upper(), finding.text)
    return findings


def _settled(job: _Job, archs: "Sequence[str | Backbone]", earlier: Sequence[Run]) -> Extraction:
    """What `auto` means for several networks, which are compared and so read alike: settled by the largest of them."""
    extraction = job.setup.extraction
    if len(set(archs)) == 1 or all(getattr(extraction, name) != "auto" for name in SETTLED):
        return extraction
    if earlier:
        return replace(extraction, **earlier[-1].facts["read"])
    from probe.features.reader import settle

    nets = [arm_of(arch, "scratch", job.data, job.setup).net for arch in set(archs)]
    macs = max(net.tap(-1).macs or 0 for net in nets)
    return settle(extraction, len(job.data) * macs, pick_device(extraction.device))


def _read_unlike(entries: Sequence[Entry]) -> bool:
    """Whether networks of one run were read in different precision."""
    requests = [network["request"] for entry in entries for network in entry.facts["networks"]]
    return len({(request.get("dtype"), request.get("compiled")) for request in requests}) > 1


def run_features(
    sources: Sequence[str | Path],
    *,
    seeds: Sequence[int] = (0,),
    probes: Sequence[str] = PROBES,
    grid: ProbeGrid | None = None,
    controls: Controls | None = None,
    device: str = "auto",
    out: str | Path | Record | None = None,
) -> Study:
    """Probe features that were made elsewhere; see `read_features` for their layout.

    Several sources are several arms, which must be of the same images, splits and groups. More than one of `seeds`
    repeats what is random, splits that were drawn.
    """
    grid, controls, record = (
        grid or ProbeGrid(),
        controls or Controls(),
        out if isinstance(out, Record) else Record(out),
    )
    arms = []
    for source in sources:
        one = read_features(source, seeds[0])
        arms.append({seed: read_features(source, seed) for seed in (seeds if one.data.drawn else seeds[:1])})
    _check_arms([next(iter(arm.values())) for arm in arms])
    data = next(iter(arms[0].values())).data
    _describe_data(data)
    check_request(data, probes, grid, controls)
    cells = {_given_cell(arm, probes, grid, controls): arm for arm in arms}
    asked = {"features": list(map(str, sources)), "seeds": list(seeds), "probes": list(probes)}
    asked |= decisive(grid, controls)
    facts = {"data": data.facts(), "audit": [], "skipped": []}
    record.enter(Run.of(STUDY, asked, list(cells), facts))
    solver = probing_device(device)
    work = partial(_probed_cell, cells, probes, grid, controls, solver)
    entries = complete(record, list(cells), work, doing="networks")
    return Study(data, list(map(ProbedArm, entries)), [], tuple(dict.fromkeys(probes)), grid, facts, record)


def _given_cell(arm: Mapping[int, Features], probes: Sequence[str], grid: ProbeGrid, controls: Controls) -> Cell:
    """The probes of features made elsewhere, named by the content of their arrays."""
    first = next(iter(arm.values()))
    content = {tap: hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() for tap, array in first.items()}
    tables = {seed: [each.labels.tolist(), each.splits.tolist()] for seed, each in arm.items()}
    groups = None if first.groups is None else first.groups.tolist()
    asked = {"features": content, "table": digest_of([list(first.ids), tables, groups, list(first.data.classes)])}
    origin = {"arch": first.origin["arch"], "weights": first.origin["weights"]}
    return Cell(
        kind="probes", asked={**asked, "probes": list(probes), **decisive(grid, controls), "versions": versions()},
        labels={"dataset": first.data.name, **origin, "setting": setting_words(grid)},
    )  # fmt: skip


def _probed_cell(
    arms: Mapping[Cell, Mapping[int, Features]], probes: Sequence[str], grid: ProbeGrid, controls: Controls, device: str,
    cell: Cell,
) -> Outcome:  # fmt: skip
    return probed(arms[cell], probes, grid, controls, device)


def _check_arms(arms: Sequence[Features]) -> None:
    """Raise ProbeError for arms that cannot be told apart, or not be set side by side."""
    first = arms[0]
    for i, arm in enumerate(arms[1:], 1):
        arch, weights = arm.origin["arch"], arm.origin["weights"]
        if any((arch, weights) == (each.origin["arch"], each.origin["weights"]) for each in arms[:i]):
            raise ProbeError(f"two sources of features are called {arch}, {weights}; give them different names")
        for what in ("ids", "labels", "splits", "groups"):
            if not np.array_equal(getattr(first, what), getattr(arm, what)):
                raise ProbeError(f"'{first.folder}' and '{arm.folder}' do not have the same {what} in the same order")


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
