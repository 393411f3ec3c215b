"""CKA against its definition and the invariances the paper claims, both lists."""

import numpy as np
import pytest
from scipy.stats import ortho_group

from analysis.similarity import cka_matrix, linear_cka
from probe.errors import ProbeError


def by_definition(x: np.ndarray, y: np.ndarray) -> float:
    """HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) with K = x x', L = y y' and H the centring matrix."""
    h = np.eye(len(x)) - 1 / len(x)
    k, m = (h @ z.astype(float) @ z.T.astype(float) @ h for z in (x, y))
    return float((k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum()))


@pytest.mark.parametrize(("n", "d1", "d2"), [(50, 8, 12), (20, 40, 8), (15, 60, 50), (2, 3, 3)])
@pytest.mark.parametrize("mean", [0, 1000])
def test_equals_the_definition(n: int, d1: int, d2: int, mean: float) -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(n, d1)) + mean).astype(np.float32)
    y = np.float32(np.tanh(x @ rng.normal(size=(d1, d2)) / 10) + rng.normal(size=(n, d2)))
    assert linear_cka(x, y) == pytest.approx(by_definition(x - x.mean(0, dtype=float), y), abs=1e-5)


def test_what_must_and_must_not_change_it() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 6)), rng.normal(size=(60, 9))
    y[:, :3] += x[:, :3]
    base = linear_cka(x, y)
    assert linear_cka(x @ ortho_group.rvs(6, random_state=0), y * 7 + 3) == pytest.approx(base)
    assert linear_cka(y, x) == pytest.approx(base)
    assert linear_cka(x, x) == pytest.approx(1)
    assert abs(linear_cka(x * [10, 1, 1, 1, 1, 1], y) - base) > 0.01  # an invertible map that is no rotation


def test_matrix_between_two_networks() -> None:
    rng = np.random.default_rng(0)
    a = {name: rng.normal(size=(30, d)) for name, d in [("stem", 4), ("layer1", 8), ("layer2", 16)]}
    found = cka_matrix(a)
    np.testing.assert_allclose(np.diag(found), 1)
    np.testing.assert_allclose(found, found.T)
    assert cka_matrix(a, {"x": a["stem"]}).shape == (3, 1)


def test_undefined_is_an_error() -> None:
    with pytest.raises(ProbeError, match="same for every image"):
        linear_cka(np.ones((5, 2)), np.eye(5))
    with pytest.raises(ProbeError, match="5 and 4"):
        linear_cka(np.eye(5), np.eye(4))
