"""Neighbours and class means against scikit-learn, the definition, and what ties, zeros and unknown labels must do."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import StandardScaler

from probe.base.errors import ProbeError
from probe.probes import neighbours
from probe.probes.centroids import fit_centroids
from probe.probes.neighbours import TEMPERATURE, fit_neighbours
from probe.probes.readout import ReadOut
from probe.tasks import Classes, Labels

KS = (1, 5, 20)


def problem(n: int = 120, d: int = 12, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = np.arange(n) % classes
    return np.float32(rng.normal(size=(n, d)) + 0.8 * rng.normal(size=(classes, d))[y] + 2), y


def voters(distances: np.ndarray) -> np.ndarray:
    return np.exp((1 - distances) / TEMPERATURE)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("d", [3, 150])
def test_neighbours_equal_scikit_learn_at_every_k(classes: int, d: int) -> None:
    x, y = problem(d=d, classes=classes)
    fitted = fit_neighbours(x[:80], y[:80], Classes(classes), KS)
    found = fitted.probabilities(x[80:])
    assert found.dtype == np.float64
    for i, k in enumerate(KS):
        model = KNeighborsClassifier(k, metric="cosine", weights=voters).fit(x[:80].astype(float), y[:80])
        np.testing.assert_allclose(found[i], model.predict_proba(x[80:].astype(float)), atol=1e-6)
        np.testing.assert_array_equal(fitted.only(i).probabilities(x[80:])[0], found[i])
        np.testing.assert_array_equal(fitted.probabilities(x[80:], i), found[i])


def test_neighbours_are_turned_and_scaled_but_not_shifted() -> None:
    x, y = problem()
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(12, 12)))[0]
    scales = np.random.default_rng(2).uniform(0.1, 9, (120, 1))

    def read(z: np.ndarray) -> np.ndarray:
        return fit_neighbours(z[:80], y[:80], Classes(3), KS).probabilities(z[80:])

    base = read(x.astype(float))
    np.testing.assert_allclose(read(x @ turn * scales), base, atol=1e-6)
    assert np.abs(read(x + 3.0) - base).max() > 0.1


def test_of_equally_near_rows_the_first_ones_vote_whatever_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-1, 2, (300, 3)).astype(np.float64) * rng.integers(1, 5, (300, 1))  # few directions, many lengths
    y = rng.integers(0, 3, 300)
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300)
    similar = np.round(unit[200:] @ unit[:200].T, 9)
    order = np.argsort(-similar, axis=1, kind="stable")[:, :5]
    weight = np.exp(np.take_along_axis(similar, order, 1) / TEMPERATURE)[..., None]
    expected = (weight * np.eye(3)[y[:200]][order]).sum(1) / weight.sum(1)
    fitted = fit_neighbours(x[:200], y[:200], Classes(3), (5,))
    whole = fitted.probabilities(x[200:])
    np.testing.assert_allclose(whole[0], expected, atol=1e-8)
    for held in (1, 2000):
        monkeypatch.setattr(neighbours, "HELD", held)
        np.testing.assert_allclose(fitted.probabilities(x[200:]), whole, atol=1e-12)


def test_a_row_of_zeros_has_no_direction() -> None:
    x, y = problem()
    x[[0, 90]] = 0
    fitted = fit_neighbours(x[:80], y[:80], Classes(3), (80,))
    assert not fitted.directions[0].any()
    found = fitted.probabilities(x[80:])[0]
    np.testing.assert_allclose(found[10], np.bincount(y[:80]) / 80)  # all are equally near
    toward = x[1:80].astype(float) @ x[85] / np.linalg.norm(x[1:80].astype(float), axis=1) / np.linalg.norm(x[85])
    votes = np.exp(np.r_[0, toward] / TEMPERATURE)
    np.testing.assert_allclose(found[5], np.bincount(y[:80], votes) / votes.sum(), atol=1e-6)


def test_unknown_labels_have_no_vote() -> None:
    x, _ = problem()
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 2, (80, 4))
    labels[:, 2], labels[:, 3] = -1, 1
    labels[:60, 1] = -1  # known of so few that some rows have none among their neighbours
    found = fit_neighbours(x[:80], labels, Labels(4), (3, 80)).probabilities(x[80:])
    unit = x.astype(float) / np.linalg.norm(x.astype(float), axis=1, keepdims=True)
    lonely = 0
    for i, k in enumerate((3, 80)):
        for row in range(40):
            similar = unit[80 + row] @ unit[:80].T
            near = np.argsort(-similar)[:k]
            for label in (0, 1):
                known = near[labels[near, label] >= 0]
                share = labels[labels[:, label] >= 0, label].mean()
                weights = np.exp(similar[known] / TEMPERATURE)
                lonely += not len(known)
                expected = np.average(labels[known, label], weights=weights) if len(known) else share
                assert found[i, row, label] == pytest.approx(expected, abs=1e-6)
    assert lonely
    assert (found[..., 2] == 0).all()
    np.testing.assert_allclose(found[..., 3], 1)


def test_a_row_can_be_left_out_of_its_own_neighbours() -> None:
    x, y = problem(60)
    fitted = fit_neighbours(x, y, Classes(3), (1, 59))
    rows = np.array([7, 3, 30])
    found = fitted.probabilities(x[rows], without=rows)
    for i, row in enumerate(rows):
        others = np.delete(np.arange(60), row)
        each = fit_neighbours(x[others], y[others], Classes(3), (1, 59)).probabilities(x[[row]])
        np.testing.assert_allclose(found[:, i], each[:, 0], atol=1e-9)
    with pytest.raises(ProbeError, match="60 neighbours .* 1 to 59"):
        fit_neighbours(x, y, Classes(3), (60,)).probabilities(x, without=np.arange(60))


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("d", [5, 200])
def test_centroids_decide_as_scikit_learn_and_follow_the_definition(classes: int, d: int) -> None:
    x, y = problem(d=d, classes=classes)
    x[:, 0] = 7  # a constant feature, of which scikit-learn would warn
    fitted = fit_centroids(x[:80], y[:80], Classes(classes))
    found = fitted.probabilities(x[80:])
    scaler = StandardScaler().fit(x[:80].astype(float))
    z = scaler.transform(x.astype(float))
    model = NearestCentroid().fit(z[:80, 1:], y[:80])
    np.testing.assert_array_equal(found[0].argmax(1), model.predict(z[80:, 1:]))
    means = np.stack([z[:80][y[:80] == k].mean(0) for k in range(classes)])
    far = ((z[80:, None] - means) ** 2).mean(2)
    np.testing.assert_allclose(found[0], softmax(-far / 2, axis=1), atol=1e-12)
    assert 0.01 < found.max(2).mean() < 0.99  # far from saturated, however many features
    np.testing.assert_array_equal(fitted.only(0).probabilities(x[80:], 0), found[0])


def test_centroids_do_not_see_units_and_do_see_turns() -> None:
    x, y = problem()
    rng = np.random.default_rng(1)

    def read(z: np.ndarray) -> np.ndarray:
        return fit_centroids(z[:80], y[:80], Classes(3)).probabilities(z[80:])

    base = read(x.astype(float))
    np.testing.assert_allclose(read(x * rng.uniform(0.1, 9, 12) + rng.normal(size=12)), base, atol=1e-9)
    stretched = x * np.array([100.0] + 11 * [1.0])
    assert np.abs(read(stretched @ np.linalg.qr(rng.normal(size=(12, 12)))[0]) - base).max() > 1e-3


def test_of_several_labels_each_is_a_question_of_its_own() -> None:
    x, y = problem()
    labels = np.stack([y == 0, y > 0, np.ones(120), np.zeros(120), np.full(120, -1)], 1).astype(np.int64)
    labels[::4, 1] = -1
    found = fit_centroids(x[:80], labels[:80], Labels(5)).probabilities(x[80:])[0]
    alone = fit_centroids(x[:80], (y[:80] == 0).astype(np.int64), Classes(2)).probabilities(x[80:])[0]
    np.testing.assert_allclose(found[:, 0], alone[:, 1], atol=1e-12)
    z = StandardScaler().fit(x[:80].astype(float)).transform(x.astype(float))
    near, far = (z[:80][labels[:80, 1] == kind].mean(0) for kind in (1, 0))
    gap = ((z[80:] - far) ** 2).mean(1) - ((z[80:] - near) ** 2).mean(1)
    np.testing.assert_allclose(found[:, 1], 1 / (1 + np.exp(-gap / 2)), atol=1e-12)
    assert [set(column) for column in found[:, 2:].T] == [{1.0}, {0.0}, {0.0}]


def test_a_class_without_training_rows_is_never_likely() -> None:
    x, y = problem()
    readouts: list[ReadOut] = [
        fit_neighbours(x[:80], y[:80], Classes(4), (5,)),
        fit_centroids(x[:80], y[:80], Classes(4)),
    ]
    for fitted in readouts:
        found = fitted.probabilities(x[80:])
        assert (found[..., 3] == 0).all()
        np.testing.assert_allclose(found.sum(2), 1)


def test_bad_input_is_told() -> None:
    x, y = problem()
    bad = x.copy()
    bad[[9, 4], 2] = np.nan, np.inf
    for fit in (lambda z: fit_neighbours(z, y, Classes(3), (5,), name="tap 'stem'"),
                lambda z: fit_centroids(z, y, Classes(3), name="tap 'stem'")):  # fmt: skip
        with pytest.raises(ProbeError, match="^tap 'stem': 2 rows .* not finite, the first of them row 4"):
            fit(bad)
        with pytest.raises(ProbeError, match="^tap 'stem': 2 rows .* not finite"):
            fit(x).probabilities(bad)
    for ks, words in (((5, 121), "121 neighbours .* 1 to 120"), ((0,), "0 neighbours"), ((), "no number")):
        with pytest.raises(ProbeError, match=words):
            fit_neighbours(x, y, Classes(3), ks)
    with pytest.raises(ProbeError, match="no training rows"):
        fit_centroids(x[:0], y[:0], Classes(3))


def test_more_neighbours_follow_the_rows_more_smoothly() -> None:
    """With every row voting at equal weight nothing but the prevalence is left."""
    x, y = problem()
    found = fit_neighbours(x[:80], y[:80], Classes(3), KS).probabilities(x[80:])
    assert all(a.std() > b.std() for a, b in pairwise(found))


def test_rows_beyond_the_first_chunk_count() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(9000, 2)), rng.integers(0, 2, 9000)
    x[8500:] += 5
    found = fit_centroids(x, y, Classes(2))
    np.testing.assert_allclose(found.center, x.mean(0))
    np.testing.assert_allclose(found.scale, x.std(0))
    means = (np.stack([x[y == k].mean(0) for k in (0, 1)]) - x.mean(0)) / x.std(0)
    np.testing.assert_allclose(found.weights, means / 2, atol=1e-12)
    assert found.probabilities(x).shape == (1, 9000, 2)
    x[8900] = np.nan
    with pytest.raises(ProbeError, match="first of them row 8900"):
        fit_neighbours(x, y, Classes(2), (1,))
