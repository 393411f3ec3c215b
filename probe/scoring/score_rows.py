"""Scores as rows: one number each, with all that is needed to know what it is a number of."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.taps import Tap
from probe.features import Features
from probe.metrics import MACRO, Scores
from probe.records.metric_facts import find_metric
from probe.records.result_rows import make_row
from probe.scoring.resampling import Weighing
from probe.scoring.statistics import gap_bounds

Rows = list[dict[str, Any]]


def gap_of(metric: str) -> str:
    """Name of the loss against the best tap on val; its upper bound decides what is sufficient."""
    return f"{metric}_gap"


def describe(features: Features, tap: Tap | None, n_train: int, study: str = "layerwise") -> dict[str, Any]:
    """The columns that every row of a tap has, or of no tap."""
    return {
        "study": study,
        "dataset": features.data.name,
        "arch": features.origin["arch"],
        "weights": features.origin["weights"],
        "tap": tap and tap.name,
        "depth": tap and tap.depth,
        "task": features.data.task.name,
        "strategy": "frozen",
        "n_train": n_train,
    }


def score_rows(scores: Scores, weighing: Weighing, known: Mapping[str, Any]) -> Rows:
    """A row per metric and class, with its interval."""
    lines = np.stack(list(scores.values()))
    return [
        make_row(**known, metric=metric, **{"class": name}, value=line[0], ci_low=low, ci_high=high)
        for (metric, name), line, (low, high) in zip(scores, lines, weighing.interval(lines), strict=True)
    ]


def gap_rows(
    features: Features, draws: NDArray[np.float64], metric: str, known: Mapping[str, Any], n_train: int, study: str
) -> Rows:
    """Per tap the loss against the best on val and its upper bound; `draws` are (taps, 1 + draws) of the metric."""
    better = find_metric(metric).sign * draws
    gaps, bounds = better[:, 0].max() - better[:, 0], gap_bounds(better[:, 1:])
    return [
        make_row(
            **describe(features, tap, n_train, study), **known, split="val", metric=gap_of(metric),
            **{"class": MACRO}, value=gap, ci_high=bound,
        )
        for tap, gap, bound in zip(features.taps, gaps, bounds, strict=True)
    ]  # fmt: skip


def cost_rows(features: Features, n_train: int) -> Rows:
    """Parameters and MACs up to each tap, where they are known."""
    return [
        make_row(**describe(features, tap, n_train), metric=name, value=cost)
        for tap in features.taps
        for name, cost in tap.costs().items()
    ]
