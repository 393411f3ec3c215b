"""One folder of arrays, written chunk by chunk so that nothing finished is lost and nothing damaged is used."""

import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import numpy as np
from filelock import FileLock, Timeout
from numpy.lib import format as npy
from numpy.typing import NDArray

from probe.errors import ProbeError
from probe.runtime import log

CHUNK = 256  # rows, rounded up to whole batches


class Store:
    """`<tap>.npy` per tap, float32 (rows, width), and a manifest with a checksum per chunk and tap.

    A chunk is written to every array and synced, and only then entered in the manifest, which is
    replaced as a whole: whatever the manifest names is there.
    """

    def __init__(self, folder: Path, widths: Mapping[str, int], rows: int, facts: Mapping[str, Any]) -> None:
        """`facts` go into the manifest of a new folder."""
        self.folder, self.widths, self.rows = folder, dict(widths), rows
        self.facts = dict(facts)
        self.manifest: dict[str, Any] = {}

    @property
    def nbytes(self) -> int:
        """Size of the arrays on disk in bytes."""
        return sum(len(_header(self.rows, width)) + self.rows * width * 4 for width in self.widths.values())

    def path(self, tap: str) -> Path:
        """File of a tap's array."""
        return self.folder / f"{quote(tap, safe='')}.npy"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder alone; a second process on the same request waits and finds the work done."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / ".lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                log.info("another process is making the same features; waiting for it")
                lock.acquire()
        except OSError as error:
            raise ProbeError(f"cannot write to the cache '{self.folder}': {error.strerror}; choose another") from None
        try:
            yield
        finally:
            lock.release()

    def open(self, batch_size: int) -> list[range]:
        """Make the folder ready and tell which runs of rows are still to be made.

        The chunks of an earlier run are checked; while one of them stands, its batch size does too,
        so that an array never mixes two.
        """
        self.manifest = self._read() or {}
        good = [start for start in self._entered() if self._intact(start)]
        damaged = len(self._entered()) - len(good)
        if damaged:
            log.warning("%d damaged chunks in %s are made again", damaged, self.folder)
        if not good:
            self._start(batch_size)
        elif damaged:
            self.manifest["chunks"] = {str(start): self.manifest["chunks"][str(start)] for start in good}
            self._write()
        return self._missing(set(good))

    def commit(self, start: int, block: Mapping[str, NDArray[np.float32]]) -> None:
        """Write one chunk of every array, then enter it."""
        sums = {}
        for tap, values in block.items():
            data = np.ascontiguousarray(values, dtype="<f4").tobytes()
            try:
                self._write_at(tap, start, data)
            except OSError as error:
                raise ProbeError(
                    f"cannot write features to '{self.folder}': {error.strerror}; what is finished is kept"
                ) from None
            sums[tap] = zlib.crc32(data)
        self.manifest["chunks"][str(start)] = sums
        self._write()

    def _write_at(self, tap: str, row: int, data: bytes) -> None:
        with self.path(tap).open("r+b") as file:
            file.seek(self._offset(tap, row))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    @property
    def batch_size(self) -> int:
        """Images per forward pass with which these arrays are made."""
        return int(self.manifest["batch_size"])

    @property
    def chunk_rows(self) -> int:
        """Rows per chunk, a whole number of batches."""
        return -(-CHUNK // self.batch_size) * self.batch_size

    def _start(self, batch_size: int) -> None:
        self._make_room()
        for tap, width in self.widths.items():
            header = _header(self.rows, width)
            with self.path(tap).open("wb") as file:
                file.write(header)
                file.truncate(len(header) + self.rows * width * 4)
        self.manifest = {**self.facts, "rows": self.rows, "batch_size": batch_size, "chunks": {}}
        self._write()

    def _make_room(self) -> None:
        free = shutil.disk_usage(self.folder).free
        there = sum(path.stat().st_blocks * 512 for path in self.folder.glob("*.npy"))
        if self.nbytes > free + there:
            raise ProbeError(
                f"the features take {self.nbytes / 1e9:.2f} GB and '{self.folder}' has {free / 1e9:.2f} GB free; "
                "choose another cache, a coarser level, or fewer images"
            )

    def _missing(self, good: set[int]) -> list[range]:
        runs: list[range] = []
        for start in range(0, self.rows, self.chunk_rows):
            stop = min(start + self.chunk_rows, self.rows)
            if start in good:
                continue
            if runs and runs[-1].stop == start:
                runs[-1] = range(runs[-1].start, stop)
            else:
                runs.append(range(start, stop))
        return runs

    def _entered(self) -> list[int]:
        return [int(start) for start in self.manifest.get("chunks", {})]

    def _intact(self, start: int) -> bool:
        sums = self.manifest["chunks"][str(start)]
        return set(sums) == set(self.widths) and all(self._checksum(tap, start) == sums[tap] for tap in sums)

    def _checksum(self, tap: str, start: int) -> int | None:
        header = _header(self.rows, self.widths[tap])
        stop = min(start + self.chunk_rows, self.rows)
        try:
            with self.path(tap).open("rb") as file:
                if file.read(len(header)) != header:
                    return None
                file.seek(self._offset(tap, start))
                return zlib.crc32(file.read(self._offset(tap, stop) - self._offset(tap, start)))
        except OSError:
            return None

    def _offset(self, tap: str, row: int) -> int:
        return len(_header(self.rows, self.widths[tap])) + row * self.widths[tap] * 4

    def _read(self) -> dict[str, Any] | None:
        try:
            found = json.loads((self.folder / "manifest.json").read_text())
            return found if isinstance(found, dict) and found["rows"] == self.rows else None
        except (OSError, ValueError, KeyError):
            return None

    def _write(self) -> None:
        replace_text(self.folder / "manifest.json", json.dumps(self.manifest, indent=1))


def replace_text(path: Path, text: str) -> None:
    """Put a text in place of a file in one step: a reader sees the old one or the new one, never a part."""
    new = path.with_name(f".{path.name}.{uuid4().hex}")  # threads, and hosts on one disk, share process numbers
    with new.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _header(rows: int, width: int) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    npy.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": (rows, width)})
    return buffer.getvalue()
