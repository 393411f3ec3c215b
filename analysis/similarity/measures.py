"""The measures by name, between all taps: what a measure needs of a tap is computed once."""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from analysis.similarity.cca import KEPT, correlations, projection_weighted, span_of
from analysis.similarity.centred import Centred, Matrix, Taps, centred_taps
from analysis.similarity.cka import LEAST, aligned_kernels, rbf_kernel
from analysis.similarity.cka_of_all_pairs import cka_matrix
from analysis.similarity.neighbours import nearest, overlap
from analysis.similarity.rotation import alignment, turned
from probe.base.lookup import unknown
from probe.settings.similarity import MEASURES

MatrixOf = Callable[[Taps, Taps | None], Matrix]  # of the taps of one network, and of another or itself


def measure(name: str, *, unbiased: bool = False, bandwidth: float = 0.5, keep: float = KEPT, k: int = 10) -> MatrixOf:
    """One of MEASURES as a function of the taps of two networks, or of one and None, to a (taps, taps) matrix.

    `unbiased` is for both kinds of CKA, `bandwidth` for rbf-cka, `keep` for svcca, `k` for mutual-knn. Raises
    ProbeError for another name; the function raises what the measure does.
    """
    kinds: dict[str, MatrixOf] = {
        "cka": partial(cka_matrix, unbiased=unbiased),
        "rbf-cka": partial(
            _pairwise,
            prepare=partial(rbf_kernel, bandwidth=bandwidth),
            compare=partial(aligned_kernels, unbiased=unbiased),
            least=LEAST[unbiased],
        ),
        "svcca": partial(_pairwise, prepare=partial(span_of, keep=keep), compare=_mean_correlation),
        "pwcca": partial(_pairwise, prepare=span_of, compare=projection_weighted, symmetric=False),
        "procrustes": partial(_pairwise, prepare=turned, compare=alignment),
        "mutual-knn": partial(_pairwise, prepare=partial(nearest, k=k), compare=overlap),
    }
    if name not in kinds:
        raise unknown("measure", name, MEASURES)
    return kinds[name]


def _pairwise(
    features: Taps,
    others: Taps | None,
    *,
    prepare: Callable[[Centred], Any],
    compare: Callable[[Any, Any], float],
    symmetric: bool = True,
    least: int = 2,
) -> Matrix:
    first, second = centred_taps(features, others, least)
    a = [prepare(tap) for tap in first]
    b = a if others is None else [prepare(tap) for tap in second]
    found = np.empty((len(a), len(b)))
    for i, j in product(range(len(a)), range(len(b))):
        mirrored = symmetric and others is None and j < i
        found[i, j] = found[j, i] if mirrored else compare(a[i], b[j])
    return found


def _mean_correlation(a: Any, b: Any) -> float:
    return float(correlations(a, b).mean())
