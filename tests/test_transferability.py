"""Transferability against definitions and other libraries, and what must and must not move each score."""

import numpy as np
import pytest
from scipy import optimize, stats
from sklearn.covariance import LedoitWolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import NearestCentroid

from analysis.transferability import (
    Spectrum,
    fisher_ratio,
    h_score,
    log_me,
    maximum_evidence,
    nearest_centroid_accuracy,
    rank_me,
    shrunk_h_score,
    transferability,
)
from probe.base.errors import ProbeError

SHAPES = [(60, 8), (30, 50)]  # fewer and more features than rows


def problem(n: int = 60, d: int = 8, classes: int = 3, spread: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = np.arange(n) % classes
    x = rng.normal(size=(n, d)) * rng.uniform(0.5, 2, d) + spread * rng.normal(size=(classes, d))[y] + 1
    x[:, 0] = 2  # a constant column
    return x, y


def log_density(x: np.ndarray, target: np.ndarray, alpha: float, beta: float) -> float:
    covariance = x @ x.T / alpha + np.eye(len(x)) / beta
    return float(stats.multivariate_normal(np.zeros(len(x)), covariance).logpdf(target))


@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize("spread", [0.0, 1.5])
def test_evidence_is_a_normal_density_at_its_maximum(n: int, d: int, spread: float) -> None:
    x, y = problem(n, d, spread=spread)
    target = (y == 1).astype(float)
    found = maximum_evidence(Spectrum.of(x), target)
    assert found.log == pytest.approx(log_density(x, target, found.alpha, found.beta), abs=1e-6)

    def loss(logs: np.ndarray) -> float:
        return -log_density(x, target, *np.exp(logs))

    starts = [(-2, 0), (6, 3)]
    best = min(optimize.minimize(loss, start, method="Nelder-Mead", bounds=[(-15, 15)] * 2).fun for start in starts)
    assert -found.log == pytest.approx(best, abs=1e-3)
    assert -found.log < best + 1e-6


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_log_me_ends_where_the_published_iteration_ends(n: int, d: int) -> None:
    """Alpha and beta as in algorithm 1, from 1 and 1, until they stand still."""
    x, y = problem(n, d, spread=1.5)
    values, vectors = np.linalg.eigh(x.T @ x)
    values = values.clip(0)
    evidences = []
    for k in range(3):
        target, alpha, beta = (y == k).astype(float), 1.0, 1.0
        for _ in range(5000):
            gamma = (beta * values / (alpha + beta * values)).sum()
            m = beta * vectors @ ((vectors.T @ (x.T @ target)) / (alpha + beta * values))
            alpha, beta = gamma / (m @ m), (n - gamma) / ((x @ m - target) ** 2).sum()
        error = beta / 2 * ((x @ m - target) ** 2).sum() + alpha / 2 * (m @ m)
        half_logs = d * np.log(alpha) + n * np.log(beta / 2 / np.pi) - np.log(alpha + beta * values).sum()
        evidences.append((half_logs / 2 - error) / n)
    assert log_me(x, y[None]) == pytest.approx(np.mean(evidences), abs=1e-6)


def test_a_target_fitted_without_error_has_no_largest_evidence() -> None:
    x, y = problem()
    x = np.column_stack([x, y == 0, y == 1, y == 2])
    assert log_me(x, y[None]) == np.inf


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_h_score_equals_its_definition(n: int, d: int) -> None:
    x, y = problem(n, d)
    means = np.stack([x[y == k].mean(0) for k in y])
    plain = np.trace(np.linalg.pinv(np.cov(x.T), rcond=1e-10) @ np.cov(means.T))
    assert h_score(x, y[None]) == pytest.approx(plain, rel=1e-8)
    fitted = LedoitWolf().fit(x)
    shrunk = np.trace(np.linalg.inv(fitted.covariance_) @ np.cov(means.T, bias=True)) * (1 - fitted.shrinkage_)
    assert shrunk_h_score(x, y[None]) == pytest.approx(shrunk, rel=1e-8)
    if d > n:
        assert h_score(x, y[None]) == pytest.approx(2)  # whatever the labels
        assert shrunk_h_score(x, y[None]) < 1.9


def test_h_score_is_the_sum_of_canonical_correlations() -> None:
    """Of linear discriminant analysis: eigenvalues l of within^-1 between are l / (1 + l) of total^-1 between."""
    x, y = problem()
    x = x[:, 1:]
    model = LinearDiscriminantAnalysis(solver="eigen").fit(x, y)
    between = np.trace(np.linalg.solve(np.cov(x.T, bias=True), np.cov(model.means_[y].T, bias=True)))
    assert h_score(x, y[None]) == pytest.approx(between)


def test_fisher_ratio_and_rank_equal_their_definitions() -> None:
    x, y = problem()
    between = sum((y == k).sum() * ((x[y == k].mean(0) - x.mean(0)) ** 2).sum() for k in range(3))
    total = ((x - x.mean(0)) ** 2).sum()
    assert fisher_ratio(x, y[None]) == pytest.approx(between / (total - between))
    f_value = stats.f_oneway(*(x[y == k, 1] for k in range(3))).statistic
    assert fisher_ratio(x[:, [1]], y[None]) * 57 / 2 == pytest.approx(f_value)
    assert rank_me(x) == pytest.approx(np.exp(stats.entropy(np.sqrt(np.linalg.eigvalsh(x.T @ x).clip(0)))))
    assert rank_me(np.eye(7)) == pytest.approx(7)
    assert rank_me(np.outer(np.arange(5.0), np.arange(3.0))) == pytest.approx(1)


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_centroid_accuracy_equals_leaving_each_row_out(n: int, d: int) -> None:
    x, y = problem(n, d)
    predicted = cross_val_predict(NearestCentroid(), x[:, 1:], y, cv=LeaveOneOut())
    assert nearest_centroid_accuracy(x, y[None]) == pytest.approx((predicted == y).mean())
    y[0] = 3  # a class of one
    assert nearest_centroid_accuracy(x, y[None]) <= 1 - 1 / n


STAYS = {
    "rotated": set("log_me h_score shrunk_h_score fisher_ratio nearest_centroid_accuracy rank_me".split()),
    "scaled": set("log_me h_score shrunk_h_score fisher_ratio nearest_centroid_accuracy rank_me".split()),
    "shifted": set("h_score shrunk_h_score fisher_ratio nearest_centroid_accuracy".split()),
    "stretched": {"h_score"},
    "relabelled": set("log_me h_score shrunk_h_score fisher_ratio nearest_centroid_accuracy rank_me".split()),
}


@pytest.mark.parametrize("change", STAYS)
def test_what_must_and_must_not_move_a_score(change: str) -> None:
    x, y = problem()
    turn = stats.ortho_group.rvs(8, random_state=0)
    other = {
        "rotated": x @ turn, "scaled": 37 * x, "shifted": x + 5.0, "stretched": x * [1, 20, 1, 1, 9, 1, 1, 1],
        "relabelled": x,
    }[change]  # fmt: skip
    z = np.array([2, 0, 1])[y] if change == "relabelled" else y
    before, after = transferability(x, y[None]), transferability(other, z[None])
    stays = {name for name in before if after[name] == pytest.approx(before[name], rel=1e-6)}
    assert stays == STAYS[change]


def asked(n: int, d: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Features, and the one question there is to ask of them."""
    x, y = problem(n, d, spread=spread)
    return x, y[None]


def test_better_features_score_higher_and_noise_scores_lowest() -> None:
    found = [transferability(*asked(120, 8, spread)) for spread in (0.0, 0.5, 2.0)]
    for name in set(found[0]) - {"rank_me"}:
        assert found[0][name] < found[1][name] < found[2][name]


def test_of_several_labels_unknown_rows_are_left_out_label_by_label() -> None:
    x, y = problem()
    labels = np.stack([y == 0, y == 1, np.zeros(60), np.full(60, -1)], 1).astype(np.int64)
    labels[5:20, 1] = -1
    known = labels[:, 1] >= 0
    found = transferability(x, labels.T)
    first = transferability(x, labels[:, 0][None])
    second = transferability(x[known], labels[known, 1][None])
    for name in set(found) - {"rank_me"}:
        assert found[name] == pytest.approx((first[name] + second[name]) / 2)


def test_absent_classes_are_no_target() -> None:
    x, y = problem()
    expected = transferability(x, y[None])
    assert transferability(x, np.array([1, 3, 4])[y][None]) == pytest.approx(expected)
    assert set(expected) == STAYS["rotated"]


def test_features_in_single_precision_far_from_zero_keep_their_scores() -> None:
    x, y = problem()
    shifted = np.float32(x + 1000)
    for score in (h_score, shrunk_h_score, fisher_ratio, nearest_centroid_accuracy):
        assert score(shifted, y[None]) == pytest.approx(score(x, y[None]), rel=1e-3)


def test_bad_input_is_told() -> None:
    x, y = problem()
    with pytest.raises(ProbeError, match="no two classes"):
        log_me(x, np.zeros_like(y)[None])
    with pytest.raises(ProbeError, match="59 labels do not fit 60 rows of features"):
        h_score(x, y[None, 1:])
    with pytest.raises(ProbeError, match="same in every row"):
        fisher_ratio(np.ones((60, 3)), y[None])
    with pytest.raises(ProbeError, match="all zero"):
        rank_me(np.zeros((60, 3)))
    x[[4, 8]] = np.nan
    with pytest.raises(ProbeError, match="2 rows .* row 4"):
        transferability(x, y[None])
