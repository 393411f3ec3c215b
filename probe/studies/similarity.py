"""How alike the taps of networks are, of each network and of every two, on the same images."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations_with_replacement
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.similarity import Estimate, MinibatchCKA, estimate, half_samples, measure
from analysis.similarity.tables import cca_table, tap_table
from probe.base.errors import ProbeError
from probe.base.runtime import pick_device
from probe.data import Dataset
from probe.features import Features
from probe.records.cell import Cell, Outcome
from probe.records.record import Entry, Record, Run, read_results
from probe.records.stored_tables import correlation_tables, similarity_table, to_arrays
from probe.settings import Comparison, Extraction, Network, Reading
from probe.studies.arms import Arms, Given, Setup, gather
from probe.studies.engine import complete
from probe.studies.identity import decisive, setting_words
from probe.studies.recorded_probes import STUDY as LAYERWISE

if TYPE_CHECKING:
    from probe.backbones import Backbone

STUDY = "similarity"
CORRELATED = ("svcca", "pwcca")  # measures that are made of canonical correlations
BATCH = 32  # images compared with each other when maps are; whatever the batch size
COUNTS = ("images", "left_out", "batches")  # what is reported of whole maps


@dataclass(frozen=True)
class Similarity:
    """How alike taps are: a cell for every network with itself, and for every two."""

    record: Record
    run: Run
    entries: list[Entry]

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per two taps; see `records.stored_tables.similarity_table`."""
        return similarity_table(self.run, self.entries)

    @cached_property
    def correlations(self) -> dict[str, pd.DataFrame]:
        """Canonical correlations behind SVCCA and PWCCA; see `records.stored_tables.correlation_tables`."""
        return correlation_tables(self.run, self.entries)

    @property
    def skipped(self) -> list[dict[str, str]]:
        """Networks whose weights could not be had."""
        return list(self.run.facts["skipped"])

    @property
    def counts(self) -> dict[str, int]:
        """Of whole maps: images compared, images left out, batches."""
        return {name: self.entries[0].facts[name] for name in COUNTS if name in self.entries[0].facts}


def similarity(
    networks: "str | Backbone | Features | Sequence[str | Backbone | Features]",
    weights: Sequence[str] = (),
    data: str | Path | Dataset = "digits",
    *,
    seed: int = 0,
    results: str | Path | Record | None = None,
    comparison: Comparison | None = None,
    reading: Reading | None = None,
    network: Network | None = None,
    extraction: Extraction | None = None,
    cache: str | Path | None = None,
    out: str | Path | Record | None = None,
) -> Similarity:
    """Compare all taps of networks, given by name, built, or as features of the same images; recorded in `out`.

    Names are built with every one of `weights`, by default pretrained and scratch. `seed` is that of scratch
    weights, halves, permutations and batches. With SVCCA or PWCCA, `results` of `probe layerwise` set the score of
    every tap beside its correlations. Raises ProbeError for features of other images, and as the measure does.
    """
    comparison, record = comparison or Comparison(), out if isinstance(out, Record) else Record(out)
    if results is not None and comparison.measure not in CORRELATED:
        raise ProbeError(f"scores stand beside canonical correlations: take {' or '.join(CORRELATED)}")
    arms = gather(networks, weights, data, Setup.of(seed, reading, network, extraction, cache))
    if comparison.maps and any(isinstance(arm, Given) for arm in arms.by_name.values()):
        raise ProbeError("whole maps are read from images; features are pooled already")
    job = _Job(arms, comparison, arms.setup)
    run = Run.of(STUDY, job.asked(), job.cells, job.facts())
    record.enter(run)
    entries = complete(record, job.cells, job.work, doing="comparisons")
    if results is not None:
        run = replace(run, facts={**run.facts, "scores": job.scores(results, entries)})
        record.enter(run)
    return Similarity(record, run, entries)


@dataclass(frozen=True)
class _Job:
    """What is compared, and how."""

    arms: Arms
    comparison: Comparison
    setup: Setup

    def asked(self) -> dict[str, Any]:
        """The request, as plain values."""
        settings = decisive(self.comparison, self.setup.reading, self.setup.network, self.setup.extraction)
        return {"arms": list(self.arms.by_name), "data": self.arms.data.name, "seed": self.setup.seed, **settings}

    def facts(self) -> dict[str, Any]:
        """What else a run records."""
        arms = self.arms
        return {"data": arms.data.facts(), "arms": list(arms.by_name), "title": arms.title, "skipped": arms.skipped}

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """Every network with itself and with those after it."""
        return list(combinations_with_replacement(self.arms.by_name, 2))

    @cached_property
    def cells(self) -> list[Cell]:
        """A cell per pair; equal ones where two names stand for the same network."""
        return [self.cell(a, b) for a, b in self.pairs]

    def cell(self, a: str, b: str) -> Cell:
        """The comparison of two networks, or of one with itself."""
        networks = [self.arms.by_name[name].identity for name in ([a] if a == b else [a, b])]
        read = decisive(self.setup.extraction)
        if self.comparison.maps:  # which are neither pooled nor compiled
            read = {"Extraction": {"device": self.setup.extraction.device}}
        asked = {"networks": networks, "data": self.arms.identity, "seed": self.setup.seed}
        words = setting_words(self.setup.reading, self.setup.network, self.setup.extraction, self.comparison)
        return Cell(
            kind="similarity", asked={**asked, **read, **decisive(self.comparison)},
            labels={
                "dataset": self.arms.data.name, "arm": a if a == b else f"{a} and {b}", "setting": words,
                "seed": self.setup.seed,
            },
        )  # fmt: skip

    def work(self, cell: Cell) -> Outcome:
        """Compare the two networks of a cell."""
        a, b = self.pairs[self.cells.index(cell)]
        if not self.comparison.maps:
            return _compare_features(self.arms.features(a), self.arms.features(b), a == b, self)
        found, counts = self.whole_maps
        first, second = (self.arms.by_name[name].net.taps for name in (a, b))
        table = tap_table(first, second, found[a, b])
        return Outcome(rows=[], facts={"measure": "minibatch cka", **counts}, arrays=to_arrays("taps", table))

    @cached_property
    def whole_maps(self) -> tuple[dict[tuple[str, str], Estimate], dict[str, int]]:
        """By pair, of one pass over the images with all networks; and what was seen."""
        return _compare_maps(self.arms, self.comparison, self.setup)

    def scores(self, results: str | Path | Record, entries: Sequence[Entry]) -> dict[str, dict[str, float]]:
        """By network and tap the score of the second of every two whose correlations are known."""
        pairs = zip(self.pairs, entries, strict=True)
        names = dict.fromkeys(b for (_, b), entry in pairs if "cca/tap" in entry.arrays)
        rows = read_results(results) if names else pd.DataFrame()
        arms = {name: self.arms.by_name[name] for name in names}
        return {name: _scores(rows, arm.origin, arm.data.name, results) for name, arm in arms.items()}


def _compare_features(one: Features, other: Features, same: bool, job: _Job) -> Outcome:
    """Pooled features, all images; of two networks with the same taps the canonical correlations behind SVCCA."""
    how, generator = job.comparison, np.random.default_rng(job.setup.seed)
    halves = half_samples(len(one.ids), job.arms.data.groups, how.draws, generator)
    orders = generator.permuted(np.tile(np.arange(len(one.ids)), (how.permutations, 1)), axis=1)
    chosen = {name: getattr(how, name) for name in ("unbiased", "bandwidth", "keep", "k")}
    estimated = estimate(measure(how.measure, **chosen), one, None if same else other, halves, orders)
    arrays = to_arrays("taps", tap_table(list(one), list(other), estimated))
    if not same and how.measure in CORRELATED and list(one) == list(other):
        keep = how.keep if how.measure == "svcca" else 1.0
        arrays |= to_arrays("cca", cca_table(one, other, keep, np.random.default_rng(job.setup.seed)))
    name = f"unbiased {how.measure}" if how.unbiased else how.measure
    return Outcome(rows=[], facts={"measure": name}, arrays=arrays)


def _compare_maps(
    arms: Arms, comparison: Comparison, setup: Setup
) -> tuple[dict[tuple[str, str], Estimate], dict[str, int]]:
    """Whole maps of all networks, in one pass over batches of images in random order, by pair; and what was seen."""
    import torch

    device, seen = pick_device(setup.extraction.device), MinibatchCKA(comparison.permutations, setup.seed)
    nets = {name: copy.deepcopy(arm.net).eval().to(device) for name, arm in arms.by_name.items()}
    order = np.random.default_rng(setup.seed).permutation(len(arms.data)).tolist()
    with torch.inference_mode():
        for batch in _batches(list(nets.values()), arms.data, order, setup.extraction):
            seen.update(_maps(nets, batch, device))
    found, owners = seen.estimate(comparison.draws), [name for name, net in nets.items() for _ in net.taps]
    places = {name: [at for at, owner in enumerate(owners) if owner == name] for name in nets}
    blocks = {(a, b): np.ix_(places[a], places[b]) for a, b in combinations_with_replacement(nets, 2)}
    counts = {name: getattr(seen, name) for name in COUNTS}
    return {
        pair: Estimate(found.value[block], found.low[block], found.high[block], found.null[block])
        for pair, block in blocks.items()
    }, counts


def _batches(
    nets: "Sequence[Backbone]", data: Dataset, order: Sequence[int], extraction: Extraction
) -> Iterator[tuple[Any, ...]]:
    """The same images as each network takes them."""
    from probe.features.walk import read_batches, transform

    same = replace(extraction, batch_size=BATCH)
    prepared = [transform(net.origin.preprocessing) for net in nets]
    yield from zip(*(read_batches(data.images, prepare, same, order) for prepare in prepared), strict=True)


def _maps(nets: "Mapping[str, Backbone]", batch: Sequence[Any], device: str) -> Iterator[tuple[str, Any]]:
    """What every tap gives for a batch."""
    from probe.features.network_reader import moments, normalised

    for (name, net), pixels in zip(nets.items(), batch, strict=True):
        mean, std = moments(net.origin.preprocessing, device)
        for stage, out in net.walk(normalised(pixels.to(device), mean, std)):
            yield f"{name}, {stage.name}", out


def _scores(rows: pd.DataFrame, origin: Mapping[str, Any], dataset: str, results: object) -> dict[str, float]:
    """The test AUROC of linear probes at every tap of a network, of those probed last; the mean over seeds."""
    wanted = {
        "study": LAYERWISE, "method": "linear", "arch": origin["arch"], "weights": origin["weights"],
        "metric": "auroc", "class": "macro", "split": "test", "dataset": dataset,
    }  # fmt: skip
    for column, value in wanted.items():
        rows = rows[rows[column].eq(value)]
    if rows.empty:
        raise ProbeError(f"'{results}' has no test AUROC of {origin['arch']}, {origin['weights']}, on {dataset}")
    settings = rows["setting"].fillna("")
    means = rows[settings.eq(settings.iloc[-1])].groupby("tap")["value"].mean()
    return {str(tap): float(value) for tap, value in means.items()}
