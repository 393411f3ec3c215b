"""Splits that were not given are drawn: stratified by label, whole groups, from a seed."""

import warnings

import numpy as np
from numpy.typing import NDArray

from probe.errors import ProbeError

SPLITS = ("train", "val", "test")
FIFTHS = 5  # three of train, one of val, one of test


def draw_splits(
    given: NDArray[np.str_],
    labels: NDArray[np.int64],
    groups: NDArray[np.str_] | None,
    missing: tuple[str, ...],
    seed: int,
) -> NDArray[np.str_]:
    """The splits with the missing ones drawn: all three 60/20/20, or val as a fifth of a given train.

    Raises ProbeError when only a part is given from which the rest cannot be drawn.
    """
    if set(missing) == set(SPLITS):
        folds = _fifths(labels, groups, seed)
        return np.array([*["train"] * (FIFTHS - 2), "val", "test"])[folds]
    if missing != ("val",) or (given == "").any():
        raise ProbeError(
            f"the splits are incomplete (missing: {', '.join(missing) or 'some rows'}); "
            "name train and test for every row, or leave the splits out and they are drawn 60/20/20"
        )
    train = np.flatnonzero(given == "train")
    folds = _fifths(labels[train], None if groups is None else groups[train], seed)
    splits = given.copy()
    splits[train[folds == FIFTHS - 1]] = "val"
    return splits


def _fifths(labels: NDArray[np.int64], groups: NDArray[np.str_] | None, seed: int) -> NDArray[np.int64]:
    """A fold from 0 to 4 for every row."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # slow to load, seldom needed

    units = len(labels) if groups is None else len(np.unique(groups))
    if units < FIFTHS:
        raise ProbeError(f"{units} {'images' if groups is None else 'groups'} are too few to draw splits from")
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    folds = np.zeros(len(labels), dtype=np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer than five images is still spread
        splitter = kind(FIFTHS, shuffle=True, random_state=seed)
        for fold, (_, rows) in enumerate(splitter.split(labels, _strata(labels), groups)):
            folds[rows] = fold
    largest_first = np.argsort(-np.bincount(folds, minlength=FIFTHS), kind="stable")
    return np.argsort(largest_first)[folds]  # whole groups make uneven fifths; train gets the largest


def _strata(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The class; of several labels the rarest; what is rarer than five goes with the commonest."""
    strata = labels
    if labels.ndim == 2:
        present = labels == 1  # what is unknown is not
        order = np.argsort(present.sum(0), kind="stable")
        strata = np.where(present.any(1), present[:, order].argmax(1), labels.shape[1])
    counts = np.bincount(strata)
    return np.where(counts[strata] >= FIFTHS, strata, counts.argmax())
