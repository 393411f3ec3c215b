"""Sums and ratios under many weightings at once.

Counts are (n, b): a row per image, a column per weighting, so that adding an image to a sum is one
pass over contiguous memory, for all weightings.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from probe.base.array_types import Counts

Sums = NDArray[np.floating]  # (bins, b)


def add_up(
    bins: NDArray[np.int64],
    rows: NDArray[np.int64],
    size: int,
    counts: Counts,
    values: NDArray[np.float64] | None = None,
) -> Sums:
    """The summed count, times a value, of the entries in each of `size` bins; (size, b).

    An entry is a bin and a row of `counts`; a row may have several entries.
    """
    factors = np.ones(len(bins), counts.dtype) if values is None else values
    sums: Sums = csr_array((factors, (bins, rows)), shape=(size, len(counts))) @ counts
    return sums


def add_columns(table: NDArray[np.generic], counts: Counts) -> Sums:
    """The weighted sum of each column of a table (n, k) over its rows; (k, b).

    Not a BLAS product: those matrices are small, and its threads wait for each other on a busy machine.
    """
    kind = counts.dtype if table.dtype == bool else np.float64
    sums: Sums = csr_array(table.T.astype(kind)) @ counts
    return sums


def ratio(numerator: Sums, denominator: Sums) -> NDArray[np.float64]:
    """The quotient; NaN where the denominator is zero."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    undefined: NDArray[np.float64] = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0, dtype=np.float64)


def mean_of_defined(lines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the first axis of what is not NaN; NaN where nothing is."""
    defined = ~np.isnan(lines)
    return ratio(np.where(defined, lines, 0).sum(0), defined.sum(0).astype(np.float64))
