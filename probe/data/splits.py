"""Splits that were not given are drawn: stratified by label, whole groups, from a seed."""

import warnings

import numpy as np
from numpy.typing import NDArray

from probe.base.errors import ProbeError

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
        folds = draw_folds(labels, groups, FIFTHS, seed)
        return np.array([*["train"] * (FIFTHS - 2), "val", "test"])[folds]
    if missing != ("val",) or (given == "").any():
        raise ProbeError(
            f"the splits are incomplete (missing: {', '.join(missing) or 'some rows'}); "
            "name train and test for every row, or leave the splits out and they are drawn 60/20/20"
        )
    train = np.flatnonzero(given == "train")
    folds = draw_folds(labels[train], None if groups is None else groups[train], FIFTHS, seed)
    splits = given.copy()
    splits[train[folds == FIFTHS - 1]] = "val"
    return splits


def draw_folds(labels: NDArray[np.int64], groups: NDArray[np.str_] | None, count: int, seed: int) -> NDArray[np.int64]:
    """A fold from 0 to `count` - 1 for every row, (n,): stratified, whole groups, the largest first.

    Raises ProbeError when there are fewer rows, or groups, than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # slow to load, seldom needed

    units = len(labels) if groups is None else len(np.unique(groups))
    if units < count:
        what = "images" if groups is None else "groups"
        raise ProbeError(f"{units} {what} are too few to be spread over {count} parts")
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    folds = np.zeros(len(labels), dtype=np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer images than folds is still spread
        splitter = kind(count, shuffle=True, random_state=seed)
        for fold, (_, rows) in enumerate(splitter.split(labels, strata_of(labels, count), groups)):
            folds[rows] = fold
    largest_first = np.argsort(-np.bincount(folds, minlength=count), kind="stable")
    return np.argsort(largest_first)[folds]  # whole groups make uneven parts; train gets the largest


def draw_order(labels: NDArray[np.int64], groups: NDArray[np.str_] | None, seed: int) -> NDArray[np.int64]:
    """A random order of the rows, (n,), of which every beginning is stratified: nested subsets are its beginnings.

    The images of a group follow each other; a group goes by the label of its first image.
    """
    generator = np.random.default_rng(seed)
    members = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    first = np.unique(members, return_index=True)[1]
    strata = strata_of(labels, 2)[first]
    place = np.empty(len(first))
    for kind in np.unique(strata):
        of_kind = np.flatnonzero(strata == kind)
        steps = np.arange(len(of_kind)) + generator.uniform()
        place[generator.permutation(of_kind)] = steps / len(of_kind)  # evenly spread, each class from its own start
    return np.lexsort((generator.permutation(len(labels)), members, place[members]))


def strata_of(labels: NDArray[np.int64], least: int) -> NDArray[np.int64]:
    """The class, (n,); of several labels the rarest; what is rarer than `least` goes with the commonest."""
    strata = labels
    if labels.ndim == 2:
        present = labels == 1  # what is unknown is not
        order = np.argsort(present.sum(0), kind="stable")
        strata = np.where(present.any(1), present[:, order].argmax(1), labels.shape[1])
    counts = np.bincount(strata)
    return np.where(counts[strata] >= least, strata, counts.argmax())
