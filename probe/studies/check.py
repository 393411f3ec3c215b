"""Do the probes say where to cut? Networks cut at several taps and trained, set beside the probes of these taps."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.backbones import Networks
from probe.base.errors import ProbeError
from probe.base.lookup import find_index, unknown
from probe.data import Dataset
from probe.metrics import MACRO
from probe.records.cell import Cell, Outcome
from probe.records.metric_facts import find_metric
from probe.records.record import Entry, Record, Run
from probe.records.result_rows import TRAINED, frame, make_row, records
from probe.scoring.differences import mean_draws, strategy_differences
from probe.scoring.probe_verdicts import Verdict, judge
from probe.settings import Extraction, Head, Network, ProbeGrid, Reading, Training, Tuning
from probe.settings.training import SEARCHES
from probe.settings.training import STRATEGIES as KNOWN
from probe.studies.arms import DEFAULT_WEIGHTS, Setup
from probe.studies.cut_search import Search, search_cut
from probe.studies.engine import complete, is_done
from probe.studies.identity import in_words
from probe.studies.layerwise import Study, run_layerwise
from probe.studies.trainer import Trainer, trained

if TYPE_CHECKING:
    from probe.backbones import Backbone

STUDY = "check"
STRATEGIES = ("lp", "ftl", "lp-ft")
SPREAD = 6  # taps that are trained by default, besides the recommended ones
Known = dict[str, Any]
Found = tuple[str, str, Search]  # weights, strategy, what was found


@dataclass(frozen=True)
class Check:
    """Probes, trained networks, and for every set of weights and strategy what following the probes comes to.

    `cells` are one trained network each, as `studies.trainer.trained` gives them; `seconds` those of probing, where
    recorded probes and cached features take none, and of training; `searches` what a search among them found.
    """

    study: Study
    taps: list[str]
    cells: list[Known]
    entries: list[Entry] = field(repr=False)
    verdicts: list[tuple[str, str, Verdict]]
    seconds: dict[str, float]
    searches: list[Found] = field(default_factory=list)

    @property
    def record(self) -> Record:
        """Where all of it is kept."""
        return self.study.record

    @property
    def rows(self) -> pd.DataFrame:
        """The rows of the run: of probes, of trained networks, and of their comparison."""
        return frame(row for entry in self.entries for row in entry.rows)


def check(
    arch: "str | Backbone",
    weights: Sequence[str] = (),
    data: str | Path | Dataset = "digits",
    *,
    taps: Sequence[str | int] = (),
    strategies: Sequence[str] = STRATEGIES,
    seeds: Sequence[int] = (0, 1),
    search: str = "none",
    out: str | Path | None = "results",
    reading: Reading | None = None,
    network: Network | None = None,
    training: Training | None = None,
    tuning: Tuning | None = None,
    cache: str | Path | None = None,
) -> Check:
    """Probe every tap of a network, given by name or built, train it cut at some of them, and compare.

    By default about six taps spread over the depth and those the probes recommend are trained, with every strategy
    and seed; scratch weights with `ftl` alone, for there is nothing in them to keep. With `search` "two-stage" it is
    the taps that `search_cut` asks for, for each set of weights and strategy. Every trained network is recorded in
    `out`, so that a run that was stopped goes on. Raises ProbeError for fewer than three taps, and as
    `run_layerwise` and `finetune` do.
    """
    _check_request(taps, strategies, seeds, search)
    network, reading = network or Network(), reading or Reading()
    training, tuning = training or Training(), tuning or Tuning()
    setup = Setup(
        seed=seeds[0], reading=reading, network=network, cache=Path(cache) if cache else None,
        extraction=Extraction(device=training.device, num_workers=training.num_workers), networks=Networks(len(seeds)),
    )  # fmt: skip
    table = setup.load(data)
    _ways(weights or DEFAULT_WEIGHTS if isinstance(arch, str) else [arch.origin.weights], strategies)
    record, start = Record(out), time.perf_counter()
    study = run_layerwise(
        [arch], weights, table, seeds=seeds, reading=reading, network=network, cache=cache, out=record, entered=False,
        networks=setup.networks,
        extraction=setup.extraction,
        grid=ProbeGrid(metric=training.metric, draws=training.draws),
    )  # fmt: skip
    probing = time.perf_counter() - start
    trainer = Trainer(arch, table, setup, Head(), training, tuning, record)
    asked = {"arch": in_words(arch), "weights": list(weights), "taps": list(taps), "strategies": list(strategies),
             "search": search, "seeds": list(seeds), **trainer.asked()}  # fmt: skip
    plan = _Plan(study, trainer, _ways([arm.weights for arm in study.arms], strategies), seeds, asked)
    searches, entries = plan.everywhere(_pick_taps(study, taps)) if search == "none" else plan.search()
    cells = list(map(trained, entries))
    comparison = _compare(record, study, entries, cells, training.metric)
    plan.enter([*entries, comparison])
    every = [*(arm.entry for arm in study.arms), *entries, comparison]
    trained_taps = {cell["tap"] for cell in cells}
    names = [tap.name for tap in study.arms[0].taps if tap.name in trained_taps]
    seconds = {"probing": probing, "training": sum(cell["seconds"] for cell in cells)}
    return Check(study, names, cells, every, _verdicts(study, cells, training.metric), seconds, searches)


def _check_request(taps: Sequence[str | int], strategies: Sequence[str], seeds: Sequence[int], search: str) -> None:
    if len(seeds) < 1:
        raise ProbeError("no seeds were given; one is the least that can be trained")
    for name in strategies:
        if name not in KNOWN:
            raise unknown("strategy", name, KNOWN)
    if search not in SEARCHES:
        raise unknown("search", search, SEARCHES)
    if taps and search != "none":
        raise ProbeError(f"a {search} search finds its taps itself; leave out {', '.join(map(str, taps))}")


@dataclass(frozen=True)
class _Plan:
    """Which networks are trained: at given taps, or in waves where a search asks for them."""

    study: Study
    trainer: Trainer
    ways: Sequence[tuple[str, str]]
    seeds: Sequence[int]
    asked: Mapping[str, Any]

    def everywhere(self, taps: Sequence[str]) -> tuple[list[Found], list[Entry]]:
        """Every set of weights and strategy at every tap, from every seed."""
        sources = dict.fromkeys(weights for weights, _ in self.ways)
        jobs = product(sources, taps, self.ways, self.seeds)
        cells = [
            self.trainer.cell(weights, strategy, tap, seed)
            for source, tap, (weights, strategy), seed in jobs
            if weights == source
        ]
        self.enter(cells)
        return [], complete(self.trainer.record, cells, self.trainer.work, doing="training")

    def search(self) -> tuple[list[Found], list[Entry]]:
        """A search for every set of weights and strategy, and all that was trained for it."""
        sign = find_metric(self.trainer.training.metric).sign
        searches: list[Found] = []
        cells: list[Cell] = []
        self.enter([])
        for way in self.ways:
            train, recall = partial(self._train, way), partial(self._recall, way)
            found, used = search_cut(self.study.arms[0].taps, self.seeds, train, recall, sign)
            searches.append((*way, found))
            cells += [self.trainer.cell(*way, each["tap"], each["seed"]) for each in used]
            self.enter(cells)
        return searches, complete(self.trainer.record, cells, self.trainer.work, doing="training")

    def _train(self, way: tuple[str, str], tap: str, seed: int) -> Known:
        cell = self.trainer.cell(*way, tap, seed)
        return trained(complete(self.trainer.record, [cell], self.trainer.work, doing="training")[0])

    def _recall(self, way: tuple[str, str], tap: str, seed: int) -> Known | None:
        cell = self.trainer.cell(*way, tap, seed)
        entry = self.trainer.record.entry(cell.digest) if is_done(self.trainer.record, cell) else None
        return None if entry is None else trained(entry.labelled(cell.labels))

    def enter(self, cells: Sequence[Cell | Entry]) -> None:
        """Note the run in the record: the probes, and what is trained besides."""
        probes = [arm.entry for arm in self.study.arms]
        self.trainer.record.enter(Run.of(STUDY, self.asked, [*probes, *cells], self.study.facts))


def _compare(record: Record, study: Study, entries: Sequence[Entry], cells: Sequence[Known], metric: str) -> Entry:
    """The comparison of probes with training as a cell of its own: rows of verdicts, and differences of strategies."""
    parts = sorted([entry.digest, entry.labels["weights"]] for entry in [*(arm.entry for arm in study.arms), *entries])
    labels = {"dataset": study.data.name, "arch": study.arms[0].arch}
    cell = Cell(kind="comparison", asked={"cells": parts, "metric": metric}, labels=labels)

    def work(_: Cell) -> Outcome:
        rows = _verdict_rows(study, _verdicts(study, cells, metric), metric)
        differences = difference_table(study, cells)
        return Outcome(rows=rows, facts={"differences": records(differences)})

    return complete(record, [cell], work, doing="comparison")[0]


def _ways(weights: Sequence[str], strategies: Sequence[str]) -> list[tuple[str, str]]:
    """Weights and strategies that go together. Raises ProbeError when none do."""
    pairs = product(weights, dict.fromkeys(strategies))
    ways = [(name, strategy) for name, strategy in pairs if name != "scratch" or strategy == "ftl"]
    if not ways:
        raise ProbeError(
            f"scratch weights are trained with ftl alone, so nothing is left to train with {', '.join(strategies)}; "
            "add the strategy ftl, or other weights"
        )
    return ways


def write_check(check: Check) -> list[str]:
    """Write `results.jsonl`, `check.csv`, a line per trained network, and `strategies.csv`, their differences."""
    tables = {"check.csv": cell_table(check), "strategies.csv": difference_table(check.study, check.cells)}
    written = check.record.export({name: table.to_csv(index=False) for name, table in tables.items()})
    return [*check.record.rebuild(), *written]


def cell_table(check: Check) -> pd.DataFrame:
    """One line per trained network: what it is, its scores on val and test, seconds and parameters."""
    names = ("weights", "tap", "strategy", "seed", "val", "seconds", "params")
    return pd.DataFrame([{name: cell[name] for name in names} | {"test": cell["draws"][0]} for cell in check.cells])


def difference_table(study: Study, cells: Sequence[Known]) -> pd.DataFrame:
    """Ways of training against full fine-tuning, at every cut; no line where there is only one way."""
    arm = study.arms[0]
    table = strategy_differences(cells, study.grid.metric)
    if not table.empty:
        table["depth"] = table["tap"].map({tap.name: tap.depth for tap in arm.taps})
    return table.assign(dataset=study.data.name, arch=arm.arch)


def _pick_taps(study: Study, wanted: Sequence[str | int]) -> list[str]:
    """The taps to train at, bottom to top: those asked for, or some spread over the depth and the recommended."""
    every = [tap.name for tap in study.arms[0].taps]
    if wanted:
        chosen = {find_index("tap", tap, every) for tap in wanted}
    else:
        count = min(SPREAD, len(every))
        chosen = {round(i * (len(every) - 1) / max(1, count - 1)) for i in range(count)}
        for arm in study.summaries():
            chosen.add(every.index((arm["earliest_sufficient"] or arm["best"])["tap"]))
    if len(chosen) < 3:
        raise ProbeError(f"{len(chosen)} taps say nothing of an order; take at least 3 of {', '.join(every)}")
    return [every[i] for i in sorted(chosen)]


def _verdicts(study: Study, cells: Sequence[Known], metric: str) -> list[tuple[str, str, Verdict]]:
    sign = find_metric(metric).sign
    found = []
    for arm in study.arms:
        every = [tap.name for tap in arm.taps]
        of_arm = [cell for cell in cells if cell["weights"] == arm.weights]
        for strategy in dict.fromkeys(cell["strategy"] for cell in of_arm):
            some = [cell for cell in of_arm if cell["strategy"] == strategy]
            taps = list(dict.fromkeys(cell["tap"] for cell in some))
            probe = sign * arm.draws("linear", "val")[[every.index(tap) for tap in taps]]
            val, test = _by_tap(some, taps)
            found.append((arm.weights, strategy, judge(taps, probe, sign * val, sign * test)))
    return found


def _by_tap(cells: Sequence[Known], taps: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores on val (t,), and on test with their draws (t, 1 + b); means over seeds."""
    groups = [[cell for cell in cells if cell["tap"] == tap] for tap in taps]
    val = np.array([np.mean(np.array([cell["val"] for cell in group], float)) for group in groups])
    test = np.array([mean_draws(group) for group in groups])
    return val, test


def _verdict_rows(study: Study, verdicts: Sequence[tuple[str, str, Verdict]], metric: str) -> list[Known]:
    rows = []
    for weights, strategy, verdict in verdicts:
        labels = {
            "study": STUDY, "dataset": study.data.name, "arch": study.arms[0].arch, "weights": weights,
            "task": study.data.task.name, "method": TRAINED, "strategy": strategy, "class": MACRO,
        }  # fmt: skip
        for name in ("spearman", "kendall", "regret", "oracle_regret"):
            estimate = getattr(verdict, name)
            tap = verdict.followed if "regret" in name else None
            numbers = {"value": estimate.value, "ci_low": estimate.low, "ci_high": estimate.high}
            rows.append(make_row(**labels, tap=tap, split="test", metric=f"{metric}_{name}", **numbers))
    return rows
