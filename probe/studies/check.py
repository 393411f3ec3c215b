"""Do the probes say where to cut? Networks cut at several taps and trained, set beside the probes of these taps."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from probe.backbones import Networks
from probe.base.errors import ProbeError
from probe.base.lookup import find_index, unknown
from probe.data import Dataset, dataset
from probe.metrics import LOWER_IS_BETTER, MACRO
from probe.records.rows import append_rows, frame, make_row
from probe.scoring.agreement import Verdict, judge
from probe.scoring.differences import mean_draws, strategy_differences
from probe.settings import Extraction, Network, ProbeGrid, Reading, Training, Tuning
from probe.settings.training import SEARCHES
from probe.settings.training import STRATEGIES as KNOWN
from probe.studies.cells import Trainer
from probe.studies.cut_search import Search, search_cut
from probe.studies.layerwise import DEFAULT_WEIGHTS, Study, run_layerwise

STUDY = "check"
STRATEGIES = ("lp", "ftl", "lp-ft")
SPREAD = 6  # taps that are trained by default, besides the recommended ones
Known = dict[str, Any]
Found = tuple[str, str, Search]  # weights, strategy, what was found


@dataclass(frozen=True)
class Check:
    """Probes, trained networks, and for every set of weights and strategy what following the probes comes to.

    `cells` are one trained network each; `seconds` those of probing, where features from the cache take none, and of
    training; `searches` what a search among them found.
    """

    study: Study
    taps: list[str]
    cells: list[Known]
    rows: pd.DataFrame = field(repr=False)
    verdicts: list[tuple[str, str, Verdict]]
    seconds: dict[str, float]
    searches: list[Found] = field(default_factory=list)


def run_check(
    arch: str,
    weights: Sequence[str] = (),
    data: str | Path | Dataset = "digits",
    *,
    taps: Sequence[str | int] = (),
    strategies: Sequence[str] = STRATEGIES,
    seeds: Sequence[int] = (0, 1),
    search: str = "none",
    out: str | Path = "results",
    reading: Reading | None = None,
    network: Network | None = None,
    training: Training | None = None,
    tuning: Tuning | None = None,
    cache: str | Path | None = None,
) -> Check:
    """Probe every tap of a network, train it cut at some of them, and compare.

    By default about six taps spread over the depth and those the probes recommend are trained, with every strategy
    and seed; scratch weights with `ftl` alone, for there is nothing in them to keep. With `search` "two-stage" it is
    the taps that `search_cut` asks for, for each set of weights and strategy. Every trained network is kept in
    `out`/cells, so that a run that was stopped goes on. Raises ProbeError for fewer than three taps, and as
    `run_layerwise` and `finetune` do.
    """
    network, training, tuning = network or Network(), training or Training(), tuning or Tuning()
    if len(seeds) < 1:
        raise ProbeError("no seeds were given; one is the least that can be trained")
    for name in strategies:
        if name not in KNOWN:
            raise unknown("strategy", name, KNOWN)
    if search not in SEARCHES:
        raise unknown("search", search, SEARCHES)
    if taps and search != "none":
        raise ProbeError(f"a {search} search finds its taps itself; leave out {', '.join(map(str, taps))}")
    table = data
    if not isinstance(table, Dataset):
        table = dataset(table, seed=seeds[0], cache=cache, **asdict(reading or Reading()))
    grid = ProbeGrid(metric=training.metric, draws=training.draws)
    extraction = Extraction(device=training.device, num_workers=training.num_workers)
    _ways(weights or DEFAULT_WEIGHTS, strategies)
    start = time.perf_counter()
    study = run_layerwise(
        [arch], weights, table, seeds=seeds, network=network, extraction=extraction, grid=grid, cache=cache
    )
    seconds = {"probing": time.perf_counter() - start}
    trainer = Trainer(arch, table, network, training, tuning, Path(out) / "cells", cache, Networks(len(seeds)))
    searches: list[Found] = []
    ways = _ways([arm.weights for arm in study.arms], strategies)
    if search == "none":
        names = _pick_taps(study, taps)
        places = product([arm.weights for arm in study.arms], names, ways, seeds)
        jobs = [(*way, tap, seed) for source, tap, way, seed in places if way[0] == source]
        cells = [trainer.cell(*job) for job in tqdm(jobs, unit="network", disable=None, desc="training")]
    else:
        searches, cells = _search(study, trainer, ways, seeds, training.metric)
        names = [tap.name for tap in study.arms[0].taps if any(cell["tap"] == tap.name for cell in cells)]
    seconds["training"] = sum(cell["seconds"] for cell in cells)
    verdicts = _verdicts(study, cells, training.metric)
    rows = pd.concat([study.rows, *(frame(cell["rows"]) for cell in cells)], ignore_index=True)
    rows = frame([*rows.to_dict(orient="records"), *_verdict_rows(study, arch, verdicts, training.metric)])
    return Check(study, names, cells, rows, verdicts, seconds, searches)


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


def _search(
    study: Study, trainer: Trainer, ways: Sequence[tuple[str, str]], seeds: Sequence[int], metric: str
) -> tuple[list[Found], list[Known]]:
    """A search for every set of weights and strategy, and all that was trained for it."""
    sign = -1 if metric in LOWER_IS_BETTER else 1
    searches: list[Found] = []
    cells: list[Known] = []
    for way in ways:
        train, recall = partial(trainer.cell, *way), partial(trainer.recall, *way)
        found, mine = search_cut(study.arms[0].taps, seeds, train, recall, sign)
        searches.append((*way, found))
        cells += mine
    return searches, cells


def write_check(check: Check, out: Path) -> list[str]:
    """Write `results.jsonl` (rows, appended), `check.csv`, a line per trained network, and `strategies.csv`, their
    differences; returns the paths."""
    out.mkdir(parents=True, exist_ok=True)
    append_rows(out / "results.jsonl", check.rows.to_dict(orient="records"))
    cell_table(check).to_csv(out / "check.csv", index=False)
    difference_table(check).to_csv(out / "strategies.csv", index=False)
    return [str(out / name) for name in ("results.jsonl", "check.csv", "strategies.csv")]


def cell_table(check: Check) -> pd.DataFrame:
    """One line per trained network: what it is, its scores on val and test, seconds and parameters."""
    names = ("weights", "tap", "strategy", "seed", "val", "seconds", "params")
    return pd.DataFrame([{name: cell[name] for name in names} | {"test": cell["draws"][0]} for cell in check.cells])


def difference_table(check: Check) -> pd.DataFrame:
    """Ways of training against full fine-tuning, at every cut; no line where there is only one way."""
    arm = check.study.arms[0]
    table = strategy_differences(check.cells, check.study.grid.metric)
    if not table.empty:
        table["depth"] = table["tap"].map({tap.name: tap.depth for tap in arm.taps})
    return table.assign(dataset=check.study.data.name, arch=arm.arch)


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
    sign = -1 if metric in LOWER_IS_BETTER else 1
    found = []
    for arm, draws in zip(study.arms, study.draws, strict=True):
        every = [tap.name for tap in arm.taps]
        mine = [cell for cell in cells if cell["weights"] == arm.weights]
        for strategy in dict.fromkeys(cell["strategy"] for cell in mine):
            some = [cell for cell in mine if cell["strategy"] == strategy]
            taps = list(dict.fromkeys(cell["tap"] for cell in some))
            probe = sign * draws["linear", "val"][[every.index(tap) for tap in taps]]
            val, test = _by_tap(some, taps)
            found.append((arm.weights, strategy, judge(taps, probe, sign * val, sign * test)))
    return found


def _by_tap(cells: Sequence[Known], taps: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores on val (t,), and on test with their draws (t, 1 + b); means over seeds."""
    groups = [[cell for cell in cells if cell["tap"] == tap] for tap in taps]
    val = np.array([np.mean(np.array([cell["val"] for cell in group], float)) for group in groups])
    test = np.array([mean_draws(group) for group in groups])
    return val, test


def _verdict_rows(study: Study, arch: str, verdicts: Sequence[tuple[str, str, Verdict]], metric: str) -> list[Known]:
    rows = []
    for weights, strategy, verdict in verdicts:
        known = {
            "study": STUDY, "dataset": study.data.name, "arch": arch, "weights": weights, "task": study.data.task,
            "method": "trained", "strategy": strategy, "class": MACRO,
        }  # fmt: skip
        for name in ("spearman", "kendall", "regret", "oracle_regret"):
            found = getattr(verdict, name)
            tap = verdict.followed if "regret" in name else None
            numbers = {"value": found.value, "ci_low": found.low, "ci_high": found.high}
            rows.append(make_row(**known, tap=tap, split="test", metric=f"{metric}_{name}", **numbers))
    return rows
