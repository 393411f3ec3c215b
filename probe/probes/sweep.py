"""Probes over depth: at every tap the strength is chosen on validation, refitted, and scored once on test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from probe.cache import Features
from probe.errors import ProbeError
from probe.metrics import MACRO, Scores, ones, score, unscored
from probe.names import unknown
from probe.probes.linear import Path, fit_path
from probe.results import frame, make_row
from probe.runtime import log
from probe.settings import ProbeGrid
from probe.shapes import Features2d, Probabilities, RowWeights
from probe.statistics import bootstrap_weights, gap_bounds, percentile_interval

SELECTS = "auroc"  # the metric on which a strength and a tap are chosen
GAP = "auroc_gap"  # best tap minus this one on validation; its upper bound decides what is sufficient
COUNTED = "classes_scored"  # how many classes the averages of a split are over
PROBES = ("linear",)

Rows = tuple[NDArray[np.floating], NDArray[np.int64]]  # features (n, d) and labels of a split


@dataclass(frozen=True)
class Chosen:
    """The strength chosen on validation, and the probe that was fitted to the training rows with it."""

    strength: float
    path: Path
    index: int

    @property
    def converged(self) -> bool:
        """Whether the solver reached its tolerance at this strength."""
        return bool(self.path.converged[self.index])

    def probabilities(self, features: Features2d) -> Probabilities:
        """Of the probe fitted to the training rows alone."""
        return self.path.probabilities(features, self.index)


def choose(
    train: Rows,
    val: Rows,
    task: str,
    classes: tuple[str, ...],
    grid: ProbeGrid,
) -> Chosen:
    """Fit every strength to `train` and take the best on `val`; of equals the strongest penalty.

    Raises ProbeError when no class of `val` has both positive and negative rows.
    """
    strengths = tuple(sorted(grid.c_grid))
    path = fit_path(*train, task, len(classes), strengths)
    plain = ones(len(val[1]))
    scores = [
        score(task, val[1], path.probabilities(val[0], s), plain, classes, metrics=[SELECTS])[SELECTS, MACRO][0]
        for s in range(len(strengths))
    ]
    if np.isnan(scores).any():
        raise ProbeError(
            "no class of the validation split has both positive and negative images; nothing can be chosen"
        )
    best = int(np.argmax(scores))
    return Chosen(strengths[best], path, best)


def layerwise(
    features: Features | Mapping[int, Features],
    probes: Sequence[str] = PROBES,
    grid: ProbeGrid | None = None,
    *,
    study: str = "layerwise",
) -> pd.DataFrame:
    """Probe every tap; a table of rows, one number each.

    `features` of one network, or of several seeds of it by seed. At each tap the strength is
    chosen on val, the probe refitted to train and val together, and scored once on test;
    intervals are 95 % percentile bootstrap, by group when the data name one. The val scores are
    those of the probe fitted to train alone.
    """
    for name in probes:
        if name not in PROBES:
            raise unknown("probe", name, PROBES)
    grid = grid or ProbeGrid()
    arms = {int(features.origin["seed"]): features} if isinstance(features, Features) else dict(features)
    rows: list[dict[str, Any]] = []
    draws = []
    for seed, arm in arms.items():
        found, drawn = _one_seed(arm, seed, grid, study)
        rows += found
        draws.append(drawn)
    first = next(iter(arms.values()))
    return frame(rows + _gap_rows(first, np.mean(draws, axis=0), study))


def _one_seed(
    features: Features, seed: int, grid: ProbeGrid, study: str
) -> tuple[list[dict[str, Any]], NDArray[np.float64]]:
    """Rows of one network, and its bootstrap draws on validation, (taps, 1 + draws); the first is the plain score."""
    weights = {split: _weights(features, split, grid) for split in ("train", "val", "test")}
    scored = {split: _scored_classes(features, split) for split in weights}
    rows: list[dict[str, Any]] = []
    draws = []
    for tap in tqdm(features.taps, unit="tap", disable=None, desc="probes", leave=False):
        scores, chosen, refitted = _scores(features, tap["tap"], grid, weights)
        known = _known(features, tap, study) | {"seed": seed, "method": "linear"}
        rows += [row for split in scores for row in _score_rows(scores[split], known | {"split": split})]
        rows += [
            make_row(**known, split=split, metric=COUNTED, **{"class": MACRO}, value=count)
            for split, count in scored.items()
        ]
        rows.append(make_row(**known, split="val", metric="chosen_c", value=chosen.strength))
        for split, converged in (("train", chosen.converged), ("test", refitted)):
            rows.append(make_row(**known, split=split, metric="converged", value=float(converged)))
            if not converged:
                log.warning("the probe of %s at '%s' did not converge; its scores may be off", split, tap["tap"])
        draws.append(scores["val"][SELECTS, MACRO])
    return rows, np.array(draws)


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


def _scores(
    features: Features, tap: str, grid: ProbeGrid, weights: Mapping[str, RowWeights]
) -> tuple[dict[str, Scores], Chosen, bool]:
    """Scores by split, what was chosen, and whether the probe that is scored on test converged."""
    data, array = features.data, features[tap]
    part = {split: (np.asarray(array[data.splits == split]), data.labels[data.splits == split]) for split in weights}
    try:
        chosen = choose(part["train"], part["val"], data.task, data.classes, grid)
        x, y = (np.concatenate(pair) for pair in zip(part["train"], part["val"], strict=True))
        refitted = fit_path(x, y, data.task, len(data.classes), (chosen.strength,))
    except ProbeError as error:
        raise ProbeError(f"tap '{tap}' of {data.name}: {error}") from None
    predicted = {split: chosen.probabilities(part[split][0]) for split in ("train", "val")}
    predicted["test"] = refitted.probabilities(part["test"][0], 0)
    scores = {
        split: score(data.task, part[split][1], predicted[split], weights[split], data.classes) for split in weights
    }
    return scores, chosen, bool(refitted.converged[0])


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
