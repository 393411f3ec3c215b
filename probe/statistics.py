"""How sure a score is: bootstrap draws shared by all taps, intervals, and the earliest sufficient tap."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from probe.shapes import Draws, Groups

LEVEL = 0.95  # of every interval and bound


def bootstrap_weights(
    rows: int,
    groups: Groups | None,
    draws: int,
    generator: np.random.Generator,
    keep: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """How often each row occurs in each of `draws` resamples, (draws, rows); groups are drawn whole.

    `keep` gives the columns of some rows only. The same weights serve every tap and arm on the same
    rows, so that their differences are paired.
    """
    members = np.arange(rows) if groups is None else np.unique(groups, return_inverse=True)[1]
    units = int(members.max()) + 1
    kept = members if keep is None else members[keep]
    even = np.full(units, 1 / units)
    return np.array([generator.multinomial(units, even)[kept] for _ in range(draws)], dtype=np.float64)


def percentile_interval(draws: Draws) -> tuple[float, float]:
    """The two-sided 95 % percentile interval of the draws in which the score is defined; NaN if none is.

    Efron and Tibshirani 1993, chapter 13.
    """
    defined = draws[~np.isnan(draws)]
    if not len(defined):
        return float("nan"), float("nan")
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def gap_bounds(draws: NDArray[np.float64]) -> NDArray[np.float64]:
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
