"""Pixels from files and from arrays, as RGB."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from probe.data.fingerprints import FileHashes
from probe.errors import ProbeError

DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # more than 8 bits: PIL would clip them to RGB without a word


class ImageFiles:
    """Images in files, opened when they are asked for."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def load(self, index: int) -> Image.Image:
        file = self.files[index]
        try:
            with Image.open(file) as image:
                if image.mode in DEEP:
                    raise ProbeError(
                        f"'{file}' has more than 8 bits per pixel ({image.mode}); convert it to 8 bits first"
                    )
                # A palette may hold transparency, which only RGBA can.
                return (image.convert("RGBA") if image.mode == "P" else image).convert("RGB")
        except UnidentifiedImageError:
            raise ProbeError(f"'{file}' is not an image that Pillow can read") from None
        except (OSError, RuntimeError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            if isinstance(error, ProbeError):
                raise
            raise ProbeError(f"cannot read image '{file}': {error}") from None

    def hashes(self, files: FileHashes) -> Sequence[str]:
        return files.hash(self.files)


class ImageArrays:
    """Images in memory, (n, height, width) grey or (n, height, width, 3), 8 bits."""

    def __init__(self, arrays: Sequence[NDArray[np.generic]], source: Path | None = None) -> None:
        """`source` is the file they came from, whose hash then stands for theirs."""
        self.arrays, self.source = arrays, source
        self._starts = np.cumsum([0, *map(len, arrays)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def load(self, index: int) -> Image.Image:
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        return Image.fromarray(self.arrays[part][index - self._starts[part]]).convert("RGB")

    def hashes(self, files: FileHashes) -> Sequence[str]:
        if self.source is not None:
            return files.hash([self.source])
        return [hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() for array in self.arrays]
