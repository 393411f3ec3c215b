"""One `.npy` file of float32 rows, written and checked span by span, in bounded memory."""

import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

BLOCK = 1 << 20  # bytes read at a time


@dataclass(frozen=True)
class ArrayFile:
    """A (rows, width) array of little-endian float32 in NumPy's own format, so that anything can map it."""

    folder: Path
    tap: str
    rows: int
    width: int

    @cached_property
    def path(self) -> Path:
        """The file; whatever a tap is called, it stays in its folder."""
        return self.folder / f"{quote(self.tap, safe='')}.npy"

    @cached_property
    def header(self) -> bytes:
        """What NumPy writes before the numbers."""
        buffer = BytesIO()
        npy.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": (self.rows, self.width)})
        return buffer.getvalue()

    @property
    def nbytes(self) -> int:
        """Length of the file in bytes."""
        return self._offset(self.rows)

    def well_shaped(self) -> bool:
        """Whether header and length are right."""
        try:
            with self.path.open("rb") as file:
                return file.read(len(self.header)) == self.header and os.fstat(file.fileno()).st_size == self.nbytes
        except OSError:
            return False

    def shape(self) -> None:
        """Set header and length, and leave the numbers that are there."""
        with self.path.open("r+b" if self.path.is_file() else "w+b") as file:
            file.write(self.header)
            file.truncate(self.nbytes)

    def write(self, start: int, values: NDArray[np.float32]) -> int:
        """Put rows in place, on the disk itself; returns their checksum."""
        data = np.ascontiguousarray(values, dtype="<f4").tobytes()
        with self.path.open("r+b") as file:
            file.seek(self._offset(start))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return zlib.crc32(data)

    def checksums(self, spans: Iterable[range]) -> Iterator[int | None]:
        """One per span of rows; None for what cannot be read."""
        try:
            with self.path.open("rb") as file:
                for span in spans:
                    yield self._checksum(file, span)
        except OSError:
            yield from (None for _ in spans)

    def _checksum(self, file: BinaryIO, span: range) -> int | None:
        try:
            file.seek(self._offset(span.start))
            return checksum_of(blocks(file, self._offset(span.stop) - self._offset(span.start)))
        except OSError:
            return None

    def _offset(self, row: int) -> int:
        return len(self.header) + row * self.width * 4


def blocks(file: BinaryIO, count: int) -> Iterator[bytes]:
    """The next `count` bytes of a file, or what there is of them."""
    while count and (block := file.read(min(BLOCK, count))):
        yield block
        count -= len(block)


def checksum_of(parts: Iterable[bytes]) -> int:
    """CRC-32 of bytes that come in parts; it differs for any change within 32 bits."""
    total = 0
    for part in parts:
        total = zlib.crc32(part, total)
    return total
