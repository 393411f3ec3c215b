"""Probes over depth: at every tap the strength is chosen on validation, refitted, and scored once on test."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from probe.cache import Features
from probe.metrics import MACRO, Scores, ones, score, unscored
from probe.names import unknown
from probe.probes.fitting import SELECTS, Fitted, first_of_equal, fit_taps
from probe.results import frame, make_row
from probe.runtime import log
from probe.settings import ProbeGrid
from probe.shapes import RowWeights
from probe.statistics import bootstrap_weights, gap_bounds, percentile_interval

GAP = "auroc_gap"  # best tap minus this one on validation; its upper bound decides what is sufficient
COUNTED = "classes_scored"  # how many classes the averages of a split are over
PROBES = ("linear",)


def layerwise(
    features: Features | Mapping[int, Features],
    probes: Sequence[str] = PROBES,
    grid: ProbeGrid | None = None,
    *,
    study: str = "layerwise",
    device: str = "cpu",
) -> pd.DataFrame:
    """Probe every tap; a table of rows, one number each.

    `features` of one network, or of several seeds of it by seed. At each tap the strength is
    chosen on val, the probe refitted to train and val together, and scored once on test;
    intervals are 95 % percentile bootstrap, by group when the data name one. The val scores are
    those of the probe fitted to train alone. `device` is where the probes are solved: cpu or cuda.
    """
    for name in probes:
        if name not in PROBES:
            raise unknown("probe", name, PROBES)
    grid = grid or ProbeGrid()
    arms = {int(features.origin["seed"]): features} if isinstance(features, Features) else dict(features)
    rows: list[dict[str, Any]] = []
    draws = []
    for seed, arm in arms.items():
        found, drawn = _one_seed(arm, seed, grid, study, device)
        rows += found
        draws.append(drawn)
    first = next(iter(arms.values()))
    return frame(rows + _gap_rows(first, np.mean(draws, axis=0), study))


def _one_seed(
    features: Features, seed: int, grid: ProbeGrid, study: str, device: str
) -> tuple[list[dict[str, Any]], NDArray[np.float64]]:
    """Rows of one network, and its bootstrap draws on validation, (taps, 1 + draws); the first is the plain score."""
    weights = {split: _weights(features, split, grid) for split in ("train", "val", "test")}
    scored = {split: _scored_classes(features, split) for split in weights}
    fitted, first = fit_taps(features, grid, device), first_of_equal(features)
    scores: dict[str, dict[str, Scores]] = {}
    rows: list[dict[str, Any]] = []
    for entry in tqdm(features.taps, unit="tap", disable=None, desc="scores", leave=False):
        tap = entry["tap"]
        same = scores.get(first[tap])
        scores[tap] = same or _scores(features, tap, fitted[tap], weights)
        known = _known(features, entry, study) | {"seed": seed, "method": "linear"}
        rows += [row for split in weights for row in _score_rows(scores[tap][split], known | {"split": split})]
        for split, count in scored.items():
            rows.append(make_row(**known, split=split, metric=COUNTED, **{"class": MACRO}, value=count))
        rows.append(make_row(**known, split="val", metric="chosen_c", value=fitted[tap].strength))
        for split, converged in fitted[tap].converged.items():
            rows.append(make_row(**known, split=split, metric="converged", value=float(converged)))
            if not converged:
                log.warning("the probe of '%s' that scores %s did not converge; its scores may be off", tap, split)
    return rows, np.array([scores[tap]["val"][SELECTS, MACRO] for tap in features])


def _scored_classes(features: Features, split: str) -> int:
    """How many classes have both positive and negative images in a split; the others are named in a warning."""
    data = features.data
    lacking = unscored(data.task, data.labels[data.splits == split], data.classes)
    left = len(data.classes) - len(lacking)
    if lacking:
        named = ", ".join(f"{name} (no {kind} image)" for name, kind in lacking.items())
        log.warning(
            "%s of %s: averages are over %d of %d classes, without %s", split, data.name, left, len(data.classes), named
        )
    return left


def _weights(features: Features, split: str, grid: ProbeGrid) -> RowWeights:
    """The plain weighting and, but for train, the bootstrap draws.

    They are the same for every tap, arm and seed: a mean over seeds must not average away the luck of
    the images. When splits are drawn, all images are resampled and the split's share of them used, so
    that an image is drawn alike in every split it falls into.
    """
    rows = features.splits == split
    plain = ones(int(rows.sum()))
    if split == "train":
        return plain
    pool = np.ones_like(rows) if features.data.drawn else rows
    groups = None if features.groups is None else features.groups[pool]
    generator = np.random.default_rng(len(split))
    draws = bootstrap_weights(int(pool.sum()), groups, grid.draws, generator, rows[pool])
    return np.vstack([plain, draws])


def _scores(features: Features, tap: str, fitted: Fitted, weights: Mapping[str, RowWeights]) -> dict[str, Scores]:
    """Scores by split."""
    data, found = features.data, {}
    for split, drawn in weights.items():
        rows = np.flatnonzero(data.splits == split)
        predicted = fitted.probabilities(split, features[tap][rows])
        found[split] = score(data.task, data.labels[rows], predicted, drawn, data.classes)
    return found


def _known(features: Features, tap: Mapping[str, Any], study: str) -> dict[str, Any]:
    return {
        "study": study,
        "dataset": features.data.name,
        "arch": features.origin["arch"],
        "weights": features.origin["weights"],
        "tap": tap["tap"],
        "depth": tap["depth"],
        "task": features.data.task,
        "strategy": "frozen",
        "n_train": int((features.splits == "train").sum()),
        "request": features.request,
    }


def _score_rows(scores: Scores, known: Mapping[str, Any]) -> list[dict[str, Any]]:
    lines = np.stack(list(scores.values()))
    intervals = percentile_interval(lines[:, 1:]) if lines.shape[1] > 1 else np.full((len(lines), 2), np.nan)
    return [
        make_row(**known, metric=metric, **{"class": name}, value=line[0], ci_low=low, ci_high=high)
        for (metric, name), line, (low, high) in zip(scores, lines, intervals, strict=True)
    ]


def _gap_rows(features: Features, draws: NDArray[np.float64], study: str) -> list[dict[str, Any]]:
    """Per tap: the loss against the best on validation and its upper bound (over all seeds), params and macs."""
    gaps, bounds = draws[:, 0].max() - draws[:, 0], gap_bounds(draws[:, 1:])
    rows = []
    for tap, gap, bound in zip(features.taps, gaps, bounds, strict=True):
        known = _known(features, tap, study)
        rows.append(
            make_row(**known, method="linear", split="val", metric=GAP, **{"class": MACRO}, value=gap, ci_high=bound)
        )
        rows += [make_row(**known, metric=cost, value=tap[cost]) for cost in ("params", "macs")]
    return rows
