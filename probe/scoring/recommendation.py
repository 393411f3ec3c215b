"""Where to cut, as the rows say it: chosen on validation, reported on test, means over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from probe.backbones.taps import Tap
from probe.metrics import MACRO
from probe.records.metric_facts import find_metric
from probe.records.result_rows import TRAINING_SIZE
from probe.scoring.score_rows import gap_of
from probe.scoring.statistics import earliest_sufficient
from probe.settings import ProbeGrid


def recommend(rows: pd.DataFrame, taps: Sequence[Tap], grid: ProbeGrid) -> dict[str, Any]:
    """From the rows of one arm and method: its taps, the best on validation, the earliest sufficient, the oracle.

    The oracle is the best on test, None when test defines no score; the earliest sufficient is None when no tap can be
    shown to lose less than `grid.delta`.
    """
    metric = grid.metric
    scores = {split: _by_tap(rows, metric, split, taps) for split in ("train", "val", "test")}
    bounds = rows[rows["metric"] == gap_of(metric)].set_index("tap")["ci_high"].reindex(scores["val"].index)
    enough = earliest_sufficient(bounds.to_list(), grid.delta)
    found = [
        {**tap.to_dict(), **{split: line[tap.name] for split, line in scores.items()}, "gap_high": bounds[tap.name]}
        for tap in taps
    ]
    picks = {tap["tap"]: _with_savings(tap, found[-1]) for tap in found}
    test = scores["test"]
    return {
        "taps": found,
        "best": picks[_best(scores["val"], metric)],
        "earliest_sufficient": None if enough is None else picks[taps[enough].name],
        "oracle": picks[_best(test, metric)] if test.notna().any() else None,
        "smallest_gap_high": float(bounds.min()),
    }


def recommend_by_size(rows: pd.DataFrame, taps: Sequence[Tap], grid: ProbeGrid) -> list[dict[str, Any]]:
    """From the rows of one arm and method: per training size the best on validation, and the earliest sufficient."""
    sized = rows[rows["study"] == TRAINING_SIZE]
    found = []
    for size in sorted(sized["n_train"].unique().tolist()):
        mine = sized[sized["n_train"] == size]
        means = mine[mine["seed"].isna()]  # over subsets
        chosen = recommend(means, taps, grid)
        picks = {name: chosen[name] and chosen[name]["tap"] for name in ("best", "earliest_sufficient", "oracle")}
        test = means[(means["split"] == "test") & (means["tap"] == picks["best"])].iloc[0]
        subsets = int(mine["seed"].nunique())
        scored = {"val": chosen["best"]["val"], "test": test["value"], "low": test["ci_low"], "high": test["ci_high"]}
        found.append({"n_train": int(size), "subsets": subsets, **picks, **scored})
    return found


def _best(scores: "pd.Series[float]", metric: str) -> str:
    return str((find_metric(metric).sign * scores).idxmax())


def _by_tap(rows: pd.DataFrame, metric: str, split: str, taps: Sequence[Tap]) -> "pd.Series[float]":
    chosen = rows[(rows["metric"] == metric) & (rows["split"] == split) & (rows["class"] == MACRO)]
    return chosen.groupby("tap")["value"].mean().reindex([tap.name for tap in taps])


def _with_savings(tap: Mapping[str, Any], whole: Mapping[str, Any]) -> dict[str, Any]:
    """What cutting at a tap saves of what lies below the head; features made elsewhere do not say."""
    costs = [cost for cost in ("params", "macs") if cost in tap]
    kept = {key: tap[key] for key in ("tap", "index", "depth", "val", "test", "gap_high", *costs)}
    return kept | {f"saved_{cost}": 1 - tap[cost] / whole[cost] for cost in costs}
