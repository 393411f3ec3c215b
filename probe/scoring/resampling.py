"""Under which weights a split is scored: plain, bootstrap draws, and with one unit left out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.base.array_types import RowWeights
from probe.data import Dataset
from probe.metrics import ones
from probe.scoring.statistics import bca_interval, bootstrap_weights, left_out_weights, percentile_interval
from probe.scoring.trials import Trial
from probe.settings import ProbeGrid


@dataclass(frozen=True)
class Weighing:
    """`weights` (1 + draws + units, rows): the plain weighting, bootstrap draws, and with each unit left out."""

    rows: NDArray[np.int64]
    weights: RowWeights
    draws: int = 0

    def interval(self, lines: NDArray[np.float64]) -> NDArray[np.float64]:
        """95 % interval (..., 2) of scores (..., 1 + draws + units); NaN where nothing was drawn."""
        drawn = lines[..., : 1 + self.draws]
        if not self.draws:
            return np.full((*lines.shape[:-1], 2), np.nan)
        if lines.shape[-1] == drawn.shape[-1]:
            return percentile_interval(drawn[..., 1:])
        return bca_interval(drawn, lines[..., 1 + self.draws :])


def weigh(data: Dataset, trial: Trial, grid: ProbeGrid) -> dict[str, Weighing]:
    """By split. The draws are the same for every tap, arm and seed, so that differences are paired.

    A mean over seeds must not average away the luck of the images. When splits are drawn, all images are
    resampled and the split's share of them used, so that an image is drawn alike in every split it falls into.
    """
    plain = Weighing(trial.trained, ones(len(trial.trained)))
    every = np.arange(len(data))
    pools = {"val": (trial.held, trial.pool), "test": (trial.test, every if data.drawn else trial.test)}
    return {"train": plain} | {split: _drawn(data, split, *rows, grid) for split, rows in pools.items()}


def _drawn(data: Dataset, split: str, rows: NDArray[np.int64], pool: NDArray[np.int64], grid: ProbeGrid) -> Weighing:
    groups = data.groups
    generator = np.random.default_rng(0 if data.drawn else len(split))
    pooled = None if groups is None else groups[pool]
    draws = bootstrap_weights(len(pool), pooled, grid.draws, generator, np.searchsorted(pool, rows))
    parts = [ones(len(rows)), draws]
    if grid.interval == "bca" and len(rows):
        parts.append(left_out_weights(len(rows), None if groups is None else groups[rows]))
    return Weighing(rows, np.vstack(parts), grid.draws)


def mixture(repeats: Sequence[NDArray[np.float64]], draws: int) -> NDArray[np.float64]:
    """Of several (taps, 1 + draws, ...) scores one (taps, 1 + draws): their mean, then draw b of repeat b in turn.

    An interval of it is that of a single repeat, its own luck and that of the images scored.
    """
    stacked = np.stack([each[:, : 1 + draws] for each in repeats])
    turns = (np.arange(1 + draws) % len(repeats))[None, None]
    mixed: NDArray[np.float64] = np.take_along_axis(stacked, turns, axis=0)[0]
    mixed[:, 0] = stacked[:, :, 0].mean(0)
    return mixed
