"""Probes of features that were made elsewhere: `probe layerwise --features`."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from probe.base.errors import ProbeError
from probe.base.files import digest_of
from probe.base.runtime import probing_device, versions
from probe.features import Features, read_features
from probe.probes import PROBES, check_request
from probe.records.cell import Cell, Outcome
from probe.records.record import Record, Run
from probe.settings import Controls, ProbeGrid
from probe.studies.arms import content_of
from probe.studies.engine import complete
from probe.studies.identity import decisive, setting_words
from probe.studies.layerwise import Study, describe_data
from probe.studies.recorded_probes import STUDY, ProbedArm, probed


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
    describe_data(data)
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
    content = content_of(first)
    tables = {seed: [each.labels.tolist(), each.splits.tolist()] for seed, each in arm.items()}
    groups = None if first.groups is None else first.groups.tolist()
    asked = {"features": content, "table": digest_of([list(first.ids), tables, groups, list(first.data.classes)])}
    origin = {"arch": first.origin["arch"], "weights": first.origin["weights"]}
    return Cell(
        kind="probes", asked={**asked, "probes": list(probes), **decisive(grid, controls), "versions": versions()},
        labels={"dataset": first.data.name, **origin, "setting": setting_words(grid)},
    )  # fmt: skip


def _probed_cell(
    arms: Mapping[Cell, Mapping[int, Features]], probes: Sequence[str], grid: ProbeGrid, controls: Controls,
    device: str, cell: Cell,
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
