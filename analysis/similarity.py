"""How alike two sets of features of the same images are."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from numpy.typing import NDArray

from probe.errors import ProbeError


def linear_cka(x: Float[ndarray, "n d1"], y: Float[ndarray, "n d2"]) -> float:
    """Linear CKA of two feature matrices whose rows are the same images.

    Unitless, in [0, 1]; 1 means equal up to rotation, shift and one common scale. Columns are
    centred first and products accumulate in float64, over the smaller of features and images.
    Kornblith et al. 2019 (arXiv:1905.00414), section 3; O(n d1 d2) or O(n^2 (d1 + d2)).

    Raises ProbeError for different rows, for fewer than two, and for features that do not vary.
    """
    if len(x) != len(y) or len(x) < 2:
        raise ProbeError(f"CKA compares two or more rows of the same images; these have {len(x)} and {len(y)}")
    a, b = _centred(x), _centred(y)
    if len(a) < max(a.shape[1], b.shape[1]):
        gram_a, gram_b = a @ a.T, b @ b.T
        cross, own_a, own_b = np.vdot(gram_a, gram_b), np.linalg.norm(gram_a), np.linalg.norm(gram_b)
    else:
        cross, own_a, own_b = np.vdot(c := a.T @ b, c), np.linalg.norm(a.T @ a), np.linalg.norm(b.T @ b)
    if not own_a * own_b:
        raise ProbeError("CKA is not defined for features that are the same for every image")
    return float(cross / (own_a * own_b))


def cka_matrix(
    features: Mapping[str, NDArray[np.floating]], others: Mapping[str, NDArray[np.floating]] | None = None
) -> NDArray[np.float64]:
    """Linear CKA between every tap of one network and every tap of another (or of itself), (taps, taps)."""
    others = features if others is None else others
    return np.array([[linear_cka(x, y) for y in others.values()] for x in features.values()])


def _centred(x: NDArray[np.floating]) -> NDArray[np.float64]:
    wide = np.asarray(x, np.float64)
    centred: NDArray[np.float64] = wide - wide.mean(0)
    return centred
