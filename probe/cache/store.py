"""One folder of arrays, written chunk by chunk so that nothing finished is lost and nothing damaged is used."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from probe.base.errors import ProbeError
from probe.base.files import replace_text, sweep, write_signed
from probe.base.runtime import log
from probe.cache.arrays import ArrayFile, blocks, checksum_of
from probe.cache.manifest import NAME, Unusable, read_manifest

CHUNK = 256  # rows, rounded up to whole batches
ROWS = "rows.csv"


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
        self.arrays = {tap: ArrayFile(folder, tap, rows, width) for tap, width in self.widths.items()}
        self.faults: list[str] = []
        self._misshapen: list[str] = []
        self._good: set[int] = set()
        self._barred: str | None = None  # why nothing can be written

    @property
    def nbytes(self) -> int:
        """Size of the arrays on disk in bytes."""
        return sum(array.nbytes for array in self.arrays.values())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder alone; a second process on the same request waits and finds the work done.

        Where nothing can be written there is nothing to hold, and what is complete can be read.
        """
        lock = lock_of(self.folder)
        try:
            Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                log.info("another process is making the same features; waiting for it")
                lock.acquire()
        except OSError as error:
            self._barred = error.strerror or str(error)
        try:
            yield
        finally:
            lock.release()

    def check(self) -> bool:
        """Compare what is there with its checksums; whether all rows are there and intact.

        Changes nothing and reads in bounded memory; `faults` says what is damaged.
        """
        self.faults, self._misshapen, self._good = [], [], set()
        if not self._recall():
            return False
        spans = {start: self._span(start) for start in map(int, self.manifest["chunks"])}
        damaged = {start for tap in self.arrays for start in self._damaged(tap, spans)}
        self._good = spans.keys() - damaged
        if self.manifest.get(ROWS, found := self.rows_checksum()) != found:
            self.faults.append(f"{ROWS} is damaged")
        return not self._misshapen and not self._missing()

    def all_entered(self) -> bool:
        """Whether the manifest names every row, intact or not; asked before the long check."""
        return self._recall() and self.rows_entered == self.rows

    @property
    def rows_entered(self) -> int:
        """How many rows the manifest names."""
        return sum(len(self._span(int(start))) for start in self.manifest["chunks"])

    def _recall(self) -> bool:
        try:
            self.manifest = read_manifest(self.folder)
        except Unusable as unusable:
            self.manifest = {}
            self.faults = [] if unusable.kind == "missing" else [str(unusable)]
        return bool(self.manifest)

    def _damaged(self, tap: str, spans: Mapping[int, range]) -> list[int]:
        array, sums = self.arrays[tap], self.manifest["chunks"]
        if not array.well_shaped():
            self._misshapen.append(tap)
            self.faults.append(f"{array.path.name}: header or length is damaged")
        found = zip(spans, array.checksums(spans.values()), strict=True)
        damaged = [start for start, checksum in found if checksum != sums[str(start)][tap]]
        self.faults += [f"{array.path.name}: rows {start} to {spans[start].stop - 1} are damaged" for start in damaged]
        return damaged

    def kept_batch_size(self, asked: int) -> int:
        """After `check`: the batch size of an earlier run while a chunk of it stands, so that no array mixes two."""
        return self.batch_size if self._good else asked

    def prepare(self, batch_size: int) -> list[range]:
        """After `check`: make the folder ready and tell which runs of rows are still to be made.

        `batch_size` is the kept one. Raises ProbeError when nothing can be written or the disk is too small.
        """
        if self._barred:
            lack = f"; {self.folder.name} there is not complete" if self.folder.is_dir() else ""
            raise ProbeError(f"cannot write to the cache '{self.folder.parent}': {self._barred}{lack}; choose another")
        self._tell_faults()
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            sweep(self.folder)
            self._make_room()
            for tap, array in self.arrays.items():
                if not self._good or tap in self._misshapen:
                    array.shape()
            if not self._good:
                self.manifest = {**self.facts, "rows": self.rows, "batch_size": batch_size, "chunks": {}}
            chunks = self.manifest["chunks"]
            self.manifest["chunks"] = {str(start): chunks[str(start)] for start in sorted(self._good)}
            self._write_manifest()
        return self._missing()

    def commit(self, start: int, block: Mapping[str, NDArray[np.float32]]) -> None:
        """Write one chunk of every array, then enter it."""
        with self._writing():
            sums = {tap: self.arrays[tap].write(start, values) for tap, values in block.items()}
            entered = {**self.manifest["chunks"], str(start): sums}
            self.manifest["chunks"] = dict(sorted(entered.items(), key=lambda chunk: int(chunk[0])))
            self._write_manifest()

    def state_rows(self, lines: Callable[[], Iterable[str]]) -> None:
        """State what the rows of the arrays are in `rows.csv`, and that they have been used now.

        While the file is replaced the manifest vouches for none, so a kill in between is no damage.
        """
        path, wanted = self.folder / ROWS, checksum_of(line.encode() for line in lines())
        same = self.rows_checksum() == wanted
        if self._barred:
            if not same:
                log.warning("%s is not of these labels and splits and cannot be written: %s", path, self._barred)
            return
        self._tell_faults()
        with self._writing():
            if not same or self.manifest.get(ROWS) != wanted:
                sweep(self.folder)
                if self.manifest.pop(ROWS, None) is not None:
                    self._write_manifest()
                replace_text(path, lines())
                self.manifest[ROWS] = wanted
                self._write_manifest()
            os.utime(self.folder / NAME)

    def rows_checksum(self) -> int | None:
        """Checksum of `rows.csv` as it is, or None when it cannot be read."""
        path = self.folder / ROWS
        try:
            with path.open("rb") as file:
                return checksum_of(blocks(file, path.stat().st_size))
        except OSError:
            return None

    @property
    def batch_size(self) -> int:
        """Images per forward pass with which these arrays are made."""
        return int(self.manifest["batch_size"])

    @property
    def chunk_rows(self) -> int:
        """Rows per chunk, a whole number of batches."""
        return -(-CHUNK // self.batch_size) * self.batch_size

    def _starts(self) -> range:
        return range(0, self.rows, self.chunk_rows)

    def _span(self, start: int) -> range:
        return range(start, min(start + self.chunk_rows, self.rows))

    def _missing(self) -> list[range]:
        runs: list[range] = []
        for span in map(self._span, self._starts()):
            if span.start in self._good:
                continue
            if runs and runs[-1].stop == span.start:
                runs[-1] = range(runs[-1].start, span.stop)
            else:
                runs.append(span)
        return runs

    def _make_room(self) -> None:
        free = shutil.disk_usage(self.folder).free
        there = sum(path.stat().st_blocks * 512 for path in self.folder.glob("*.npy"))
        if self.nbytes > free + there:
            raise ProbeError(
                f"the features take {self.nbytes / 1e9:.2f} GB and '{self.folder}' has {free / 1e9:.2f} GB free; "
                "choose another cache, a coarser level, or fewer images"
            )

    def _tell_faults(self) -> None:
        if self.faults:
            more = f" and {len(self.faults) - 1} more" if len(self.faults) > 1 else ""
            log.warning("%s: %s%s; made again", self.folder, self.faults[0], more)
        self.faults = []

    def _write_manifest(self) -> None:
        write_signed(self.folder / NAME, self.manifest)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ProbeError(
                f"cannot write features to '{self.folder}': {error.strerror}; what is finished is kept"
            ) from None


def lock_of(folder: Path) -> FileLock:
    """The lock of one folder; it lies beside the folders, so that one can be removed while it is held."""
    return FileLock(folder.parent / "locks" / f"{folder.name}.lock")
