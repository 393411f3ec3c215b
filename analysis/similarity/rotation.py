"""Orthogonal Procrustes: how well one set of features is turned onto another."""

import numpy as np
from jaxtyping import Shaped
from numpy import ndarray
from scipy.linalg import svdvals

from analysis.similarity.centred import Centred, Matrix, centred_pair


def procrustes(x: Shaped[ndarray, "n d1"], y: Shaped[ndarray, "n d2"]) -> float:
    """Procrustes similarity of two feature matrices whose rows are the same images.

    |x' y|_* (the sum of the singular values) for centred columns and |x|_F = |y|_F = 1, in [0, 1]. It is 1 - d / 2
    with d the squared distance |x q - y|_F^2 that the best rotation q leaves. Unchanged by rotation, shift and one
    common scale; changed by another invertible linear map. Ding et al. 2021 (arXiv:2108.01661), section 2;
    O(n d^2 + d^3), with n for d where the images are fewer.

    Raises ProbeError as `linear_cka` does.
    """
    a, b = (turned(side) for side in centred_pair(x, y))
    return alignment(a, b)


def turned(tap: Centred) -> Matrix:
    """Centred features of Frobenius norm 1, more than n of them turned into n columns."""
    x: Matrix = tap.whole() / np.sqrt(tap.rows)
    if tap.width <= tap.rows:
        return x
    triangle: Matrix = np.asarray(np.linalg.qr(x.T, mode="r"))
    return np.ascontiguousarray(triangle.T)


def alignment(a: Matrix, b: Matrix) -> float:
    """The nuclear norm of a' b."""
    return float(svdvals(a.T @ b, check_finite=False).sum())
