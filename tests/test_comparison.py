"""Probes against training: correlations, regret."""

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from probe.base.errors import ProbeError
from probe.scoring.probe_verdicts import judge, spearman

TAPS = ["a", "b", "c", "d"]


def lines(*scores: float, spread: float = 0.0, draws: int = 400, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(scale=spread, size=(len(scores), draws)) if spread else 0
    plain = np.array(scores)[:, None]
    return np.hstack([plain, plain + noise * np.ones((1, draws))])


def test_rank_correlation_equals_scipy_column_by_column() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, (7, 30)).astype(float), rng.normal(size=(7, 30))  # with ties
    expected = [spearmanr(x, y).statistic for x, y in zip(a.T, b.T, strict=True)]
    np.testing.assert_allclose(spearman(a, b), expected)
    assert np.isnan(spearman(np.ones((4, 1)), b[:4, :1])).all()
    a[2, 0] = np.nan
    assert np.isnan(spearman(a, b)[0])


def test_probes_that_order_the_taps_as_training_does_are_right() -> None:
    found = judge(TAPS, lines(0.6, 0.7, 0.9, 0.8), np.array([0.5, 0.6, 0.8, 0.7]), lines(0.5, 0.55, 0.7, 0.6))
    assert (found.spearman.value, found.kendall.value) == (1, 1)
    assert found.followed == found.chosen == found.oracle == "c"
    assert found.regret.value == found.oracle_regret.value == 0


def test_regret_is_what_following_the_probe_loses_on_test() -> None:
    probe, trained = lines(0.9, 0.8, 0.7, 0.6), lines(0.70, 0.71, 0.75, 0.80, spread=0.01)
    found = judge(TAPS, probe, np.array([0.6, 0.7, 0.9, 0.8]), trained)
    assert (found.followed, found.chosen, found.oracle) == ("a", "c", "d")
    assert found.spearman.value == -1
    assert found.kendall.value == kendalltau([4, 3, 2, 1], [1, 2, 3, 4]).statistic
    assert found.regret.value == pytest.approx(0.05)
    assert found.oracle_regret.value == pytest.approx(0.10)
    assert found.regret.low < 0.05 < found.regret.high
    assert found.regret.high - found.regret.low == pytest.approx(2 * 1.96 * 0.01 * 2**0.5, rel=0.2)


def test_noise_widens_the_interval_of_the_correlation() -> None:
    sure, unsure = (
        judge(TAPS, lines(0.6, 0.7, 0.8, 0.9, spread=s), np.arange(4.0), lines(0.6, 0.7, 0.8, 0.9, spread=s, seed=1))
        for s in (0.001, 0.2)
    )
    assert sure.spearman.low == 1
    assert unsure.spearman.low < 0.5


@pytest.mark.parametrize("taps", [1, 2])
def test_too_few_taps_are_refused(taps: int) -> None:
    with pytest.raises(ProbeError, match="say nothing of an order; take at least 3"):
        judge(TAPS[:taps], lines(*range(taps)), np.arange(float(taps)), lines(*range(taps)))


def test_scores_that_are_not_defined_are_refused() -> None:
    with pytest.raises(ProbeError, match="not defined"):
        judge(TAPS, lines(0.5, np.nan, 0.6, 0.7), np.arange(4.0), lines(1, 2, 3, 4))
