"""The main job: arms of networks, their features, their probes, and where to cut."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from probe.audit import Finding, quick_audit
from probe.backbones import Networks
from probe.base.files import plain
from probe.base.runtime import log, probing_device
from probe.data import Dataset, FileHashes
from probe.probes import PROBES, check_request
from probe.records.cell import Cell, Outcome
from probe.records.record import Entry, Record, Run
from probe.records.result_rows import frame, make_row
from probe.scoring.differences import all_differences
from probe.scoring.recommendation import recommend, recommend_by_size
from probe.settings import Controls, Extraction, Network, ProbeGrid, Reading
from probe.studies.arms import SETTLED, NetworkArm, Setup, arm_of, for_each_arm, read_alike
from probe.studies.engine import complete
from probe.studies.identity import DataIdentity, decisive, in_words, setting_words
from probe.studies.recorded_probes import STUDY, ProbedArm, probed

if TYPE_CHECKING:
    from probe.backbones import Backbone


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
    grid = grid or ProbeGrid()
    setting = setting_words(setup.reading, setup.network, setup.extraction, grid)  # as asked, whatever `auto` comes to
    job = _Job(table, tuple(seeds), setup, tuple(dict.fromkeys(probes)), grid, controls or Controls(), setting)
    record = out if isinstance(out, Record) else Record(out)
    describe_data(table)
    check_request(table, probes, grid, job.controls)
    findings = audited(table, setup.folder)
    asked = plain({"archs": list(map(in_words, archs)), "weights": list(weights), **job.asked()})
    same = [run for run in record.runs if (run.command, run.asked) == (STUDY, asked)]
    earlier = [run.facts["read"] for run in same if run.facts["data"]["name"] == table.name]
    job = replace(job, setup=read_alike(archs, table, setup, earlier[-1] if earlier else None))
    facts = {"data": table.facts(), "audit": list(map(asdict, findings))}

    def study(job: _Job) -> Study:
        cells, skipped = for_each_arm(archs, weights, job.cell)
        read = {name: getattr(job.setup.extraction, name) for name in SETTLED}
        run_facts = {**facts, "skipped": skipped, "read": read}
        if entered:
            record.enter(Run.of(STUDY, asked, cells, run_facts))
        arms = list(map(ProbedArm, complete(record, cells, job.work, doing="networks")))
        return Study(table, arms, skipped, job.probes, job.grid, run_facts, record)

    done = study(job)
    if _read_unlike([arm.entry for arm in done.arms]) and setup.extraction.compile == "auto":
        log.warning("not every network could be compiled, so all are read again, uncompiled and alike")
        plain_setup = replace(setup, extraction=replace(setup.extraction, compile="off"))
        return study(replace(job, setup=read_alike(archs, table, plain_setup)))
    return done


@dataclass(frozen=True)
class _Job:
    """What is done for each network: its cell, and the probes behind it."""

    data: Dataset
    seeds: tuple[int, ...]
    setup: Setup
    probes: tuple[str, ...]
    grid: ProbeGrid
    controls: Controls
    setting: str

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
        cell = Cell(
            kind="probes",
            asked={
                "networks": networks, "probes": list(self.probes),
                **decisive(self.setup.extraction, self.grid, self.controls),
            },
            labels={
                "dataset": self.data.name, "arch": next(iter(arms.values())).origin["arch"], "weights": weights,
                "setting": self.setting,
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


def audited(data: Dataset, cache: Path) -> list[Finding]:
    """What the quick audit finds, logged."""
    findings = quick_audit(data, FileHashes(cache))
    for finding in findings:
        log.warning("%s: %s", finding.level.upper(), finding.text)
    return findings


def _read_unlike(entries: Sequence[Entry]) -> bool:
    """Whether networks of one run were read in different precision."""
    requests = [network["request"] for entry in entries for network in entry.facts["networks"]]
    return len({(request.get("dtype"), request.get("compiled")) for request in requests}) > 1


def describe_data(data: Dataset) -> None:
    """Log the counts of images, groups and classes, and which splits were drawn."""
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
