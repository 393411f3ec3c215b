"""What follows from the order of the scores: areas under curves, and points on them.

Every curve is read where it rises, at the positive entries. Summed over the classes of a data set
there are about as many of them as images, so that all classes cost little more than one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from probe.base.array_types import Counts, RowWeights
from probe.metrics.weighted_sums import Sums, add_up, ratio

FIXED = 0.9  # the specificity at which sensitivity is read, and the reverse
SLACK = 1e-6  # relative; .9 of 30 rows are 27 also in binary fractions
WIDE = 64  # weightings from which on adding whole lines beats cumsum, which walks down columns


@dataclass(frozen=True)
class Question:
    """One yes-or-no question: the answer, the score and the row of each of its e entries."""

    yes: NDArray[np.bool_]
    scores: NDArray[np.floating]
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Curve:
    """The ROC curve of a question under b weightings, read at its m positive entries, highest score first.

    `found` and `wrong` count the positive and the negative entries that score no lower; `above` the
    negatives that score higher, and half of those that score the same.
    """

    own: Sums  # (m, b): how often each positive entry itself counts
    found: Sums
    wrong: Sums
    above: Sums
    positive: Sums  # (b,): all there are
    negative: Sums

    def defined(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The values, (b,), but NaN where a weighting has no positive or no negative entry."""
        return np.where((self.positive > 0) & (self.negative > 0), values, np.nan)


def trace_curves(questions: Sequence[Question], counts: Counts) -> list[Curve]:
    """The curves of several questions about the same rows, each with a positive entry; O(b e) for e entries."""
    falling = [np.sort(-question.scores[question.yes]) for question in questions]
    starts = np.cumsum([0, *map(len, falling)])
    size = int(starts[-1])
    yes, rows, scores = (np.concatenate([getattr(q, name) for q in questions]) for name in ("yes", "rows", "scores"))
    number = np.repeat(np.arange(len(questions)), [len(q.rows) for q in questions])

    def places(side: Literal["left", "right"]) -> NDArray[np.int64]:
        """The first positive entry that each entry scores no lower than (left) or higher than (right); else `size`."""
        found = [np.searchsorted(best, -q.scores, side) for q, best in zip(questions, falling, strict=True)]
        ends = starts[1:][number]
        place = np.concatenate(found) + starts[number]
        return np.where(place < ends, place, size)

    def reached(place: NDArray[np.int64], which: NDArray[np.bool_]) -> Sums:
        return _accumulate(add_up(place[which], rows[which], size + 1, counts)[:size], starts)

    no_lower, higher = places("left"), places("right")
    wrong = reached(no_lower, ~yes)
    tied = (no_lower != higher)[~yes].any()
    above = (wrong + reached(higher, ~yes)) / 2 if tied else wrong
    own = counts[rows[yes][np.lexsort((-scores[yes], number[yes]))]]
    found = reached(no_lower, yes)
    totals = [add_up(number[which], rows[which], len(questions), counts) for which in (yes, ~yes)]
    return [
        Curve(own[a:b], found[a:b], wrong[a:b], above[a:b], *every)
        for (a, b), *every in zip(pairwise(starts), *totals, strict=True)
    ]


def _accumulate(sums: Sums, starts: NDArray[np.int64]) -> Sums:
    """Running sums down the lines of each question, in place."""
    for start, stop in pairwise(starts):
        if sums.shape[1] < WIDE:
            np.cumsum(sums[start:stop], axis=0, out=sums[start:stop])
        else:
            for line in range(start + 1, stop):
                sums[line] += sums[line - 1]
    return sums


def auroc(curve: Curve) -> NDArray[np.float64]:
    """Area under the ROC curve: the chance that a positive entry scores above a negative, ties half; (b,).

    Hanley and McNeil 1982.
    """
    pairs = curve.positive.astype(np.float64) * curve.negative
    return 1 - ratio(_total(curve.own * curve.above), pairs)


def average_precision(curve: Curve) -> NDArray[np.float64]:
    """The sum over thresholds of the gain in recall times the precision there, not interpolated; (b,)."""
    let_in = curve.found + curve.wrong
    precision = np.divide(curve.found, let_in, out=np.zeros(let_in.shape), where=let_in > 0, dtype=np.float64)
    return curve.defined(ratio(_total(curve.own * precision), curve.positive))


def sensitivity_at(curve: Curve, specificity: float = FIXED) -> NDArray[np.float64]:
    """The highest sensitivity of a threshold whose specificity is at least so much; (b,).

    No interpolation: only thresholds between scores count, so what is stated can be reached.
    """
    reached = curve.wrong <= curve.negative * ((1 - specificity) * (1 + SLACK))
    return curve.defined(ratio(_total(curve.own * reached), curve.positive))


def specificity_at(curve: Curve, sensitivity: float = FIXED) -> NDArray[np.float64]:
    """The highest specificity of a threshold whose sensitivity is at least so much, not interpolated; (b,)."""
    too_few = curve.found < curve.positive * (sensitivity * (1 - SLACK))
    lost = np.take_along_axis(curve.wrong, np.count_nonzero(too_few, axis=0)[None], axis=0)[0]
    return curve.defined(1 - ratio(lost, curve.negative))


def _total(values: NDArray[np.floating]) -> NDArray[np.float64]:
    total: NDArray[np.float64] = np.sum(values, axis=0, dtype=np.float64)
    return total


def weighted_auroc(truth: NDArray[np.bool_], scores: NDArray[np.floating], weights: RowWeights) -> NDArray[np.float64]:
    """`auroc` of one question under every weighting, (b,); NaN where there is no positive or no negative row."""
    return _alone(auroc, truth, scores, weights)


def weighted_average_precision(
    truth: NDArray[np.bool_], scores: NDArray[np.floating], weights: RowWeights
) -> NDArray[np.float64]:
    """`average_precision` of one question under every weighting, (b,); NaN where a kind of row is missing."""
    return _alone(average_precision, truth, scores, weights)


def _alone(
    metric: Callable[[Curve], NDArray[np.float64]],
    truth: NDArray[np.bool_],
    scores: NDArray[np.floating],
    weights: RowWeights,
) -> NDArray[np.float64]:
    question = Question(truth, scores, np.arange(len(truth)))
    if truth.all() or not truth.any():
        return np.full(len(weights), np.nan)
    (curve,) = trace_curves([question], np.ascontiguousarray(weights.T))
    return metric(curve)


RANKING: dict[str, Callable[[Curve], NDArray[np.float64]]] = {
    "auroc": auroc,
    "auprc": average_precision,
    f"sensitivity_at_specificity_{FIXED * 100:.0f}": sensitivity_at,
    f"specificity_at_sensitivity_{FIXED * 100:.0f}": specificity_at,
}
