"""Canonical correlations of two sets of features: their curve against chance, and SVCCA and PWCCA, means of them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from numpy import ndarray
from scipy.linalg import svd, svdvals

from analysis.similarity.centred import Centred, Matrix, centred_pair
from probe.base.errors import ProbeError

KEPT = 0.99  # share of the variance that SVCCA keeps


@dataclass(frozen=True)
class Span:
    """What centred features span: an orthonormal basis (n, r), and the features in it (r, d), basis @ loadings."""

    basis: Matrix
    loadings: Matrix


def span_of(tap: Centred, keep: float = 1.0) -> Span:
    """The fewest principal directions that hold a share `keep` of the variance; all that are more than rounding for 1.

    Raises ProbeError when they span every direction that n images have, where each coefficient is 1 with whatever.
    """
    if not 0 < keep <= 1:
        raise ProbeError(f"the share of the variance to keep is {keep}; it must lie above 0 and not above 1")
    basis, values, axes = svd(tap.whole(), full_matrices=False, check_finite=False)
    rank = int((values > values[0] * tap.resolution()).sum())
    held = np.cumsum(values**2) / np.sum(values**2)
    count = min(rank, int(np.searchsorted(held, keep * (1 - 1e-12))) + 1) if keep < 1 else rank
    if count >= tap.rows - 1:
        raise ProbeError(
            f"'{tap.name}' has {count} independent features of {tap.rows} images, which correlate perfectly with any "
            "others; take more images, CKA, or SVCCA that keeps less of the variance"
        )
    return Span(basis[:, :count], values[:count, None] * axes[:count])


def cca_coefficients(
    x: Shaped[ndarray, "n d1"], y: Shaped[ndarray, "n d2"], *, keep: float = 1.0
) -> Float[ndarray, "r"]:
    """Canonical correlations of two feature matrices whose rows are the same images, largest first.

    The cosines of the principal angles between the spaces that the centred columns span, min(rank x, rank y) of them,
    in [0, 1]; of `keep` below 1, between those of their leading principal components. An invertible linear map of
    either side, a shift or a scale changes nothing while everything is kept. Bjorck and Golub 1973; Raghu et al. 2017
    (arXiv:1706.05806), section 2. O(n d^2). With r1 + r2 > n - 1 directions some are 1 by geometry alone.

    Raises ProbeError as `linear_cka` does, and for features of rank n - 1.
    """
    a, b = (span_of(side, keep) for side in centred_pair(x, y))
    return correlations(a, b)


def correlations(a: Span, b: Span) -> Float[ndarray, "r"]:
    """Cosines of the principal angles, largest first."""
    found: Matrix = svdvals(a.basis.T @ b.basis, check_finite=False)
    return found


def svcca(x: Shaped[ndarray, "n d1"], y: Shaped[ndarray, "n d2"], *, keep: float = KEPT) -> float:
    """SVCCA: the mean canonical correlation of the principal components that hold `keep` of each side's variance.

    In [0, 1]. Unchanged by rotation, shift and one common scale; changed by another linear map, which changes what is
    kept. Raghu et al. 2017 (arXiv:1706.05806), section 2.1; O(n d^2). Raises ProbeError as `cca_coefficients` does.
    """
    return float(cca_coefficients(x, y, keep=keep).mean())


def pwcca(x: Shaped[ndarray, "n d1"], y: Shaped[ndarray, "n d2"]) -> float:
    """PWCCA: canonical correlations averaged with the weight that x gives to each.

    sum_i a_i r_i / sum_i a_i with a_i = sum_j |<h_i, x_j>|, h_i the i-th canonical variate of x (whitened, so that the
    variates are orthonormal) and x_j its centred columns. In [0, 1]. Not symmetric: the weights are those of x.
    Unchanged by any shift, by one scale of x and by an invertible linear map of y; changed by one of x, even a
    rotation, because the weights belong to its single features. Morcos et al. 2018 (arXiv:1806.05759), section 2;
    O(n d^2). Raises ProbeError as `cca_coefficients` does.
    """
    a, b = (span_of(side) for side in centred_pair(x, y))
    return projection_weighted(a, b)


def projection_weighted(a: Span, b: Span) -> float:
    """The mean of the canonical correlations of two spans, weighted by the first one's features."""
    turned, found, _ = svd(a.basis.T @ b.basis, full_matrices=False, check_finite=False)
    weights = np.abs(turned.T @ a.loadings).sum(1)  # h = basis @ turned, x = basis @ loadings
    return float(weights @ found / weights.sum())


@dataclass(frozen=True)
class CCACurve:
    """Canonical correlations (r,), largest first, those of noise (r,), and the mean difference of the two."""

    coefficients: Matrix
    chance: Matrix
    area: float


def cca_curve(
    x: Shaped[ndarray, "n d1"],
    y: Shaped[ndarray, "n d2"],
    *,
    keep: float = KEPT,
    draws: int = 10,
    generator: np.random.Generator,
) -> CCACurve:
    """Sorted canonical correlations against a random baseline, and the area between, over the share of the directions.

    The baseline is the mean curve of as many Gaussian directions of as many images, which is what unrelated features of
    these ranks would give; how far it lies above 0 depends on the ranks and n alone. An area of 0 is chance; the most
    there can be is 1 less the baseline's mean. Peng et al. 2023 (arXiv:2106.05152), where it tells what fine-tuning
    leaves of a pretrained tap. Raises ProbeError as `cca_coefficients` does.
    """
    a, b = (span_of(side, keep) for side in centred_pair(x, y))
    found = correlations(a, b)
    chance = np.mean([correlations(_random(a, generator), _random(b, generator)) for _ in range(draws)], axis=0)
    return CCACurve(found, chance, float((found - chance).mean()))


def _random(like: Span, generator: np.random.Generator) -> Span:
    """As many random directions of as many centred images."""
    noise = generator.normal(size=like.basis.shape)
    return Span(np.linalg.qr(noise - noise.mean(0))[0], np.empty((0, 0)))
