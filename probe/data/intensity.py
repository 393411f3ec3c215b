"""Values of more than 8 bits to bytes, by a stated rule."""

import numpy as np
from numpy.typing import NDArray

from probe.base.errors import ProbeError
from probe.settings import Reading

PERCENTILES = (0.5, 99.5)  # as nnU-Net clips, Isensee et al. 2021 (doi:10.1038/s41592-020-01008-z)


def limits(values: NDArray[np.generic], reading: Reading) -> tuple[float, float]:
    """The values that become black and white, in the units of `values`; `auto` is the own range here.

    What is not finite does not count. Percentiles that coincide, as those of a nearly empty image
    do, give way to the range. Raises ProbeError when no value is finite.
    """
    given = reading.limits()
    if given is not None:
        return given
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not finite.size:
        raise ProbeError("no pixel is a finite number")
    if reading.window == "percentile":
        low, high = np.percentile(finite, PERCENTILES)
        if low < high:
            return float(low), float(high)
    return float(finite.min()), float(finite.max())


def to_bytes(values: NDArray[np.generic], low: float, high: float) -> NDArray[np.uint8]:
    """`low` to 0, `high` to 255, linear between, rounded to the nearest; beyond them 0 and 255.

    What is not a number becomes 0. If `low` equals `high` there is nothing between: what lies above is 255.
    """
    exact = np.nan_to_num(values.astype(np.float64), nan=low, posinf=np.inf, neginf=-np.inf)
    if low == high:
        return np.where(exact > low, 255, 0).astype(np.uint8)
    return np.rint((np.clip(exact, low, high) - low) * (255 / (high - low))).astype(np.uint8)
