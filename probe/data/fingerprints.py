"""Content hashes of files, remembered by path, size and modification time, so that a second run reads none."""

import hashlib
import sqlite3
import weakref
import zlib
from collections.abc import Sequence
from pathlib import Path

from probe.errors import ProbeError
from probe.runtime import log

DIGITS = 64  # of a SHA-256; a checksum of the row follows
TOGETHER = 1000  # files noted at once, so that a killed run has not read all for nothing


class FileHashes:
    """SHA-256 of files; a file whose path, size and time are known is not opened again."""

    def __init__(self, folder: Path | None = None) -> None:
        """Remember in `folder`, where that can be read or written, else for the life of this object."""
        self._table = _open(folder and folder / "files.sqlite")
        weakref.finalize(self, self._table.close)

    def hash(self, files: Sequence[Path]) -> list[str]:
        """One hash per file. Raises ProbeError for a file that cannot be read."""
        found, new = [], []
        for file in files:
            key = self._key(file)
            known = self._recall(*key)
            if known is None:
                known = _content_hash(file)
                new.append((*key, known + _check(*key, known)))
            found.append(known)
            if len(new) == TOGETHER:
                self._note(new)
                new = []
        if new:
            self._note(new)
        return found

    def _recall(self, path: str, size: int, time: int) -> str | None:
        """What is known of a file, if not a byte of it has changed since it was noted."""
        try:
            query = "select cast(hash as blob) from files where path = ? and size = ? and time = ?"
            row = self._table.execute(query, (path, size, time)).fetchone()
        except sqlite3.DatabaseError:  # damaged; `_note` will say so
            return None
        text = row[0].decode(errors="replace") if row and row[0] else ""
        known = text[:DIGITS]
        return known if text[DIGITS:] == _check(path, size, time, known) else None

    def _note(self, rows: Sequence[tuple[str, int, int, str]]) -> None:
        try:
            with self._table:
                self._table.executemany("insert or replace into files values (?, ?, ?, ?)", rows)
        except sqlite3.DatabaseError as error:
            log.warning("the cache's files.sqlite cannot remember %d files: %s", len(rows), error)

    @staticmethod
    def _key(file: Path) -> tuple[str, int, int]:
        try:
            status = file.stat()
        except OSError as error:
            raise ProbeError(f"cannot read '{file}': {error.strerror}") from None
        return str(file.resolve()), status.st_size, status.st_mtime_ns


def _content_hash(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ProbeError(f"cannot read '{file}': {error.strerror}") from None


def _check(path: str, size: int, time: int, content: str) -> str:
    return f"{zlib.crc32(repr((path, size, time, content)).encode()):08x}"


def _open(place: Path | None) -> sqlite3.Connection:
    """The table in a file; anew where that is damaged, read only or in memory where it cannot be written."""
    if place is None:
        return _connect(":memory:")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            return _connect(str(place))
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            place.unlink()  # damaged; what it remembered can be found out again
            return _connect(str(place))
    except (OSError, sqlite3.DatabaseError):
        return _connect(":memory:")


def _connect(place: str) -> sqlite3.Connection:
    table = sqlite3.connect(place, timeout=60)
    try:
        with table:
            table.execute("create table if not exists files (path text primary key, size, time, hash)")
    except sqlite3.DatabaseError:
        table.close()
        raise
    return table
