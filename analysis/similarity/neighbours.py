"""Mutual nearest neighbours: whether two networks find the same images alike."""

import numpy as np
from jaxtyping import Integer, Shaped
from numpy import ndarray
from numpy.typing import NDArray

from analysis.similarity.centred import BLOCK, Centred, centred_pair
from probe.base.errors import ProbeError


def mutual_knn(x: Shaped[ndarray, "n d1"], y: Shaped[ndarray, "n d2"], *, k: int = 10) -> float:
    """The share of an image's k nearest neighbours that two feature matrices have in common, averaged over images.

    In [0, 1]; k / (n - 1) by chance. Neighbours are those of largest cosine, without the image itself, so rotation and
    scale, of each row even, change nothing; a shift does, as does another linear map: unlike the other measures this
    one does not centre. Huh et al. 2024 (arXiv:2405.07987), appendix A; O(n^2 (d1 + d2)), rows in blocks.

    Raises ProbeError as `linear_cka` does, for an image whose features are all zero, and for k that is not below n.
    """
    a, b = (nearest(side, k) for side in centred_pair(x, y))
    return overlap(a, b)


def nearest(tap: Centred, k: int) -> Integer[ndarray, "n k"]:
    """The rows of largest cosine to each row, in no order."""
    if not 1 <= k < tap.rows:
        raise ProbeError(f"k is {k}; of {tap.rows} images it must be from 1 to {tap.rows - 1}")
    x = np.asarray(tap.x, np.float64)
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    if not lengths.all():
        raise ProbeError(
            f"row {int(np.argmin(lengths))} of '{tap.name}' is zero throughout and has no direction; leave the tap out"
        )
    x = x / lengths
    found = np.empty((tap.rows, k), np.int64)
    for start in range(0, tap.rows, BLOCK):
        cosines = x[start : start + BLOCK] @ x.T
        cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = -np.inf
        found[start : start + BLOCK] = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
    return found


def overlap(a: NDArray[np.integer], b: NDArray[np.integer]) -> float:
    """The mean share of common entries of the rows of two (n, k) arrays."""
    common = (a[:, :, None] == b[:, None, :]).any(2)
    return float(common.mean())
