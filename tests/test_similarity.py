"""Measures of similarity against their definitions, other libraries, and both lists of invariances of the papers."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes, subspace_angles
from scipy.spatial import procrustes as scipy_procrustes
from scipy.spatial.distance import pdist, squareform
from scipy.stats import ortho_group
from sklearn.cross_decomposition import CCA
from sklearn.neighbors import NearestNeighbors

from analysis.similarity import (
    MEASURES,
    MinibatchCKA,
    cca_coefficients,
    cca_curve,
    cka_matrix,
    cka_of_all_pairs,
    linear_cka,
    measure,
    mutual_knn,
    procrustes,
    pwcca,
    rbf_cka,
    svcca,
)
from probe.base.errors import ProbeError

SHAPES = [(50, 8, 12), (20, 40, 8), (15, 60, 50), (4, 3, 3)]
Array = np.ndarray


def pair(n: int = 60, d1: int = 6, d2: int = 9, seed: int = 0) -> tuple[Array, Array]:
    """Two sets of features that share some of what they say."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d1)) * np.linspace(1, 3, d1), rng.normal(size=(n, d2))
    y[:, :3] += x[:, :3]
    return x, y


def biased(k: Array, m: Array) -> float:
    """tr(K H L H) as it is written."""
    h = np.eye(len(k)) - 1 / len(k)
    return float(np.trace(k @ h @ m @ h))


def unbiased(k: Array, m: Array) -> float:
    """Song et al. 2012, equation 5, as it is written; k and m are left as they are."""
    n = len(k)
    k, m = (z - np.diag(np.diag(z)) for z in (k, m))
    one = np.ones(n)
    last = 2 / (n - 2) * one @ k @ m @ one
    return float((np.trace(k @ m) + one @ k @ one * (one @ m @ one) / (n - 1) / (n - 2) - last) / (n * (n - 3)))


def by_definition(k: Array, m: Array, hsic: Callable[[Array, Array], float] = biased) -> float:
    return hsic(k, m) / float(np.sqrt(hsic(k, k) * hsic(m, m)))


def gram(x: Array) -> Array:
    """A linear kernel in float64; a common mean is taken off first, or not even float64 would do."""
    x = np.asarray(x, float) - np.asarray(x, float).mean(0)
    return x @ x.T


@pytest.mark.parametrize(("n", "d1", "d2"), SHAPES)
@pytest.mark.parametrize("mean", [0, 1000])
@pytest.mark.parametrize("hsic", [biased, unbiased])
def test_linear_cka_equals_the_definition(n: int, d1: int, d2: int, mean: float, hsic: Callable) -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(n, d1)) + mean).astype(np.float32)
    y = np.float32(np.tanh((x - mean) @ rng.normal(size=(d1, d2)) / 3) + rng.normal(size=(n, d2)) / 10 + mean)
    expected = by_definition(gram(x), gram(y), hsic)
    assert linear_cka(x, y, unbiased=hsic is unbiased) == pytest.approx(expected, abs=1e-10)
    found = cka_matrix({"x": x}, {"y": y}, unbiased=hsic is unbiased)
    assert found.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("n", [40, 300])
@pytest.mark.parametrize("hsic", [biased, unbiased])
def test_all_pairs_in_both_spaces_and_in_pieces(n: int, hsic: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever way is cheaper, and however little may be held at once, also with a last block of one row."""
    rng = np.random.default_rng(0)
    source = rng.normal(size=(n, 20))
    a = {str(d): (np.tanh(source @ rng.normal(size=(20, d))) + 1000).astype(np.float32) for d in (7, 30, 64, 33)}
    b = {str(d): np.float32(source @ rng.normal(size=(20, d))) * 1e20 for d in (5, 50)}
    expected = [[by_definition(gram(x), gram(y), hsic) for y in b.values()] for x in a.values()]
    itself = [[by_definition(gram(x), gram(y), hsic) for y in a.values()] for x in a.values()]
    for ways in (("_over_samples", "_over_features"), ("_over_features", "_over_samples")):
        for held, rows, chunk in ((2**29, 2048, 4096), (2**16, n - 1, 64)):
            with monkeypatch.context() as patch:
                only = getattr(cka_of_all_pairs, ways[0])
                over = only if ways[0] == "_over_features" else lambda taps, _, only=only: only(taps)
                patch.setattr(cka_of_all_pairs, "off_diagonal_sums", over)
                for name, value in (("HELD", held), ("ROWS", rows), ("CHUNK", chunk)):
                    patch.setattr(cka_of_all_pairs, name, value)
                np.testing.assert_allclose(cka_matrix(a, b, unbiased=hsic is unbiased), expected, atol=1e-6)
                np.testing.assert_allclose(cka_matrix(a, unbiased=hsic is unbiased), itself, atol=1e-6)
    np.testing.assert_allclose(np.diag(cka_matrix(a, unbiased=hsic is unbiased)), 1, atol=1e-12)


def test_the_cheaper_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    for name in ("_over_samples", "_over_features"):
        way = getattr(cka_of_all_pairs, name)
        monkeypatch.setattr(
            cka_of_all_pairs, name, lambda *given, way=way, name=name: (taken.append(name), way(*given))[1]
        )
    x, y = pair(20, 40, 50)
    cka_matrix({"x": x, "y": y})
    x, y = pair(100, 4, 5)
    cka_matrix({"x": x, "y": y})
    assert taken == ["_over_samples", "_over_features"]


@pytest.mark.parametrize("hsic", [biased, unbiased])
def test_rbf_cka_equals_the_definition(hsic: Callable) -> None:
    x, y = pair(30)

    def kernel(z: Array) -> Array:
        distances = pdist(z)
        return np.exp(-(squareform(distances) ** 2) / (2 * (0.4 * np.median(distances)) ** 2))

    expected = by_definition(kernel(x), kernel(y), hsic)
    assert rbf_cka(x, y, bandwidth=0.4, unbiased=hsic is unbiased) == pytest.approx(expected, abs=1e-10)
    assert rbf_cka(x, y, bandwidth=500.0) == pytest.approx(linear_cka(x, y), abs=1e-4)  # its limit


def test_unbiased_cka_of_noise_is_zero_and_is_not_clamped() -> None:
    found = [linear_cka(*np.random.default_rng(seed).normal(size=(2, 20, 60)), unbiased=True) for seed in range(200)]
    assert min(found) < 0
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))
    assert linear_cka(*np.random.default_rng(0).normal(size=(2, 20, 60))) > 0.7  # the biased one sees agreement


def test_cca_against_principal_angles_and_scikit_learn() -> None:
    x, y = pair()
    found = cca_coefficients(x, y)
    np.testing.assert_allclose(found, np.cos(subspace_angles(x - x.mean(0), y - y.mean(0)))[::-1], atol=1e-10)
    fitted = CCA(3, max_iter=5000, tol=1e-12).fit(x, y)
    variates = zip(*(scores.T for scores in fitted.transform(x, y)), strict=True)
    np.testing.assert_allclose(found[:3], [np.corrcoef(u, v)[0, 1] for u, v in variates], atol=1e-5)
    assert cca_coefficients(np.float32([*x.T, x[:, 0] + x[:, 1]]).T, y).shape == (6,)  # a sum of columns adds nothing


def test_svcca_keeps_the_variance_it_is_told_to() -> None:
    x, y = pair(80, 6, 9)

    def leading(z: Array) -> Array:
        z = z - z.mean(0)
        values, axes = np.linalg.eigh(z.T @ z)
        count = next(c for c in range(1, 10) if values[::-1][:c].sum() >= 0.8 * values.sum())
        return z @ axes[:, ::-1][:, :count]

    a, b = leading(x), leading(y)
    assert a.shape[1] < x.shape[1]
    assert svcca(x, y, keep=0.8) == pytest.approx(np.cos(subspace_angles(a, b)).mean())


def test_pwcca_equals_the_definition() -> None:
    """Morcos et al. 2018 written out: whitened covariances, their singular vectors, weights from the variates of x."""
    x, y = (z - z.mean(0) for z in pair())

    def whitening(z: Array) -> Array:
        values, axes = np.linalg.eigh(z.T @ z)
        return axes / np.sqrt(values) @ axes.T

    u, found, _ = np.linalg.svd(whitening(x) @ x.T @ y @ whitening(y), full_matrices=False)
    variates = x @ whitening(x) @ u
    weights = np.abs(variates.T @ x).sum(1)
    assert pwcca(x, y) == pytest.approx(weights @ found / weights.sum())
    assert abs(pwcca(x, y) - pwcca(y, x)) > 0.01  # the weights are those of the first


def test_procrustes_against_scipy() -> None:
    x, y = pair(d1=6, d2=6)
    assert procrustes(x, y) == pytest.approx(np.sqrt(1 - scipy_procrustes(x, y)[2]))
    for shape in ((60, 6, 9), (12, 30, 40)):
        x, y = pair(*shape)
        a, b = (np.pad(z - z.mean(0), ((0, 0), (0, max(shape[1:]) - z.shape[1]))) for z in (x, y))
        a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
        left = np.linalg.norm(a @ orthogonal_procrustes(a, b)[0] - b) ** 2
        assert procrustes(x, y) == pytest.approx(1 - left / 2)


def test_mutual_knn_against_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = pair()
    near = [NearestNeighbors(n_neighbors=5, metric="cosine").fit(z).kneighbors(return_distance=False) for z in (x, y)]
    expected = np.mean([len(set(a) & set(b)) / 5 for a, b in zip(*near, strict=True)])
    monkeypatch.setattr("analysis.similarity.neighbours.BLOCK", 59)  # and a last block of one
    assert mutual_knn(x, y, k=5) == pytest.approx(expected)
    assert 0 < expected < 1


ALL: dict[str, Callable[[Array, Array], float]] = {
    "cka": linear_cka,
    "unbiased cka": partial(linear_cka, unbiased=True),
    "rbf cka": rbf_cka,
    "svcca": partial(svcca, keep=0.8),
    "cca": partial(svcca, keep=1.0),
    "pwcca": pwcca,
    "procrustes": procrustes,
    "mutual knn": partial(mutual_knn, k=5),
}
TURN, MAP = ortho_group.rvs(6, random_state=0), np.diag([9.0, 1, 1, 1, 1, 5])
TURN_Y, MAP_Y = ortho_group.rvs(9, random_state=0), np.random.default_rng(4).normal(size=(9, 9)) + np.eye(9)
CHANGES: dict[str, Callable[[Array, Array], tuple[Array, Array]]] = {
    "rotation": lambda x, y: (x @ TURN, y),
    "rotation of y": lambda x, y: (x, y @ TURN_Y),
    "shift": lambda x, y: (x + np.arange(6) - 5, y),
    "scale": lambda x, y: (x * 7, y / 3),
    "linear map": lambda x, y: (x @ MAP, y),
    "linear map of y": lambda x, y: (x, y @ MAP_Y),
    "scale of a row": lambda x, y: (x * np.linspace(1, 9, len(x))[:, None], y),
    "order": lambda x, y: (x[::-1], y[::-1]),
    "rows out of step": lambda x, y: (x, np.roll(y, 1, 0)),
}
UNCHANGED = {  # what the papers claim; everything else must change it
    "cka": {"rotation", "rotation of y", "shift", "scale", "order"},
    "unbiased cka": {"rotation", "rotation of y", "shift", "scale", "order"},
    "rbf cka": {"rotation", "rotation of y", "shift", "scale", "order"},
    "svcca": {"rotation", "rotation of y", "shift", "scale", "order"},
    "cca": {"rotation", "rotation of y", "shift", "scale", "order", "linear map", "linear map of y"},
    "pwcca": {"rotation of y", "shift", "scale", "order", "linear map of y"},
    "procrustes": {"rotation", "rotation of y", "shift", "scale", "order"},
    "mutual knn": {"rotation", "rotation of y", "scale", "order", "scale of a row"},
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ALL)
def test_what_must_and_must_not_change_it(name: str, change: str) -> None:
    x, y = pair()
    base, found = ALL[name](x, y), ALL[name](*CHANGES[change](x, y))
    if change in UNCHANGED[name]:
        assert found == pytest.approx(base, abs=1e-9)
    else:
        assert abs(found - base) > 1e-3


@pytest.mark.parametrize("name", ALL)
def test_features_are_like_themselves(name: str) -> None:
    x, y = pair()
    assert ALL[name](x, x) == pytest.approx(1, abs=1e-12)
    assert ALL[name](x, y) < 0.99
    if name != "pwcca":
        assert ALL[name](x, y) == pytest.approx(ALL[name](y, x))


@pytest.mark.parametrize("name", MEASURES)
def test_matrices_are_the_measures_pair_by_pair(name: str) -> None:
    rng = np.random.default_rng(0)
    a = {tap: rng.normal(size=(30, d)) for tap, d in [("stem", 4), ("layer1", 8), ("layer2", 16)]}
    b = {"x": a["stem"] + rng.normal(size=(30, 4))}
    one = {"cka": linear_cka, "rbf-cka": rbf_cka, "svcca": svcca, "pwcca": pwcca, "procrustes": procrustes}
    each = one.get(name, mutual_knn)
    for other in (a, b):
        expected = [[each(x, y) for y in other.values()] for x in a.values()]
        np.testing.assert_allclose(measure(name)(a, None if other is a else other), expected, atol=1e-6)


def test_the_cca_curve_of_noise_has_no_area() -> None:
    rng = np.random.default_rng(0)
    noise = [cca_curve(*rng.normal(size=(2, 90, 20)), keep=1.0, generator=rng) for _ in range(10)]
    assert abs(np.mean([curve.area for curve in noise])) < 0.02
    assert noise[0].chance[0] > 0.7  # of 20 directions among 90 images some agree
    x, y = pair(90, 20, 25)
    curve = cca_curve(x, x, keep=1.0, generator=rng)
    assert curve.area == pytest.approx(1 - curve.chance.mean())
    np.testing.assert_allclose(cca_curve(x, y, keep=1.0, generator=rng).coefficients, cca_coefficients(x, y))


def test_minibatches_average_the_unbiased_hsic() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(37, 3, 4, 5)).astype(np.float32) + 1000
    y = np.float32(x[:, :2] - 1000 + rng.normal(size=(37, 2, 4, 5)))
    seen = MinibatchCKA()
    batches = [slice(0, 16), slice(16, 28), slice(28, 36), slice(36, 37)]  # the last has one image
    for rows in batches:
        seen.update((name, maps[rows]) for name, maps in (("x", x), ("y", y)))
    assert (seen.images, seen.batches, seen.left_out) == (36, 3, 1)
    grams = [[gram(z[rows].reshape(len(z[rows]), -1)) for z in (x, y)] for rows in batches[:3]]
    pairs_of = ((0, 1), (0, 0), (1, 1))
    xy, xx, yy = (np.average([unbiased(g[i], g[j]) for g in grams], weights=[16, 12, 8]) for i, j in pairs_of)
    found = seen.matrix()
    np.testing.assert_allclose(np.diag(found), 1)
    assert found[0, 1] == pytest.approx(xy / np.sqrt(xx * yy), abs=1e-6)
    flat = (x.reshape(37, -1), y.reshape(37, -1))
    for kind, error in ((np.float32, 1e-6), (np.float64, 1e-12)):
        whole = MinibatchCKA().update((name, z.astype(kind)) for name, z in (("x", x), ("y", y))).matrix()[0, 1]
        assert whole == pytest.approx(linear_cka(*flat, unbiased=True), abs=error)


def test_minibatches_have_bands_and_a_null() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(320, 6))
    maps = {"x": x, "y": x[:, :5] + rng.normal(size=(320, 5)), "z": rng.normal(size=(320, 5))}
    seen = MinibatchCKA(permutations=40, seed=1)
    for start in range(0, 320, 32):
        seen.update((name, each[start : start + 32]) for name, each in maps.items())
    found = seen.estimate(draws=100)
    np.testing.assert_allclose(found.value, seen.matrix())
    np.testing.assert_allclose(np.diag(found.low), 1)
    exact = [linear_cka(maps[a], maps[b], unbiased=True) for a, b in (("x", "y"), ("x", "z"))]
    assert found.low[0, 1] < exact[0] < found.high[0, 1]
    assert found.low[0, 2] < exact[1] < found.high[0, 2]
    assert 0 < found.null[0, 1] < 0.15 < found.low[0, 1]
    assert found.value[0, 2] < found.null[0, 2] < 0.15
    few = MinibatchCKA().update(maps.items()).estimate(draws=100)
    assert np.isnan(few.low).all()
    assert np.isnan(few.null).all()


def test_minibatches_read_maps_in_whatever_order_they_lie() -> None:
    maps = torch.randn(12, 5, 4, 3, generator=torch.Generator().manual_seed(0))
    other = torch.randn(12, 7, generator=torch.Generator().manual_seed(1)).double()
    plain = MinibatchCKA().update([("x", maps), ("y", other)]).matrix()
    for same in (maps.to(memory_format=torch.channels_last), maps.permute(0, 2, 3, 1).contiguous()):
        np.testing.assert_allclose(MinibatchCKA().update([("x", same), ("y", other)]).matrix(), plain, atol=1e-6)
    assert not np.isnan(MinibatchCKA().update([("x", maps.half()), ("y", other)]).matrix()).any()


def test_minibatches_refuse_what_does_not_fit() -> None:
    x, y = pair()
    for maps, message in (
        ({"x": x, "y": y[:9]}, "60 rows at 'x' and 9 at 'y'"),
        ({}, "none"),
        ({"x": x * np.inf}, "'x' has values that are not finite"),
    ):
        with np.errstate(invalid="ignore"), pytest.raises(ProbeError, match=message):
            MinibatchCKA().update(maps.items())
    with pytest.raises(ProbeError, match="no batch had 4 images"):
        MinibatchCKA().update([("x", x[:3])]).matrix()
    with pytest.raises(ProbeError, match="before there were"):
        MinibatchCKA().update([("x", x)]).update([("y", y)])
    with pytest.raises(ProbeError, match="'y' with itself"):
        MinibatchCKA().update([("x", x), ("y", np.ones((60, 2)))]).matrix()


@pytest.mark.parametrize("name", MEASURES)
def test_bad_input_is_one_clear_line(name: str) -> None:
    x, y = pair(20)
    for features, others, message in (
        ({"stem": x, "end": y[:19]}, None, "'stem' has 20 rows and 'end' 19"),
        ({"stem": x[:1]}, {"end": y[:1]}, "features of 1 image cannot be compared so; take at least 2"),
        ({"stem": x, "dead": np.full((20, 3), 0.1, np.float32)}, None, "'dead' is the same for every image"),
        ({"stem": x}, {"end": y * np.nan}, "'end' has values that are not finite"),
        ({"stem": x[:, 0]}, None, r"'stem' is \(20,\)"),
        ({}, None, "no taps"),
    ):
        with pytest.raises(ProbeError, match=message) as error:
            measure(name)(features, others)
        assert "\n" not in str(error.value)


def test_what_a_measure_alone_cannot_do() -> None:
    x, y = pair(20)
    most = np.eye(20)[:, :2] * 1.0
    wide = np.random.default_rng(0).normal(size=(20, 30))
    for call, message in (
        (lambda: linear_cka(x[:3], y[:3], unbiased=True), "3 images .* at least 4"),
        (lambda: linear_cka(np.eye(5), np.eye(5), unbiased=True), "unbiased HSIC of 'x' .* too few"),
        (lambda: rbf_cka(most, y), "most images"),
        (lambda: rbf_cka(x, y, bandwidth=0.0), "bandwidth is 0.0"),
        (lambda: rbf_cka(*np.arange(60_000.0).reshape(2, -1, 1)), "30000 images takes 7 GB"),
        (lambda: svcca(x, y, keep=1.5), "1.5"),
        (lambda: pwcca(wide, y), "'x' has 19 independent features of 20 images"),
        (lambda: mutual_knn(x, y, k=20), "k is 20; of 20 images"),
        (lambda: mutual_knn(x * (np.arange(20) != 3)[:, None], y), "row 3 of 'x' is zero"),
        (lambda: measure("cca"), "unknown measure 'cca'"),
    ):
        with pytest.raises(ProbeError, match=message):
            call()
