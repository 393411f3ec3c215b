"""How sure a score is: bootstrap draws for all taps and arms, intervals, differences, the earliest sufficient tap."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from probe.base.array_types import Draws, Groups, LeftOut, RowWeights, ScoreAndDraws, Strata

LEVEL = 0.95  # of every interval and bound
TAILS = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
HELD = 2**24  # picks held at once


def bootstrap_weights(
    rows: int,
    groups: Groups | None,
    draws: int,
    generator: np.random.Generator,
    keep: NDArray[np.bool_] | NDArray[np.integer] | None = None,
    strata: Strata | None = None,
) -> NDArray[np.float32]:
    """How often each row occurs in each of `draws` resamples, (draws, rows); groups are drawn whole.

    With `strata`, such as labels, every resample has as many rows of each as there are, or as many
    groups of each combination of them. `keep` gives the columns of some rows only. The same weights
    serve every tap and arm on the same rows, so that their differences are paired.
    """
    members = _members(rows, groups)
    units = int(members.max()) + 1
    counts = np.zeros((units, draws), np.float32)  # whole numbers, exact up to 2 ** 24
    exchangeable = _alike(members, strata)
    step = max(1, HELD // units)
    for start in range(0, draws, step):
        block = counts[:, start : start + step]
        width = block.shape[1]
        for alike in exchangeable:
            picked = alike[generator.integers(len(alike), size=(len(alike), width))]
            flat = (picked * width + np.arange(width)).ravel()
            block += np.bincount(flat, minlength=units * width).reshape(units, width)
    kept = members if keep is None else members[keep]
    return counts[kept].T


def left_out_weights(rows: int, groups: Groups | None, most: int = 1000) -> RowWeights:
    """The rows with one unit, a row or a whole group, left out at a time: (units, rows), what `bca_interval` needs.

    Of more than `most` units every `most`-th is left out together: that has the same skewness.
    """
    members = _members(rows, groups)
    blocks = members % min(most, int(members.max()) + 1)
    kept: RowWeights = (blocks != np.arange(int(blocks.max()) + 1)[:, None]).astype(np.float32)
    return kept


def percentile_interval(draws: Draws) -> NDArray[np.float64]:
    """The two-sided 95 % percentile interval, (..., 2), of the draws in which the score is defined; NaN if none is.

    Efron and Tibshirani 1993, chapter 13.
    """
    return _quantiles(draws, np.broadcast_to(TAILS, (*draws.shape[:-1], 2)))


def bca_interval(scores: ScoreAndDraws, left_out: LeftOut) -> NDArray[np.float64]:
    """The bias-corrected and accelerated 95 % interval, (..., 2).

    `scores` are the plain score and its draws, `left_out` the scores with one unit left out. NaN
    where the plain score is undefined or lies beyond all its draws. Efron and Tibshirani 1993, chapter 14.
    """
    plain, draws = scores[..., :1], scores[..., 1:]
    rank = (_count(draws < plain) + _count(draws <= plain)) / 2
    bias = ndtri(_divide(rank, _count(~np.isnan(draws))))
    bias = np.where(np.isfinite(bias), bias, np.nan)
    known = ~np.isnan(left_out)
    mean = _divide(np.where(known, left_out, 0).sum(-1, keepdims=True), _count(known))
    change = np.where(known, mean - left_out, 0)
    cubes, spread = (change**3).sum(-1, keepdims=True), (change**2).sum(-1, keepdims=True) ** 1.5
    skewness = np.divide(cubes, 6 * spread, out=np.zeros_like(spread), where=spread > 0)
    corner = bias + ndtri(TAILS)
    return _quantiles(draws, ndtr(bias + corner / (1 - skewness * corner)))


@dataclass(frozen=True)
class Difference:
    """How much higher one score is than another on the same draws; arrays (...)."""

    estimate: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    p: NDArray[np.float64]


def paired_difference(first: ScoreAndDraws, second: ScoreAndDraws) -> Difference:
    """`first` minus `second`, of two taps or arms scored under the same weights, element by element.

    With the 95 % percentile interval and the two-sided p-value that belongs to it, the smallest level
    at which such an interval leaves out zero (Efron and Tibshirani 1993, section 15.4); b draws
    cannot show less than 2 / (b + 1). NaN where a score is not defined.
    """
    gaps = first - second
    draws = np.where(np.isnan(gaps[..., :1]), np.nan, gaps[..., 1:])
    interval = percentile_interval(draws)
    total, fewer = _count(~np.isnan(draws)), np.minimum(_count(draws <= 0), _count(draws >= 0))
    p = np.where(total > 0, np.minimum(1, 2 * (1 + fewer) / (1 + total)), np.nan)[..., 0]
    return Difference(gaps[..., 0], interval[..., 0], interval[..., 1], p)


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjusted p-values of a family of tests, (m,); below alpha they keep its error rate at alpha. Holm 1979.

    Tests without a p-value (NaN) keep none and do not count.
    """
    order = np.argsort(p)[: int((~np.isnan(p)).sum())]
    adjusted = np.full(len(p), np.nan)
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps))
    return adjusted


def gap_bounds(draws: Draws) -> NDArray[np.float64]:
    """One-sided 95 % upper bound of (best tap minus this tap), per tap; draws are (taps, draws), paired.

    The best is chosen anew in every draw, so that the bound pays for the choice.
    """
    usable = draws[:, ~np.isnan(draws).any(0)]
    if not usable.size:
        return np.full(len(draws), np.nan)
    bounds: NDArray[np.float64] = np.quantile(usable.max(0) - usable, LEVEL, axis=1)
    return bounds


def earliest_sufficient(bounds: Sequence[float] | NDArray[np.float64], delta: float) -> int | None:
    """Index of the first tap shown to lose less than `delta` against the best; None if none is.

    A non-inferiority statement on the bounds of `gap_bounds`: with few rows they are wide and no tap
    may qualify, which is then the answer. The opposite rule would cut the shallower the noisier the data.
    """
    enough = np.flatnonzero(np.asarray(bounds) < delta)
    return int(enough[0]) if len(enough) else None


def _members(rows: int, groups: Groups | None) -> NDArray[np.int64]:
    """The number of the unit, a row or a group, that each row belongs to."""
    return np.arange(rows) if groups is None else np.unique(groups, return_inverse=True)[1]


def _alike(members: NDArray[np.int64], strata: Strata | None) -> list[NDArray[np.int64]]:
    """The units that are drawn for each other: those with the same strata among their rows."""
    units = int(members.max()) + 1
    if strata is None:
        return [np.arange(units)]
    names, kind = np.unique(strata, return_inverse=True)
    has = np.zeros((units, len(names)), bool)
    has[members, kind] = True
    number = np.unique(has, axis=0, return_inverse=True)[1]
    return [np.flatnonzero(number == each) for each in range(int(number.max()) + 1)]


def _quantiles(draws: Draws, levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quantiles (..., q) of the draws that are defined, each line at its own levels; linear in between."""
    ordered = np.sort(draws, axis=-1).astype(np.float64)  # what is not a number comes last
    last = (~np.isnan(draws)).sum(-1, keepdims=True) - 1
    place = np.where((last >= 0) & ~np.isnan(levels), levels * last, 0)
    below = np.floor(place).astype(np.int64)
    low = np.take_along_axis(ordered, below, -1)
    high = np.take_along_axis(ordered, np.minimum(below + 1, np.maximum(last, 0)), -1)
    return np.where(np.isnan(levels), np.nan, low + (high - low) * (place - below))


def _count(which: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.count_nonzero(which, axis=-1, keepdims=True)


def _divide(numerator: NDArray[np.float64], denominator: NDArray[np.int64]) -> NDArray[np.float64]:
    undefined: NDArray[np.float64] = np.full(np.shape(numerator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)
