"""Metrics and statistics against scikit-learn, the definition, and known answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from probe.metrics import MACRO, ones, score, weighted_auroc, weighted_average_precision
from probe.statistics import bootstrap_weights, earliest_sufficient, gap_bounds, percentile_interval


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(2, 40),
    levels=st.integers(1, 8),
    seed=st.integers(0, 10_000),
)
def test_rank_metrics_equal_scikit_learn_with_ties_and_weights(n: int, levels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, scores = rng.random(n) < 0.4, rng.integers(0, levels, n) / levels
    weights = rng.integers(0, 4, (3, n)).astype(float)
    auroc, ap = weighted_auroc(truth, scores, weights), weighted_average_precision(truth, scores, weights)
    for b, weight in enumerate(weights):
        if not (weight[truth].sum() and weight[~truth].sum()):
            assert np.isnan(auroc[b])
            assert np.isnan(ap[b])
            continue
        drawn = np.repeat(np.arange(n), weight.astype(int))  # a weight is a row that occurs so often
        assert auroc[b] == pytest.approx(sk.roc_auc_score(truth[drawn], scores[drawn]))
        assert ap[b] == pytest.approx(sk.average_precision_score(truth[drawn], scores[drawn]))


def probabilities(n: int, k: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(k), n)


def test_multiclass_scores_equal_scikit_learn() -> None:
    p, y = probabilities(200, 4), np.random.default_rng(1).integers(0, 4, 200)
    found = {key: value[0] for key, value in score("multiclass", y, p, ones(200), tuple("abcd")).items()}
    assert found["auroc", MACRO] == pytest.approx(sk.roc_auc_score(y, p, multi_class="ovr"))
    assert found["auroc", "c"] == pytest.approx(sk.roc_auc_score(y == 2, p[:, 2]))
    assert found["auprc", MACRO] == pytest.approx(sk.average_precision_score(np.eye(4)[y], p))
    assert found["accuracy", MACRO] == pytest.approx(sk.accuracy_score(y, p.argmax(1)))
    assert found["balanced_accuracy", MACRO] == pytest.approx(sk.balanced_accuracy_score(y, p.argmax(1)))
    assert found["log_loss", MACRO] == pytest.approx(sk.log_loss(y, p))


def test_binary_scores_are_of_the_second_class() -> None:
    p, y = probabilities(100, 2), np.random.default_rng(1).integers(0, 2, 100)
    found = score("binary", y, p, ones(100), ("benign", "malignant"))
    assert found["auroc", MACRO][0] == pytest.approx(sk.roc_auc_score(y, p[:, 1]))
    assert found["auprc", "malignant"][0] == pytest.approx(sk.average_precision_score(y, p[:, 1]))
    assert ("auroc", "benign") not in found


def test_multilabel_scores_equal_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    p, y = rng.random((150, 3)), rng.integers(0, 2, (150, 3))
    found = {key: value[0] for key, value in score("multilabel", y, p, ones(150), tuple("abc")).items()}
    assert found["auroc", MACRO] == pytest.approx(sk.roc_auc_score(y, p))
    assert found["auprc", MACRO] == pytest.approx(sk.average_precision_score(y, p))
    columns = range(3)
    assert found["accuracy", MACRO] == pytest.approx(
        np.mean([sk.accuracy_score(y[:, k], p[:, k] > 0.5) for k in columns])
    )
    balanced = np.mean([sk.balanced_accuracy_score(y[:, k], p[:, k] > 0.5) for k in columns])
    assert found["balanced_accuracy", MACRO] == pytest.approx(balanced)
    assert found["log_loss", MACRO] == pytest.approx(np.mean([sk.log_loss(y[:, k], p[:, k]) for k in columns]))


def test_a_class_that_is_absent_is_left_out_of_the_mean() -> None:
    p, y = probabilities(50, 3), np.random.default_rng(1).integers(0, 2, 50)
    found = score("multiclass", y, p, ones(50), tuple("abc"))
    assert np.isnan(found["auroc", "c"][0])
    assert found["auroc", MACRO][0] == pytest.approx((found["auroc", "a"][0] + found["auroc", "b"][0]) / 2)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_a_weighting_is_the_score_of_the_rows_it_repeats(task: str) -> None:
    rng = np.random.default_rng(0)
    p = probabilities(60, 3) if task == "multiclass" else rng.random((60, 3))
    y = rng.integers(0, 3, 60) if task == "multiclass" else rng.integers(0, 2, (60, 3))
    weights = bootstrap_weights(60, None, 5, rng)
    found = score(task, y, p, weights, tuple("abc"))
    for b, weight in enumerate(weights):
        drawn = np.repeat(np.arange(60), weight.astype(int))
        alone = score(task, y[drawn], p[drawn], ones(len(drawn)), tuple("abc"))
        for key in found:
            assert found[key][b] == pytest.approx(alone[key][0]), key


def test_groups_are_drawn_whole() -> None:
    groups = np.array(["p1", "p1", "p2", "p3", "p3", "p3"])
    weights = bootstrap_weights(6, groups, 200, np.random.default_rng(0))
    for name in ("p1", "p3"):
        assert (weights[:, groups == name] == weights[:, groups == name][:, :1]).all()
    assert weights[:, [0, 2, 3]].sum(1) == pytest.approx(3)
    assert bootstrap_weights(6, None, 10, np.random.default_rng(0)).sum(1) == pytest.approx(6)


def test_intervals_cover_the_truth() -> None:
    """Two normal classes one spread apart have AUROC Phi(1 / sqrt 2); 95 % intervals hold it about as often."""
    from scipy.stats import norm

    truth, rng, hits = norm.cdf(1 / np.sqrt(2)), np.random.default_rng(0), 0
    for _ in range(300):
        y = rng.random(300) < 0.5
        draws = weighted_auroc(y, rng.normal(size=300) + y, bootstrap_weights(300, None, 300, rng))
        low, high = percentile_interval(draws)
        hits += low <= truth <= high
    assert 0.915 <= hits / 300 <= 0.98


def test_intervals_of_nothing_are_not_numbers() -> None:
    assert np.isnan(percentile_interval(np.array([np.nan, np.nan]))).all()


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
