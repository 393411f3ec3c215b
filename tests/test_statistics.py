"""Statistics against scipy, statsmodels, the definition and known answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap, norm

from probe.metrics import ones, weighted_auroc
from probe.scoring.statistics import (
    bca_interval,
    bootstrap_weights,
    earliest_sufficient,
    gap_bounds,
    holm,
    left_out_weights,
    paired_difference,
    percentile_interval,
)


def test_groups_are_drawn_whole() -> None:
    groups = np.array(["p1", "p1", "p2", "p3", "p3", "p3"])
    weights = bootstrap_weights(6, groups, 200, np.random.default_rng(0))
    for name in ("p1", "p3"):
        assert (weights[:, groups == name] == weights[:, groups == name][:, :1]).all()
    assert weights[:, [0, 2, 3]].sum(1) == pytest.approx(3)
    assert bootstrap_weights(6, None, 10, np.random.default_rng(0)).sum(1) == pytest.approx(6)


def test_every_unit_is_as_likely_in_every_draw() -> None:
    weights = bootstrap_weights(20, None, 20_000, np.random.default_rng(0))
    assert weights.mean(0) == pytest.approx(np.ones(20), abs=0.03)
    assert weights.var(0) == pytest.approx(np.full(20, 0.95), abs=0.05)  # of a binomial: 20 picks, one in 20
    assert np.cov(weights[:, 0], weights[:, 1])[0, 1] == pytest.approx(-0.05, abs=0.03)


def test_strata_keep_their_size() -> None:
    labels = np.array([0] * 5 + [1] * 3)
    weights = bootstrap_weights(8, None, 100, np.random.default_rng(0), strata=labels)
    assert (weights[:, :5].sum(1) == 5).all()
    assert (weights[:, 5:].sum(1) == 3).all()
    assert len(np.unique(weights, axis=0)) > 50
    groups = np.array(["a", "a", "b", "b", "c", "d", "e", "f"])  # a, b and c hold 0 only, d both, e and f 1 only
    mixed = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    mixed[5] = 1
    groups[5] = "c"
    units = bootstrap_weights(8, groups, 100, np.random.default_rng(0), strata=mixed)
    assert (units[:, [0, 2]].sum(1) == 2).all()  # a and b are drawn for each other
    assert (units[:, 4:6] == 1).all()  # c, the only one with both labels, is always there once
    assert (units[:, 6:].sum(1) == 2).all()


def test_kept_rows_are_drawn_as_among_all() -> None:
    keep, groups = np.arange(10) < 4, np.array(list("aabbccddee"))
    every, some = (bootstrap_weights(10, groups, 50, np.random.default_rng(0), kept) for kept in (None, keep))
    np.testing.assert_array_equal(every[:, keep], some)


@pytest.mark.parametrize("most", [1000, 3])
def test_each_unit_is_left_out_once(most: int) -> None:
    groups = np.array(["a", "b", "a", "c", "d", "e"])
    weights = left_out_weights(6, groups, most)
    assert weights.shape == (min(most, 5), 6)
    assert (weights == 0).sum(0) == pytest.approx(1)
    assert (weights[:, 0] == weights[:, 2]).all()


@settings(max_examples=30, deadline=None)
@given(taps=st.integers(1, 3), b=st.integers(1, 60), missing=st.sampled_from([0.0, 0.3]), seed=st.integers(0, 9999))
def test_percentiles_are_quantiles_of_the_draws_that_are_defined(taps: int, b: int, missing: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    draws = rng.normal(size=(taps, b))
    draws[rng.random(draws.shape) < missing] = np.nan
    for line, found in zip(draws, percentile_interval(draws), strict=True):
        defined = line[~np.isnan(line)]
        expected = np.quantile(defined, [0.025, 0.975]) if len(defined) else [np.nan, np.nan]
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("statistic", [np.mean, np.var])
@pytest.mark.parametrize("n", [12, 80])
def test_bca_equals_scipy(statistic: object, n: int) -> None:
    sample = np.random.default_rng(n).exponential(size=n)
    theirs = bootstrap((sample,), statistic, n_resamples=999, method="BCa", rng=np.random.default_rng(0))
    left_out = np.array([statistic(np.delete(sample, i)) for i in range(n)])
    scores = np.r_[statistic(sample), theirs.bootstrap_distribution]
    ours = bca_interval(np.stack([scores, scores]), np.stack([left_out, left_out]))
    for low, high in ours:
        assert low == pytest.approx(theirs.confidence_interval.low, rel=1e-9)
        assert high == pytest.approx(theirs.confidence_interval.high, rel=1e-9)


def test_bca_of_an_auroc_equals_scipy() -> None:
    """The whole way: our weights with a unit left out against scipy's own jackknife."""
    rng = np.random.default_rng(0)
    y = rng.random(60) < 0.4
    x = rng.normal(size=60) + y
    theirs = bootstrap(
        (y, x), lambda y, x: weighted_auroc(y > 0, x, ones(len(y)))[0],
        paired=True, vectorized=False, n_resamples=300, method="BCa", rng=np.random.default_rng(1),
    )  # fmt: skip
    scores = np.r_[weighted_auroc(y, x, ones(60)), theirs.bootstrap_distribution]
    ours = bca_interval(scores, weighted_auroc(y, x, left_out_weights(60, None)))
    assert ours == pytest.approx([theirs.confidence_interval.low, theirs.confidence_interval.high], rel=1e-9)


def test_units_left_out_in_blocks_have_the_same_skewness() -> None:
    sample = np.random.default_rng(0).exponential(size=6000)
    draws = np.random.default_rng(1).normal(sample.mean(), sample.std() / 6000**0.5, 4000)
    scores = np.r_[sample.mean(), draws]
    blocks, singly = (left_out_weights(6000, None, most) for most in (500, 6000))
    near, exact = (bca_interval(scores, w @ sample / w.sum(1)) for w in (blocks, singly))
    assert near == pytest.approx(exact, abs=0.1 * (exact[1] - exact[0]))


def test_intervals_of_nothing_are_not_numbers() -> None:
    nothing = np.full(5, np.nan)
    assert np.isnan(percentile_interval(nothing)).all()
    assert np.isnan(bca_interval(nothing, nothing)).all()
    beyond = np.r_[2.0, np.random.default_rng(0).random(50)]
    assert np.isnan(bca_interval(beyond, np.random.default_rng(0).random(5))).all()
    assert bca_interval(np.ones(50), np.ones(5)) == pytest.approx([1, 1])  # a perfect score, in every draw


def test_intervals_cover_the_truth() -> None:
    """Two normal classes one spread apart have AUROC Phi(1 / sqrt 2); `benchmarks/interval_coverage.md` has more."""
    truth, rng, hits = norm.cdf(1 / np.sqrt(2)), np.random.default_rng(0), np.zeros(2)
    for _ in range(300):
        y = rng.random(300) < 0.5
        weights = np.vstack([ones(300), bootstrap_weights(300, None, 300, rng), left_out_weights(300, None)])
        found = weighted_auroc(y, rng.normal(size=300) + y, weights)
        intervals = percentile_interval(found[1:301]), bca_interval(found[:301], found[301:])
        hits += [low <= truth <= high for low, high in intervals]
    assert (hits / 300 >= 0.915).all()
    assert (hits / 300 <= 0.985).all()


def test_a_difference_is_paired() -> None:
    """What all draws share cancels; the p-value is below .05 just when the interval leaves out zero."""
    rng = np.random.default_rng(0)
    luck = rng.normal(0, 0.05, 1001)
    luck[0] = 0
    base = 0.8 + luck
    noise = rng.normal(0, 0.005, (2, 1001)) * (np.arange(1001) > 0)
    found = paired_difference(base + np.array([[0.02], [0.002]]) + noise, np.stack([base, base]))
    assert found.estimate == pytest.approx([0.02, 0.002])
    assert (found.high - found.low) == pytest.approx(np.full(2, 2 * 1.96 * 0.005), rel=0.1)
    assert ((found.p < 0.05) == ((found.low > 0) | (found.high < 0))).all()
    assert found.p[0] < 0.01 < 0.3 < found.p[1]
    back = paired_difference(np.stack([base, base]), base + np.array([[0.02], [0.002]]) + noise)
    assert back.p == pytest.approx(found.p)
    assert back.low == pytest.approx(-found.high)
    same = paired_difference(base, base)
    assert (same.estimate, same.low, same.high, same.p) == (0, 0, 0, 1)
    assert np.isnan(paired_difference(np.r_[np.nan, base[1:]], base).p)


def test_p_values_are_uniform_when_nothing_differs() -> None:
    rng, below = np.random.default_rng(0), 0
    for _ in range(400):
        sample = rng.normal(size=(2, 60))
        weights = np.vstack([ones(60), bootstrap_weights(60, None, 200, rng)])
        below += paired_difference(*(sample @ weights.T / 60)).p < 0.1
    assert 0.06 < below / 400 < 0.15


@settings(max_examples=40, deadline=None)
@given(m=st.integers(1, 12), seed=st.integers(0, 9999))
def test_holm_is_its_definition(m: int, seed: int) -> None:
    p = np.random.default_rng(seed).random(m) ** 4
    found, rejected = holm(p), np.zeros(m, bool)
    for step, test in enumerate(np.argsort(p)):  # stop at the first that is not below its share of alpha
        if p[test] > 0.05 / (m - step):
            break
        rejected[test] = True
    np.testing.assert_array_equal(found <= 0.05, rejected)
    assert (found >= p).all()
    with_gaps = np.insert(p, m // 2, np.nan)
    np.testing.assert_array_equal(np.delete(holm(with_gaps), m // 2), found)
    assert np.isnan(holm(with_gaps)[m // 2])


def test_holm_equals_the_printed_example() -> None:
    """R's `p.adjust(c(.01, .02, .03, .005), "holm")`."""
    assert holm(np.array([0.01, 0.02, 0.03, 0.005])) == pytest.approx([0.03, 0.04, 0.04, 0.02])


def test_the_earliest_sufficient_tap_is_a_non_inferiority_statement() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 0.02, 2000)  # luck of the draw that all taps share cancels in the difference
    means = np.array([0.80, 0.893, 0.90, 0.85])
    draws = means[:, None] + shared + rng.normal(0, 0.0005, (4, 2000))
    assert earliest_sufficient(gap_bounds(draws), 0.01) == 1
    assert earliest_sufficient(gap_bounds(draws), 0.005) == 2
    assert gap_bounds(draws)[0] == pytest.approx(0.1, abs=0.003)


def test_noise_never_cuts_shallower() -> None:
    rng = np.random.default_rng(0)
    draws = np.array([0.895, 0.90])[:, None] + rng.normal(0, 1, (2, 4000)) * np.array([[0.05], [0.05]])
    assert earliest_sufficient(gap_bounds(draws), 0.01) is None
