"""Whether probes were right: their scores over depth against those of networks trained there."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata

from probe.base.array_types import Draws, ScoreAndDraws
from probe.base.errors import ProbeError
from probe.scoring.statistics import percentile_interval


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % percentile bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """What following the probes comes to, for one way of training.

    `spearman` and `kendall` are correlations over taps of the probe's score on validation with the trained score on
    test. `followed` is the tap that the probe chooses, `chosen` the one that validation chooses after training at every
    tap, `oracle` the best on test. `regret` is the trained score on test at `chosen` minus that at `followed`,
    `oracle_regret` that at `oracle`: of the best of several numbers that vary, hence never below zero and too high.
    """

    spearman: Estimate
    kendall: Estimate
    followed: str
    chosen: str
    oracle: str
    regret: Estimate
    oracle_regret: Estimate


def judge(taps: Sequence[str], probe: ScoreAndDraws, val: NDArray[np.float64], test: ScoreAndDraws) -> Verdict:
    """Compare probes with training at the same t taps; scores of which more is better.

    `probe` (t, 1 + b) on validation, `val` (t,) and `test` (t, 1 + b) after training, means over seeds. In the
    draws of `spearman` and `kendall` both vary, in those of the regrets the test images alone: the taps stay those
    chosen. Raises ProbeError for fewer than three taps and for scores that are not defined.
    """
    if len(taps) < 3:
        raise ProbeError(f"{len(taps)} taps say nothing of an order; take at least 3")
    if np.isnan(probe[:, 0]).any() or np.isnan(val).any() or np.isnan(test[:, 0]).any():
        raise ProbeError("a score is not defined: no class has both positive and negative images")
    followed, chosen, oracle = int(probe[:, 0].argmax()), int(val.argmax()), int(test[:, 0].argmax())
    return Verdict(
        spearman=estimate(spearman(probe, test)),
        kendall=estimate(np.array([kendalltau(*pair).statistic for pair in zip(probe.T, test.T, strict=True)])),
        followed=taps[followed],
        chosen=taps[chosen],
        oracle=taps[oracle],
        regret=estimate(test[chosen] - test[followed]),
        oracle_regret=estimate(test[oracle] - test[followed]),
    )


def spearman(first: Draws, second: Draws) -> NDArray[np.float64]:
    """Spearman's rank correlation of the columns of two (t, b) tables, (b,); NaN where one is constant."""
    ranks = [rankdata(each, axis=0, nan_policy="propagate") for each in (first, second)]
    a, b = (each - each.mean(0) for each in ranks)
    spread = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    undefined: NDArray[np.float64] = np.full(len(spread), np.nan)
    correlation: NDArray[np.float64] = np.divide((a * b).sum(0), spread, out=undefined, where=spread > 0)
    return correlation


def estimate(line: NDArray[np.float64]) -> Estimate:
    """A plain number, the first of a line, and the interval of the draws that follow it."""
    low, high = percentile_interval(line[1:])
    return Estimate(float(line[0]), float(low), float(high))
