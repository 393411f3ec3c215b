"""Smaller training sets: how the score, and the tap to cut at, change with the number of labelled images."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from probe.features import Features
from probe.metrics import MACRO
from probe.probes.fitting import Fitted, fit_taps, score_members
from probe.probes.methods import Method
from probe.records.result_rows import TRAINING_SIZE
from probe.scoring.resampling import Weighing, mixture, weigh
from probe.scoring.score_rows import Rows, describe, gap_rows, score_rows
from probe.scoring.trials import Trial, subset_trials
from probe.settings import Controls, ProbeGrid

SCORED = ("val", "test")


def size_rows(
    arms: Mapping[int, Features],
    kinds: Mapping[str, type[Method[Any, Any]]],
    grid: ProbeGrid,
    controls: Controls,
    device: str,
) -> Rows:
    """Scores of every tap from smaller training sets, by the metric that selects.

    A row per subset (`seed` is its number; several seeds of a network take turns), and one per size without
    a seed: the mean over subsets, with the interval of a single one, its luck and that of the images scored; what is
    sufficient is what one subset can show. Shares are of the smallest training set when seeds draw them.
    """
    features = list(arms.values())
    least = min((arm.splits != "test").sum() for arm in features)
    sizes = [round(size * least) if isinstance(size, float) else size for size in controls.shares()]
    by_arm = [subset_trials(arm.data, sizes, controls.subsets, grid) for arm in features]
    trials = [by_arm[each.seed % len(features)][i] for i, each in enumerate(by_arm[0])]
    rows: Rows = []
    for name, kind in kinds.items():
        bar = tqdm(trials, unit="subset", disable=None, desc=f"{name}, fewer images", leave=False)
        for _, group in groupby(bar, key=lambda trial: trial.n_train):
            pairs = [(features[trial.seed % len(features)], trial) for trial in group]
            rows += _of_one_size(pairs, name, kind, grid, device)
    return rows


def _of_one_size(
    trials: Sequence[tuple[Features, Trial]], name: str, kind: type[Method[Any, Any]], grid: ProbeGrid, device: str
) -> Rows:
    lines: dict[str, list[NDArray[np.float64]]] = {split: [] for split in SCORED}
    rows: Rows = []
    for arm, trial in trials:
        weighing = weigh(arm.data, trial, grid)
        method = kind(grid, arm.data.task, seed=trial.seed, device=device)
        fitted = fit_taps(arm, trial, method)
        known = {"method": name, "seed": trial.seed}
        for split in SCORED:
            lines[split].append(_lines(arm, trial, weighing[split], fitted, split))
            rows += _rows(arm, lines[split][-1], weighing[split], grid.metric, trial, known | {"split": split})
    mixed = {split: mixture(lines[split], grid.draws) for split in SCORED}
    for split in SCORED:
        rows += _rows(arm, mixed[split], weighing[split], grid.metric, trial, {"method": name, "split": split})
    return rows + gap_rows(arm, mixed["val"], grid.metric, {"method": name}, trial.n_train, TRAINING_SIZE)


def _lines(
    features: Features, trial: Trial, weighing: Weighing, fitted: Mapping[str, Fitted], split: str
) -> NDArray[np.float64]:
    """(taps, 1 + draws + units) scores."""
    lines = []
    for tap, found in fitted.items():
        metric, members = found.method.grid.metric, found.predict(features.nearest(tap), trial, split)
        scores = score_members(features, weighing.rows, members, weighing.weights, metrics=[metric])
        lines.append(scores[metric, MACRO])
    return np.stack(lines)


def _rows(
    features: Features,
    lines: NDArray[np.float64],
    weighing: Weighing,
    metric: str,
    trial: Trial,
    known: Mapping[str, Any],
) -> Rows:
    return [
        row
        for tap, line in zip(features.taps, lines, strict=True)
        for row in score_rows(
            {(metric, MACRO): line}, weighing, describe(features, tap, trial.n_train, TRAINING_SIZE) | dict(known)
        )
    ]
