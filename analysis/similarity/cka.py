"""Centred kernel alignment of two sets of features, linear and RBF, from the biased or the unbiased HSIC."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from numpy import ndarray
from scipy.spatial.distance import pdist, squareform

from analysis.similarity.centred import Centred, Matrix, centred_pair
from probe.base.errors import ProbeError

LEAST = {False: 2, True: 4}  # images for the biased and the unbiased HSIC
MOST = 4 * 2**30  # bytes of one kernel matrix


def linear_cka(x: Shaped[ndarray, "n d1"], y: Shaped[ndarray, "n d2"], *, unbiased: bool = False) -> float:
    """Linear CKA of two feature matrices whose rows are the same images.

    HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) with K = x x' and L = y y', that is |x' y|^2 / (|x' x| |y' y|) for centred
    columns. Unitless; 1 means equal up to rotation, shift and one common scale, none of which changes it; an invertible
    linear map that is no rotation does. Biased it lies in [0, 1] and tends to 1 when there are more features than
    images; from the unbiased HSIC it does not, and may be negative. All in float64, over the smaller of features and
    images. Kornblith et al. 2019 (arXiv:1905.00414), section 3; O(n d1 d2) or O(n^2 (d1 + d2)).

    Raises ProbeError for different rows, for fewer than two (unbiased four), and for features that do not vary.
    """
    a, b = centred_pair(x, y, LEAST[unbiased])
    wide = a.rows < max(a.width, b.width)
    p, q = (z @ z.T if wide else z for z in (a.whole(), b.whole()))
    products = [[np.vdot(u, v) if wide else np.sum((u.T @ v) ** 2) for v in (p, q)] for u in (p, q)]
    own = np.stack([a.own, b.own])
    inner = np.array(products) - own @ own.T
    return float(aligned(inner, own, ["x", "y"], unbiased=unbiased)[0, 1])


def rbf_cka(
    x: Shaped[ndarray, "n d1"], y: Shaped[ndarray, "n d2"], *, bandwidth: float = 0.5, unbiased: bool = False
) -> float:
    """CKA with the kernels exp(-|a - b|^2 / (2 s^2)), s being `bandwidth` times the median distance of two rows.

    Unchanged by rotation, shift and scale, as linear CKA is, and towards which it goes with growing bandwidth.
    Kornblith et al. 2019, section 3 (there .2, .4 and .8 of the median); O(n^2 (d1 + d2)) time, O(n^2) memory.

    Raises ProbeError as `linear_cka` does, when half of all distances are zero, and beyond 4 GB for a kernel.
    """
    pair = [rbf_kernel(side, bandwidth) for side in centred_pair(x, y, LEAST[unbiased])]
    return aligned_kernels(*pair, unbiased=unbiased)


@dataclass(frozen=True)
class Kernel:
    """A centred kernel matrix: what stands off its diagonal (n, n), zeros on it, and the diagonal (n,)."""

    name: str
    off: Matrix
    own: Matrix


def rbf_kernel(tap: Centred, bandwidth: float) -> Kernel:
    """The centred RBF kernel of a tap; see `rbf_cka`."""
    if not 0 < bandwidth < float("inf"):
        raise ProbeError(f"bandwidth is {bandwidth}; it must be a positive share of the median distance")
    if (size := 8 * tap.rows**2) > MOST:
        raise ProbeError(
            f"an RBF kernel of {tap.rows} images takes {size / 2**30:.0f} GB; take linear CKA, or fewer images"
        )
    squares = pdist(tap.whole(), "sqeuclidean")
    median = np.sqrt(np.median(squares))
    if not median:
        raise ProbeError(f"'{tap.name}' is the same for most images, so their median distance is zero; take linear CKA")
    kernel = squareform(np.exp(squares / (-2 * (bandwidth * median) ** 2)))
    np.fill_diagonal(kernel, 1)
    means = kernel.mean(0)
    kernel -= means + means[:, None] - means.mean()
    own = kernel.diagonal().copy()
    np.fill_diagonal(kernel, 0)
    return Kernel(tap.name, kernel, own)


def aligned_kernels(a: Kernel, b: Kernel, *, unbiased: bool) -> float:
    """CKA of two centred kernels."""
    inner = np.array([[np.vdot(p.off, q.off) for q in (a, b)] for p in (a, b)])
    return float(aligned(inner, np.stack([a.own, b.own]), [a.name, b.name], unbiased=unbiased)[0, 1])


def aligned(
    inner: Float[ndarray, "t t"], own: Float[ndarray, "t n"], names: list[str], *, unbiased: bool
) -> Float[ndarray, "t t"]:
    """CKA of every two taps from what `hsic` takes. Raises ProbeError as `normalised` does."""
    return normalised(hsic(inner, own, unbiased=unbiased), names)


def normalised(found: Float[ndarray, "t t"], names: list[str]) -> Float[ndarray, "t t"]:
    """CKA from the HSIC of every two taps.

    Raises ProbeError when that of a tap with itself is not positive, as the unbiased one need not be.
    """
    itself = found.diagonal()
    if not (itself > 0).all():
        name = names[int(np.argmin(itself))]
        raise ProbeError(
            f"the unbiased HSIC of '{name}' with itself is {itself.min():.2g}, so its CKA is not defined: "
            "the images are too few for so many features; take more, or the biased estimate"
        )
    return found / np.sqrt(np.outer(itself, itself))


def hsic(inner: Float[ndarray, "t t"], own: Float[ndarray, "t n"], *, unbiased: bool) -> Float[ndarray, "t t"]:
    """The Hilbert-Schmidt independence criterion of every two centred kernels.

    `inner` are the sums over i != j of K_ij L_ij, `own` the diagonals. Biased: tr(K L) / (n - 1)^2, Gretton et al.
    2005. Unbiased: Song et al. 2012 (JMLR 13), equation 5, of K and L without their diagonals. A constant added to a
    row and the same column does not change that, so it may be taken of centred kernels, whose rows then sum to -K_ii.
    """
    n = own.shape[1]
    diagonal: Matrix = own @ own.T
    found: Matrix = (inner + diagonal) / (n - 1) ** 2
    if unbiased:
        both = np.outer(own.sum(1), own.sum(1)) / ((n - 1) * (n - 2))
        found = (inner + both - 2 / (n - 2) * diagonal) / (n * (n - 3))
    return found
