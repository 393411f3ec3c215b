"""Splits that were not given are drawn: stratified by label, whole groups, from a seed."""

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from probe.base.errors import ProbeError
from probe.settings.image_reading import SPLITS

FIFTHS = 5  # three of train, one of val, one of test


def draw_splits(
    given: NDArray[np.str_],
    strata: Callable[[NDArray[np.integer]], NDArray[np.int64]],
    groups: NDArray[np.str_] | None,
    missing: tuple[str, ...],
    seed: int,
) -> NDArray[np.str_]:
    """The splits with the missing ones drawn: all three 60/20/20, or val as a fifth of a given train.

    `strata` gives the number by which each of some rows is stratified.
    Raises ProbeError when only a part is given from which the rest cannot be drawn.
    """
    if set(missing) == set(SPLITS):
        folds = draw_folds(strata(np.arange(len(given))), groups, FIFTHS, seed)
        return np.array([*["train"] * (FIFTHS - 2), "val", "test"])[folds]
    if missing != ("val",) or (given == "").any():
        raise ProbeError(
            f"the splits are incomplete (missing: {', '.join(missing) or 'some rows'}); "
            "name train and test for every row, or leave the splits out and they are drawn 60/20/20"
        )
    train = np.flatnonzero(given == "train")
    folds = draw_folds(strata(train), None if groups is None else groups[train], FIFTHS, seed)
    splits = given.copy()
    splits[train[folds == FIFTHS - 1]] = "val"
    return splits


def draw_folds(strata: NDArray[np.int64], groups: NDArray[np.str_] | None, count: int, seed: int) -> NDArray[np.int64]:
    """A fold from 0 to `count` - 1 for every row, (n,): stratified, whole groups, the largest first.

    Raises ProbeError when there are fewer rows, or groups, than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # slow to load, seldom needed

    units = len(strata) if groups is None else len(np.unique(groups))
    if units < count:
        what = "images" if groups is None else "groups"
        raise ProbeError(f"{units} {what} are too few to be split into {count} parts")
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    folds = np.zeros(len(strata), dtype=np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer images than folds is still spread
        splitter = kind(count, shuffle=True, random_state=seed)
        for fold, (_, rows) in enumerate(splitter.split(strata, merge_rare(strata, count), groups)):
            folds[rows] = fold
    largest_first = np.argsort(-np.bincount(folds, minlength=count), kind="stable")
    return np.argsort(largest_first)[folds]  # whole groups make uneven parts; train gets the largest


def draw_order(strata: NDArray[np.int64], groups: NDArray[np.str_] | None, seed: int) -> NDArray[np.int64]:
    """A random order of the rows, (n,), of which every beginning is stratified: nested subsets are its beginnings.

    The images of a group follow each other; a group goes by the label of its first image.
    """
    generator = np.random.default_rng(seed)
    members = np.arange(len(strata)) if groups is None else np.unique(groups, return_inverse=True)[1]
    first = np.unique(members, return_index=True)[1]
    kinds = merge_rare(strata, 2)[first]
    place = np.empty(len(first))
    for kind in np.unique(kinds):
        of_kind = np.flatnonzero(kinds == kind)
        steps = np.arange(len(of_kind)) + generator.uniform()
        place[generator.permutation(of_kind)] = steps / len(of_kind)  # evenly spread, each class from its own start
    return np.lexsort((generator.permutation(len(strata)), members, place[members]))


def merge_rare(strata: NDArray[np.int64], least: int) -> NDArray[np.int64]:
    """The strata, (n,), of which those with fewer than `least` rows go with the commonest."""
    counts = np.bincount(strata)
    return np.where(counts[strata] >= least, strata, counts.argmax())
