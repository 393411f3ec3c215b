"""Linear CKA between all taps at once: in sample or in feature space, over blocks, in bounded memory."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from numpy.typing import NDArray

from analysis.similarity.centred import Centred, Matrix, Taps, centred_taps
from analysis.similarity.cka import LEAST, aligned

HELD = 2**29  # bytes of products held at once
ROWS = 2048  # whose products are added in float32 before they are added in float64
CHUNK = 4096  # the same, of products of kernels

Pairs = list[tuple[int, int]]


def cka_matrix(features: Taps, others: Taps | None = None, *, unbiased: bool = False) -> Float[ndarray, "t1 t2"]:
    """Linear CKA between every tap of one network and every tap of another (or of itself), (taps, taps).

    Exact over all rows. These are centred and brought to a common scale in float64, multiplied in float32, where a
    product is rounded by 1e-7 of the rows' lengths, and the products added in float64: the result is that of
    `linear_cka` to 1e-6. The cheaper of two ways is taken: kernels of all taps (n^2 times the sum of the widths), or
    the products x' y of all pairs (n times the sum of the products of their widths). Neither holds much more than half
    a gigabyte beside its input, which may be memory-mapped.

    Raises ProbeError, as `linear_cka` does, naming the tap.
    """
    first, second = centred_taps(features, others, LEAST[unbiased])
    same = others is None
    taps = first if same else [*first, *second]
    count = len(taps)
    pairs = [(i, j) for i in range(count) for j in range(i, count) if same or i == j or (i < len(first) <= j)]
    own = np.stack([tap.own for tap in taps])
    inner = off_diagonal_sums(taps, pairs)
    matrix = aligned(inner, own, [tap.name for tap in taps], unbiased=unbiased)
    return matrix if same else matrix[: len(first), len(first) :]


def off_diagonal_sums(taps: list[Centred], pairs: Pairs) -> Matrix:
    """The sum over rows i != j of K_ij L_ij for the linear kernels of some pairs of taps, in a symmetric (t, t)."""
    by_samples = taps[0].rows * sum(tap.width for tap in taps)
    by_features = sum(taps[i].width * taps[j].width * (1 if i == j else 2) for i, j in pairs)
    return _over_samples(taps) if by_samples < by_features else _over_features(taps, pairs)


def _over_samples(taps: list[Centred]) -> Matrix:
    """From kernels, some rows of them at a time; of a symmetric kernel what lies right of the diagonal counts twice."""
    rows = taps[0].rows
    kept = [tap.single(0, rows) for tap in taps] if 4 * rows * sum(tap.width for tap in taps) <= HELD else None
    step = max(1, (HELD if kept is None else HELD // 8) // (4 * rows * len(taps)))
    inner = np.zeros((len(taps), len(taps)))
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        square = np.empty((len(taps), stop - start, stop - start), np.float32)
        beside = np.empty((len(taps), stop - start, rows - stop), np.float32)
        for at, tap in enumerate(taps):
            x = tap.single(start, rows) if kept is None else kept[at][start:]
            np.matmul(x[: stop - start], x[: stop - start].T, out=square[at])
            np.matmul(x[: stop - start], x[stop - start :].T, out=beside[at])
            np.fill_diagonal(square[at], 0)
        inner += _contracted(square) + 2 * _contracted(beside)
    return inner


def _contracted(products: NDArray[np.float32]) -> Matrix:
    """Sums of products of every two of (t, ...) arrays."""
    flat = products.reshape(len(products), -1)
    whole = flat.shape[1] // CHUNK * CHUNK
    chunks = flat[:, :whole].reshape(len(flat), -1, CHUNK)
    rest = flat[:, whole:].astype(np.float64)
    summed = np.matmul(chunks.transpose(1, 0, 2), chunks.transpose(1, 2, 0)).sum(0, dtype=np.float64)
    total: Matrix = summed + rest @ rest.T
    return total


def _over_features(taps: list[Centred], pairs: Pairs) -> Matrix:
    """From products x' y, those of some pairs at a time, each summed over blocks of rows."""
    inner = np.zeros((len(taps), len(taps)))
    for group in _groups(taps, pairs):
        products = {(i, j): np.zeros((taps[i].width, taps[j].width)) for i, j in group}
        used = sorted({at for pair in group for at in pair})
        for start in range(0, taps[0].rows, ROWS):
            block = {at: taps[at].single(start, start + ROWS) for at in used}
            for i, j in group:
                products[i, j] += block[i].T @ block[j]
        for i, j in group:
            inner[i, j] = inner[j, i] = np.vdot(products[i, j], products[i, j]) - taps[i].own @ taps[j].own
    return inner


def _groups(taps: list[Centred], pairs: Pairs) -> Iterator[Pairs]:
    """Pairs whose products are held at once."""
    group: Pairs = []
    size = 0
    for i, j in pairs:
        size += (more := 8 * taps[i].width * taps[j].width)
        if group and size > HELD:
            yield group
            group, size = [], more
        group.append((i, j))
    yield group
