"""Features as every measure reads them: of the same images, centred, in float64; what cannot be compared is refused."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from probe.base.errors import ProbeError

BLOCK = 512  # rows read at once

Matrix = NDArray[np.float64]
Taps = Mapping[str, NDArray[np.generic]]


class Centred:
    """The features (n, d) of one tap, centred and divided by a common scale, whole or block by block.

    `own` (n,) are the squared lengths of the rows; their mean is 1. Every column is measured from its first entry
    before its mean is taken: nothing is lost when the mean is large against the spread, and a constant column is
    exactly zero. Raises ProbeError, naming the tap, for what is no matrix of finite numbers that vary.
    """

    def __init__(self, name: str, x: NDArray[np.generic]) -> None:
        if x.ndim != 2 or x.dtype.kind not in "fiu" or not x.size:
            raise ProbeError(f"'{name}' is {x.shape} of {x.dtype}; features are (rows, width) numbers")
        self.name, self.x, self.scale = name, x, 1.0
        self.rows, self.width = x.shape
        self.shift = np.asarray(x[0], np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            self.shift = self.shift + sum(block.sum(0) for block in self._blocks()) / self.rows
            own = np.concatenate([np.einsum("nd,nd->n", block, block) for block in self._blocks()])
        if not np.isfinite(total := own.mean()):
            raise ProbeError(f"'{name}' has values that are not finite")
        if not total:
            raise ProbeError(f"'{name}' is the same for every image, so there is nothing to compare; leave it out")
        self.scale, self.own = float(np.sqrt(total)), own / total

    def block(self, start: int, stop: int) -> Matrix:
        """Some of the rows."""
        block: Matrix = np.subtract(self.x[start:stop], self.shift, dtype=np.float64)
        if self.scale != 1:
            block /= self.scale
        return block

    def whole(self) -> Matrix:
        """All rows."""
        return self.block(0, self.rows)

    def single(self, start: int, stop: int) -> NDArray[np.float32]:
        """Some of the rows, rounded to float32."""
        stop = min(stop, self.rows)
        rounded = np.empty((stop - start, self.width), np.float32)
        for at in range(start, stop, BLOCK):
            rounded[at - start : at - start + BLOCK] = self.block(at, min(at + BLOCK, stop))
        return rounded

    def resolution(self) -> float:
        """The share of its largest singular value below which one of features of this precision is rounding."""
        kind = self.x.dtype.name if self.x.dtype.kind == "f" else "float64"
        return float(np.finfo(kind).eps * max(self.x.shape))

    def _blocks(self) -> Iterator[Matrix]:
        return (self.block(start, start + BLOCK) for start in range(0, self.rows, BLOCK))


def centred_taps(features: Taps, others: Taps | None = None, least: int = 2) -> tuple[list[Centred], list[Centred]]:
    """The taps of one network and those of another, or the same again.

    Raises ProbeError when there are none, when they differ in their rows or have fewer than `least`.
    """
    named = [*features.items(), *(others or {}).items()]
    if not features or (others is not None and not others):
        raise ProbeError("there are no taps to compare")
    first, rows = named[0][0], len(named[0][1])
    for name, x in named:
        if len(x) != rows:
            raise ProbeError(
                f"features are compared on the same images, but '{first}' has {rows} rows and '{name}' {len(x)}"
            )
    if rows < least:
        raise ProbeError(f"features of {rows} image{'s' * (rows != 1)} cannot be compared so; take at least {least}")
    taps = [Centred(name, x) for name, x in named]
    return taps[: len(features)], taps[: len(features)] if others is None else taps[len(features) :]


def centred_pair(x: NDArray[np.generic], y: NDArray[np.generic], least: int = 2) -> tuple[Centred, Centred]:
    """Two sets of features of the same images."""
    (a,), (b,) = centred_taps({"x": x}, {"y": y}, least)
    return a, b
