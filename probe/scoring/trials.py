"""Trials: which images probes are fitted to, chosen on and scored on. The images of test are in no other role."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.base.errors import ProbeError
from probe.data import Dataset, draw_folds, draw_order
from probe.settings import ProbeGrid

FOLDS = 5  # of a training subset, which has no validation images of its own
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Trial:
    """Row numbers of a data set: `folds` are pairs of rows fitted to and rows held out to choose on.

    Without cross-validation the one fold is train and val. What was chosen is fitted again to `seen`, all
    rows of the folds, and scored once on `test`. `pool` are the rows that the held ones were drawn from.
    `n_train` images were asked for in training, `seed` drew them.
    """

    folds: tuple[tuple[Indices, Indices], ...]
    test: Indices
    pool: Indices
    n_train: int
    seed: int = 0

    @property
    def held(self) -> Indices:
        """Indices that settings and taps are chosen on, one fold after the other."""
        return np.concatenate([held for _, held in self.folds])

    @property
    def seen(self) -> Indices:
        """Indices that the final probe is fitted to."""
        return np.concatenate(self.folds[0])

    @property
    def trained(self) -> Indices:
        """Indices that scores of the split train are of: those behind the probe that val is scored with, or all."""
        return self.folds[0][0] if len(self.folds) == 1 else self.seen


def whole_trial(data: Dataset, grid: ProbeGrid, seed: int = 0) -> Trial:
    """All images: chosen on the validation split, or by cross-validation over train and val together.

    Raises ProbeError when there are fewer images, or groups, than folds.
    """
    train, val, test = (np.flatnonzero(data.splits == split) for split in ("train", "val", "test"))
    everyone = np.arange(len(data))
    if not grid.folds:
        return Trial(((train, val),), test, everyone if data.drawn else val, len(train), seed)
    learnable = np.sort(np.concatenate([train, val]))
    folds = _folds(data, learnable, grid.folds, seed)
    return Trial(folds, test, everyone if data.drawn else learnable, len(learnable), seed)


def subset_trials(data: Dataset, sizes: Sequence[int | float], count: int, grid: ProbeGrid) -> list[Trial]:
    """`count` random subsets of train and val for every size (images, or a share of them), smallest size first.

    What is labelled is what counts, so that a subset holds the images to choose on too: chosen by
    cross-validation inside it. Those of one seed are nested, stratified, and whole groups but for the last.
    Raises ProbeError for a size that there are not enough images for, or too few for the folds.
    """
    learnable = np.flatnonzero(data.splits != "test")
    test = np.flatnonzero(data.splits == "test")
    pool = np.arange(len(data)) if data.drawn else learnable
    wanted = sorted({round(size * len(learnable)) if isinstance(size, float) else size for size in sizes})
    if wanted and wanted[-1] > len(learnable):
        raise ProbeError(
            f"n_train is {wanted[-1]}, but {data.name} has {len(learnable)} images in train and val together"
        )
    groups = None if data.groups is None else data.groups[learnable]
    orders = [learnable[draw_order(data.strata(learnable), groups, seed)] for seed in range(count)]
    return [
        Trial(_folds(data, order[:size], grid.folds or FOLDS, seed), test, pool, size, seed)
        for size in wanted
        for seed, order in enumerate(orders)
    ]


def _folds(data: Dataset, rows: Indices, count: int, seed: int) -> tuple[tuple[Indices, Indices], ...]:
    groups = None if data.groups is None else data.groups[rows]
    try:
        number = draw_folds(data.strata(rows), groups, count, seed)
    except ProbeError as error:
        raise ProbeError(f"{len(rows)} training images of {data.name} make no {count} folds: {error}") from None
    return tuple((rows[number != fold], rows[number == fold]) for fold in range(count))
