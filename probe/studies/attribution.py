"""What the logit of a class rests on in images: of linear probes at taps of a network, and of saved networks."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.attribution import METHODS
from analysis.attribution.summaries import difference_of, summary, with_differences
from probe.backbones import Backbone
from probe.base.errors import ProbeError
from probe.base.runtime import log, pick_device
from probe.data import Dataset, FileHashes, Masks, draw_order, find_masks
from probe.features.network_reader import full_precision
from probe.records.cell import Cell, Outcome
from probe.records.record import Entry, Record, Run
from probe.records.result_rows import frame, make_row, records
from probe.records.stored_tables import attribution_arrays, to_arrays, to_table
from probe.settings import Attribution, Batches, Extraction, Network, Reading
from probe.studies.arms import Setup
from probe.studies.attributed_networks import Subject, probed_networks, truncated_networks
from probe.studies.attribution_maps import AttributionRun, Pictures, places_of
from probe.studies.engine import complete
from probe.studies.identity import DataIdentity, decisive, setting_words
from probe.truncation import Truncated

STUDY = "attribution"
COMMAND, DIFFERENCE = "attribute", "attribution-difference"
RANDOMISED = "randomised down to "  # the strategy of rows of a network whose upper part is re-initialised


@dataclass(frozen=True)
class Attributed:
    """Maps of the same images: a cell for every network, and one for the difference of every other to the first."""

    record: Record
    run: Run
    entries: list[Entry]

    @cached_property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Images, masks and maps; see `records.stored_tables.attribution_arrays`."""
        return attribution_arrays(self.entries)

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per number and image: `arm`, `tap`, `randomised`, `metric`, `image`, `value`, `id`."""
        own = [entry for entry in self.entries if entry.kind == STUDY]
        numbers = with_differences(pd.concat([_numbers(entry) for entry in own], ignore_index=True))
        return numbers.assign(id=own[0].arrays["ids"][numbers["image"]])

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Means over images, with intervals."""
        return frame(row for entry in self.entries for row in entry.rows)


def attribute(
    arch: str | Backbone | None = None,
    data: str | Path | Dataset = "digits",
    *,
    weights: Sequence[str] = (),
    taps: Sequence[str | int] = (),
    models: Sequence[str | Path | Truncated] | Mapping[str, str | Path | Truncated] = (),
    masks: str | Path | Masks | None = None,
    seed: int = 0,
    attribution: Attribution | None = None,
    reading: Reading | None = None,
    network: Network | None = None,
    batches: Batches | None = None,
    cache: str | Path | None = None,
    out: str | Path | Record | None = None,
) -> Attributed:
    """Show what a class rests on, and the numbers that say whether to trust the maps; recorded in `out`.

    Asked are the linear probes at `taps` (by default the last) of `arch`, a name with every one of `weights` (by
    default pretrained) or a network that is built; and `models`, truncated networks or their files, by name if it is
    not that of the file. `masks` say where the labelled things lie. `seed` is that of scratch weights, of the images
    that are drawn and of baselines. Raises ProbeError for networks of one name, for targets that are no class of a
    network, and as `analysis.attribution.attribute` does.
    """
    attribution, batches = attribution or Attribution(), batches or Batches()
    extraction = Extraction(**asdict(batches), dtype="float32", compile="off")  # as the heads see the features
    setup = Setup.of(seed, reading, network, extraction, cache)
    record, table = out if isinstance(out, Record) else Record(out), setup.load(data)
    found = find_masks(Path(masks), table) if isinstance(masks, str | Path) else masks
    subjects = [*probed_networks(arch, weights, taps, table, setup), *truncated_networks(models)]
    _check(subjects, table, attribution)
    job = _Job(subjects, table, found, attribution, batches, setup)
    run = Run.of(COMMAND, job.asked(), [*job.cells, *job.differences], {"data": table.facts()})
    record.enter(run)
    entries = complete(record, job.cells, job.work, doing="networks")
    entries += complete(record, job.differences, lambda cell: job.compare(cell, entries), doing="differences")
    return Attributed(record, run, entries)


@dataclass(frozen=True)
class _Job:
    """What is asked of which networks about which images."""

    subjects: list[Subject]
    data: Dataset
    masks: Masks | None
    attribution: Attribution
    batches: Batches
    setup: Setup

    def asked(self) -> dict[str, Any]:
        """The request, as plain values."""
        settings = decisive(self.attribution, self.setup.reading, self.setup.network, self.batches)
        networks = {asked.name: [asked.arch, asked.weights, list(asked.taps)] for asked in self.subjects}
        known = {"networks": networks, "data": self.data.name, "masks": self._masks}
        return {**known, "seed": self.setup.seed, **settings}

    @cached_property
    def cells(self) -> list[Cell]:
        """The maps of every network, at all of its taps."""
        identity = DataIdentity(self.data, self.setup.folder).of(self.data)
        known = {"data": identity, "masks": self._masks, "seed": self.setup.seed, "captum": version("captum")}
        known |= decisive(self.attribution, self.batches)
        words = setting_words(self.setup.reading, self.setup.network, self.attribution)
        return [
            Cell(
                kind=STUDY, asked={"model": subject.identity, **known},
                labels={
                    "dataset": self.data.name, "arch": subject.arch, "weights": subject.weights, "arm": subject.name,
                    "setting": words, "seed": self.setup.seed,
                },
            )
            for subject in self.subjects
        ]  # fmt: skip

    @cached_property
    def differences(self) -> list[Cell]:
        """Where there are masks: the first network less each of the others, image by image."""
        first, own = self.subjects[0], self.cells[0]
        found = []
        for subject, cell in zip(self.subjects[1:], self.cells[1:], strict=True) if self.masks else ():
            arch = first.arch if first.arch == subject.arch else None
            labels = {**own.labels, "arch": arch, "weights": None, "arm": difference_of(first.name, subject.name)}
            found.append(Cell(kind=DIFFERENCE, asked={"cells": [own.digest, cell.digest]}, labels=labels))
        return found

    def work(self, cell: Cell) -> Outcome:
        """Maps and numbers of a network at its taps, and the means of the numbers as rows."""
        subject = self.subjects[self.cells.index(cell)]
        models, depths = subject.models()
        device, method, numbers = pick_device(self.batches.device), METHODS[self.attribution.method], []
        arrays: dict[str, NDArray[Any]] = {}
        targets = []
        for tap, model in models.items():
            log.info("%s of %d images: %s, %s", method.title, len(self.chosen), subject.name, tap)
            with full_precision(device):
                run = AttributionRun(
                    model, self.pictures, self.chosen, self.attribution, self.batches, device, self.setup.seed
                )
                maps = run.maps()
                numbers += run.numbers(maps, arm=subject.name, tap=tap)
            arrays |= {f"maps/{tap}": maps.cpu().numpy(), "masks": run.masks}
            arrays["pictures"] = run.pictures.permute(0, 2, 3, 1).numpy()
            targets.append([model.classes[target] for target in run.targets.tolist()])
        table = pd.DataFrame(numbers)
        arrays |= {"taps": np.array(list(models)), "targets": np.array(targets), "labels": self.labels}
        arrays |= {"ids": self.data.ids[self.chosen], **to_arrays("numbers", table.drop(columns="arm"))}
        facts = {"method": method.title, "unit": method.unit, "signed": method.signed, "depths": depths}
        return Outcome(rows=self._rows(table, subject.arch, subject.weights, depths), facts=facts, arrays=arrays)

    def compare(self, cell: Cell, entries: Sequence[Entry]) -> Outcome:
        """The first network less another as rows."""
        first, other = entries[0], entries[1 + self.differences.index(cell)]
        table = with_differences(pd.concat([_numbers(first), _numbers(other)], ignore_index=True))
        table = table[table["arm"].eq(cell.labels["arm"])]
        return Outcome(rows=self._rows(table, cell.labels["arch"], None, first.facts["depths"]))

    @cached_property
    def chosen(self) -> NDArray[np.int64]:
        """Rows of the split, in a random order of which every beginning has the frequencies of the classes."""
        data, settings = self.data, self.attribution
        rows = np.flatnonzero((data.splits == settings.split) | (settings.split == "all"))
        order = rows[draw_order(data.strata(rows), None, self.setup.seed)]
        order = order[: settings.images or len(order)]
        if len(order) == 1:
            log.info("one image: its numbers have no interval")
        return order

    @property
    def labels(self) -> NDArray[np.str_]:
        """Of the images that are asked about, in words."""
        return np.array(self.data.label_names())[self.chosen]

    @cached_property
    def pictures(self) -> Pictures:
        """Read once for all networks."""
        return Pictures(self.data, self.masks, self.batches)

    @cached_property
    def _masks(self) -> str | None:
        return None if self.masks is None else self.masks.fingerprint(FileHashes(self.setup.folder))

    def _rows(
        self, table: pd.DataFrame, arch: str | None, weights: str | None, depths: Mapping[str, float | None]
    ) -> list[dict[str, Any]]:
        """Means over images, by class too, with intervals."""
        data = self.data
        kinds = [""] * len(self.chosen) if data.task.row_classes(data.labels) is None else self.labels.tolist()
        groups = None if data.groups is None else data.groups[self.chosen]
        known = {
            "study": STUDY, "dataset": data.name, "task": data.task.name, "method": self.attribution.method,
            "split": self.attribution.split, "seed": self.setup.seed, "arch": arch, "weights": weights,
        }  # fmt: skip
        rows = []
        for mean in records(summary(table, kinds, groups, self.attribution.draws, self.setup.seed)):
            numbers = {name: mean[name] for name in ("arm", "metric", "class", "value", "ci_low", "ci_high")}
            strategy = f"{RANDOMISED}{mean['randomised']}" if mean["randomised"] else None
            rows.append(make_row(**known, **numbers, tap=mean["tap"], depth=depths[mean["tap"]], strategy=strategy))
        return rows


def _check(subjects: Sequence[Subject], data: Dataset, settings: Attribution) -> None:
    """Raise ProbeError for networks of one name, and for a target that one of them does not know."""
    if not subjects:
        raise ProbeError("no network was given: give the name of one, a network, or models")
    names = [subject.name for subject in subjects]
    called = [*names, *(difference_of(names[0], name) for name in names[1:])]
    if len(set(called)) < len(called):
        what = "networks" if len(set(names)) < len(names) else "networks, or a network and a difference of two,"
        raise ProbeError(f"two {what} are called '{max(called, key=called.count)}'; rename the file of one")
    for subject in subjects:
        places_of(settings.target, data, subject.classes)


def _numbers(entry: Entry) -> pd.DataFrame:
    """Of a network, a row per number and image."""
    table = to_table("numbers", entry.arrays)
    table.insert(0, "arm", [entry.labels["arm"]] * len(table))
    return table
