"""Content hashes of files, remembered by path, size and modification time, so that a second run reads none."""

import hashlib
import sqlite3
import weakref
from collections.abc import Sequence
from pathlib import Path

from probe.errors import ProbeError


class FileHashes:
    """SHA-256 of files; a file whose path, size and time are known is not opened again."""

    def __init__(self, folder: Path | None = None) -> None:
        """Remember in `folder`, or only for the life of this object. Raises ProbeError when it cannot be written."""
        place = folder and folder / "files.sqlite"
        try:
            if folder and place:
                folder.mkdir(parents=True, exist_ok=True)
            try:
                self._table = _open(place)
            except sqlite3.DatabaseError as error:
                if place is None or isinstance(error, sqlite3.OperationalError):
                    raise
                place.unlink()  # damaged; what it remembered can be found out again
                self._table = _open(place)
            weakref.finalize(self, self._table.close)
        except (OSError, sqlite3.OperationalError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ProbeError(f"cannot write to the cache '{folder}': {reason}; choose another") from None

    def hash(self, files: Sequence[Path]) -> list[str]:
        """One hash per file. Raises ProbeError for a file that cannot be read."""
        try:
            return self._hash(files)
        except sqlite3.DatabaseError as error:
            raise ProbeError(f"the cache's files.sqlite is damaged ({error}); delete it and it is made again") from None

    def _hash(self, files: Sequence[Path]) -> list[str]:
        found, new = [], []
        for file in files:
            key = self._key(file)
            row = self._table.execute("select hash from files where path = ? and size = ? and time = ?", key).fetchone()
            if row is None:
                row = (_content_hash(file),)
                new.append((*key, *row))
            found.append(str(row[0]))
        with self._table:
            self._table.executemany("insert or replace into files values (?, ?, ?, ?)", new)
        return found

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


def _open(place: Path | None) -> sqlite3.Connection:
    table = sqlite3.connect(place or ":memory:", timeout=60)
    with table:
        table.execute("create table if not exists files (path text primary key, size, time, hash)")
    return table
