"""Metrics against scikit-learn, MedMNIST's evaluator and the definition, under any weighting."""

import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from probe.base.errors import ProbeError
from probe.metrics import (
    MACRO,
    METRICS,
    MICRO,
    ones,
    scores,
    unscored,
    weighted_auroc,
    weighted_average_precision,
)
from probe.metrics.calibration import BINS
from probe.metrics.ranking import RANKING, Question, sensitivity_at, specificity_at, trace_curves
from probe.records.metric_facts import find_metric
from probe.scoring.statistics import bootstrap_weights
from probe.tasks import Classes, Labels, Task, read_task

NAMES = tuple("abcdefgh")
SEEDS = st.integers(0, 10_000)


def drawn(weight: np.ndarray) -> np.ndarray:
    """A weight is a row that occurs so often."""
    return np.repeat(np.arange(len(weight)), weight.astype(int))


@settings(max_examples=60, deadline=None)
@given(n=st.integers(2, 40), levels=st.integers(1, 8), seed=SEEDS)
def test_rank_metrics_equal_scikit_learn_with_ties_and_weights(n: int, levels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, level = rng.random(n) < 0.4, rng.integers(0, levels, n) / levels
    weights = rng.integers(0, 4, (3, n)).astype(float)
    auroc, ap = weighted_auroc(truth, level, weights), weighted_average_precision(truth, level, weights)
    for b, weight in enumerate(weights):
        if not (weight[truth].sum() and weight[~truth].sum()):
            assert np.isnan(auroc[b])
            assert np.isnan(ap[b])
            continue
        rows = drawn(weight)
        assert auroc[b] == pytest.approx(sk.roc_auc_score(truth[rows], level[rows]))
        assert ap[b] == pytest.approx(sk.average_precision_score(truth[rows], level[rows]))


@settings(max_examples=40, deadline=None)
@given(n=st.integers(4, 60), levels=st.integers(1, 30), at=st.sampled_from([0.5, 0.8, 0.9, 0.95, 1.0]), seed=SEEDS)
def test_points_on_the_curve_are_the_best_thresholds_there_are(n: int, levels: int, at: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, level = rng.random(n) < 0.5, rng.integers(0, levels, n) / levels
    truth[:2] = True, False
    weights = rng.integers(0, 3, (70, n)).astype(np.float32)  # more than WIDE
    weights[:, :2] = 1
    (curve,) = trace_curves([Question(truth, level, np.arange(n))], np.ascontiguousarray(weights.T))
    found = sensitivity_at(curve, at), specificity_at(curve, at)
    for b in (0, 35, 69):
        wrong, right, _ = sk.roc_curve(truth, level, sample_weight=weights[b], drop_intermediate=False)
        assert found[0][b] == pytest.approx(right[wrong <= 1 - at + 1e-9].max())
        assert found[1][b] == pytest.approx(1 - wrong[right >= at - 1e-9].min())


def test_the_table_of_metrics_names_those_that_are_computed() -> None:
    assert list(RANKING) == [name for name, metric in METRICS.items() if metric.judges == "order"]
    assert [METRICS[name].sign for name in ("auroc", "log_loss")] == [1, -1]
    with pytest.raises(ProbeError, match="unknown metric 'aurok'; did you mean 'auroc'"):
        find_metric("aurok")


def probabilities(n: int, k: int, seed: int = 0, digits: int = 15) -> np.ndarray:
    """Rounded to few digits they have ties, and then no longer sum to one."""
    return np.round(np.random.default_rng(seed).dirichlet(np.ones(k), n), digits)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(30, 60), k=st.integers(3, 5), digits=st.sampled_from([1, 2, 15]), seed=SEEDS)
def test_multiclass_scores_equal_scikit_learn(n: int, k: int, digits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, y = probabilities(n, k, seed, digits), rng.integers(0, k, n)
    y[:k] = np.arange(k)
    w = rng.random((1, n)) + 0.01
    found = {key: value[0] for key, value in Classes(NAMES[:k]).score(y, p, w, ordinal=True).items()}
    truth, guess, weight = np.eye(k)[y], p.argmax(1), {"sample_weight": w[0]}
    for average in (MACRO, MICRO):
        assert found["auroc", average] == pytest.approx(sk.roc_auc_score(truth, p, average=average, **weight))
        assert found["auprc", average] == pytest.approx(sk.average_precision_score(truth, p, average=average, **weight))
        assert found["f1", average] == pytest.approx(
            sk.f1_score(y, guess, labels=range(k), average=average, zero_division=0, **weight)
        )
    each = {
        "auroc": sk.roc_auc_score(truth, p, average=None, **weight),
        "auprc": sk.average_precision_score(truth, p, average=None, **weight),
        "f1": sk.f1_score(y, guess, labels=range(k), average=None, zero_division=0, **weight),
        "recall": sk.recall_score(y, guess, labels=range(k), average=None, **weight),
    }
    for metric, values in each.items():
        assert [found[metric, name] for name in NAMES[:k]] == pytest.approx(list(values)), metric
    assert found["accuracy", MACRO] == pytest.approx(sk.accuracy_score(y, guess, **weight))
    assert found["balanced_accuracy", MACRO] == pytest.approx(sk.balanced_accuracy_score(y, guess, **weight))
    assert found["quadratic_kappa", MACRO] == pytest.approx(
        sk.cohen_kappa_score(y, guess, weights="quadratic", **weight)
    )
    if digits == 15:  # scikit-learn wants rows that sum to one
        assert found["log_loss", MACRO] == pytest.approx(sk.log_loss(y, p, **weight))
    assert found["brier", MACRO] == pytest.approx(np.average(((p - truth) ** 2).sum(1), weights=w[0]))


def test_binary_scores_are_of_the_second_class() -> None:
    p, y = probabilities(100, 2), np.random.default_rng(1).integers(0, 2, 100)
    found = {key: value[0] for key, value in Classes(("benign", "malignant")).score(y, p, ones(100)).items()}
    assert found["auroc", MACRO] == pytest.approx(sk.roc_auc_score(y, p[:, 1]))
    assert found["auprc", "malignant"] == pytest.approx(sk.average_precision_score(y, p[:, 1]))
    assert found["brier", MACRO] == pytest.approx(sk.brier_score_loss(y, p[:, 1]))
    assert found["ece", MACRO] == pytest.approx(calibration_error_by_hand(y, p[:, 1], np.ones(100)))
    assert found["f1", "malignant"] == pytest.approx(sk.f1_score(y, p[:, 1] > 0.5))
    assert found["f1", MACRO] == pytest.approx(sk.f1_score(y, p[:, 1] > 0.5, average="macro"))
    assert ("auroc", "benign") not in found
    assert ("auroc", MICRO) not in found


def calibration_error_by_hand(right: np.ndarray, sure: np.ndarray, weight: np.ndarray) -> float:
    """Guo et al. 2017, equation 3, bin by bin."""
    error = 0.0
    for m in range(BINS):
        inside = (sure > m / BINS) & (sure <= (m + 1) / BINS) if m else sure <= 1 / BINS
        if weight[inside].sum():
            share = weight[inside].sum() / weight.sum()
            error += share * abs(np.average(right[inside] - sure[inside], weights=weight[inside]))
    return error


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 50), k=st.integers(3, 5), digits=st.sampled_from([1, 2, 15]), seed=SEEDS)
def test_the_calibration_error_is_its_definition(n: int, k: int, digits: int, seed: int) -> None:
    p, rng = probabilities(n, k, seed, digits), np.random.default_rng(seed)
    y, w = rng.integers(0, k, n), rng.integers(1, 4, (2, n)).astype(float)
    found = Classes(NAMES[:k]).score(y, p, w, metrics=["ece"])["ece", MACRO]
    for b in range(2):
        assert found[b] == pytest.approx(calibration_error_by_hand(p.argmax(1) == y, p.max(1), w[b]))


def test_bins_are_closed_on_the_right() -> None:
    """.4 is the upper edge of the sixth of 15 bins, so .41 is in another one; mean of both, they would be right."""
    p = np.array([[0.4, 0.3, 0.3], [0.41, 0.3, 0.29]])
    y, apart = np.array([1, 0]), (0.4 + 0.59) / 2
    assert Classes(NAMES[:3]).score(y, p, ones(2), metrics=["ece"])["ece", MACRO][0] == pytest.approx(apart)


def test_certain_and_right_is_calibrated_and_certain_and_wrong_is_not() -> None:
    y = np.array([0, 1, 2, 1])
    for guess, error in ((y, 0.0), ((y + 1) % 3, 1.0)):
        found = Classes(NAMES[:3]).score(y, np.eye(3)[guess], ones(4), metrics=["ece", "brier"])
        assert found["ece", MACRO][0] == pytest.approx(error)
        assert found["brier", MACRO][0] == pytest.approx(2 * error)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(20, 60), k=st.integers(2, 4), unknown=st.sampled_from([0.0, 0.3]), seed=SEEDS)
def test_multilabel_scores_are_those_of_each_label_where_it_is_known(n: int, k: int, unknown: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, y, w = np.round(rng.random((n, k)), 1), rng.integers(0, 2, (n, k)), rng.random((1, n)) + 0.01
    y[rng.random((n, k)) < unknown] = -1
    y[:2] = [[1] * k, [0] * k]
    found = {key: value[0] for key, value in Labels(NAMES[:k]).score(y, p, w).items()}
    reference = {
        "auroc": lambda y, p, w: sk.roc_auc_score(y, p, sample_weight=w),
        "auprc": lambda y, p, w: sk.average_precision_score(y, p, sample_weight=w),
        "accuracy": lambda y, p, w: sk.accuracy_score(y, p > 0.5, sample_weight=w),
        "balanced_accuracy": lambda y, p, w: sk.balanced_accuracy_score(y, p > 0.5, sample_weight=w),
        "f1": lambda y, p, w: sk.f1_score(y, p > 0.5, sample_weight=w, zero_division=0),
        "recall": lambda y, p, w: sk.recall_score(y, p > 0.5, sample_weight=w),
        "brier": lambda y, p, w: sk.brier_score_loss(y, p, sample_weight=w),
        "log_loss": lambda y, p, w: sk.log_loss(y, p, sample_weight=w),
        "ece": calibration_error_by_hand,
    }
    known = y >= 0
    for metric, function in reference.items():
        each = [function(y[rows, c], p[rows, c], w[0][rows]) for c, rows in enumerate(known.T)]
        assert [found[metric, name] for name in NAMES[:k]] == pytest.approx(each), metric
        assert found[metric, MACRO] == pytest.approx(np.mean(each)), metric
    pooled = (y[known], p[known], np.broadcast_to(w.T, y.shape)[known])
    for metric in ("auroc", "auprc", "accuracy", "f1"):
        assert found[metric, MICRO] == pytest.approx(reference[metric](*pooled)), metric


def test_a_class_that_is_absent_is_left_out_of_the_mean_and_named() -> None:
    p, y = probabilities(50, 3), np.random.default_rng(1).integers(0, 2, 50)
    found = Classes(NAMES[:3]).score(y, p, ones(50))
    for metric in ("auroc", "auprc", "f1", "recall", "sensitivity_at_specificity_90", "specificity_at_sensitivity_90"):
        assert np.isnan(found[metric, "c"][0])
        assert found[metric, MACRO][0] == pytest.approx((found[metric, "a"][0] + found[metric, "b"][0]) / 2)
    assert unscored(Classes(NAMES[:3]).answers(y), NAMES[:3]) == {"c": "positive"}
    labels = np.array([[1, 0, 1, -1, 1], [0, 0, 1, -1, -1]])
    assert unscored(labels, NAMES[:5]) == {
        "b": "positive",
        "c": "negative",
        "d": "known",
        "e": "negative",
    }


@pytest.mark.parametrize("labels", [np.full((4, 2), -1), np.ones((4, 2), int), np.zeros((4, 2), int)])
def test_without_any_class_to_score_there_is_no_number_and_no_crash(labels: np.ndarray) -> None:
    found = Labels(NAMES[:2]).score(labels, np.full((4, 2), 0.3), ones(4))
    assert all(np.isnan(value).all() for (_, name), value in found.items() if name != MICRO)


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_a_weighting_is_the_score_of_the_rows_it_repeats(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, k = np.random.default_rng(0), 2 if task == "binary" else 3
    p = rng.random((60, 3)) if task == "multilabel" else probabilities(60, k)
    y = rng.integers(-1, 2, (60, 3)) if task == "multilabel" else rng.integers(0, k, 60)
    weights = bootstrap_weights(60, None, 130, rng)
    score = partial(read_task(task, NAMES[:k]).score, ordinal=task == "multiclass")
    found = score(y, p, weights)
    for b in (0, 77, 129):
        rows = drawn(weights[b])
        alone = score(y[rows], p[rows], ones(60))
        for key in found:
            assert found[key][b] == pytest.approx(alone[key][0], rel=1e-12), key
    monkeypatch.setattr(scores, "BLOCK", 1)  # 64 weightings at a time
    for key, value in score(y, p, weights).items():
        np.testing.assert_array_equal(value, found[key])


def test_only_what_is_asked_for_is_computed() -> None:
    p, y = probabilities(40, 3), np.arange(40) % 3
    everything = Classes(NAMES[:3]).score(y, p, ones(40), ordinal=True)
    assert {metric for metric, _ in everything} == set(METRICS)
    for metric in METRICS:
        some = Classes(NAMES[:3]).score(y, p, ones(40), metrics=[metric])
        assert {name for name, _ in some} == {metric}
        assert all(some[key] == everything[key] for key in some)


@pytest.mark.parametrize(
    ("task", "labels", "metrics", "message"),
    [
        ("multiclass", np.array([0, 1, 2]), ["aurok"], "unknown metric 'aurok'; did you mean 'auroc'"),
        ("multiclass", np.array([0, 1, 3]), None, "labels of multiclass data lie between 0 and 2, not 0 and 3"),
        ("multilabel", np.full((3, 3), 2), None, "lie between -1 and 1, not 2 and 2"),
        ("multilabel", np.zeros((3, 3), int), ["quadratic_kappa"], "these data are multi-label"),
    ],
)
def test_what_cannot_be_scored_is_said(task: str, labels: np.ndarray, metrics: list[str] | None, message: str) -> None:
    with pytest.raises(ProbeError, match=message):
        read_task(task, NAMES[:3]).score(labels, probabilities(3, 3), ones(3), metrics=metrics)


def test_probabilities_must_fit_the_classes_and_be_finite() -> None:
    y, p = np.array([0, 1, 1]), probabilities(3, 2)
    with pytest.raises(ProbeError, match=r"probabilities are \(3, 2\), not 3 rows by 3 classes"):
        Classes(NAMES[:3]).score(y, p, ones(3))
    with pytest.raises(ProbeError, match="not finite"):
        Classes(NAMES[:2]).score(y, np.full((3, 2), np.nan), ones(3))


@pytest.mark.parametrize(
    ("flag", "task"), [("breastmnist", Classes(2)), ("bloodmnist", Classes(8)), ("chestmnist", Labels(14))]
)
def test_scores_equal_the_evaluator_of_medmnist(flag: str, task: Task, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its imports
        evaluation = pytest.importorskip("medmnist.evaluator", reason="the package medmnist is not installed")
    rng, n, classes = np.random.default_rng(0), 300, task.outputs
    y = rng.integers(0, 2, (n, classes)) if task.independent else rng.integers(0, classes, n)
    np.savez(tmp_path / f"{flag}.npz", test_labels=y.reshape(n, -1))
    p = rng.random((n, classes)) if task.independent else probabilities(n, classes, digits=2)
    theirs = evaluation.Evaluator(flag, "test", root=str(tmp_path)).evaluate(p)
    ours = task.score(y, p, ones(n), metrics=["auroc", "accuracy"])
    assert ours["auroc", MACRO][0] == pytest.approx(theirs.AUC, rel=1e-12)
    assert ours["accuracy", MACRO][0] == pytest.approx(theirs.ACC, rel=1e-12)
