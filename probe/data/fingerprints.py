"""Content hashes of files and what else they came to, remembered by path, size and modification time."""

import hashlib
import os
import sqlite3
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from probe.errors import ProbeError

SLICE = 1024  # files after which what was found is written down


class FileHashes:
    """SHA-256 of files, and other facts; a file whose path, size and time are known is not opened again."""

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
        return self.remember(files, ["hash"] * len(files), lambda i: _content_hash(files[i]))

    def remember(self, files: Sequence[Path], facts: Sequence[str], find: Callable[[int], str]) -> list[str]:
        """One fact of each file; `find` is asked, in several threads, for those that are not known.

        `facts` names what is asked of each file. Raises ProbeError for a file that is not there.
        """
        try:
            return self._remember(files, facts, find)
        except sqlite3.DatabaseError as error:
            raise ProbeError(f"the cache's files.sqlite is damaged ({error}); delete it and it is made again") from None

    def _remember(self, files: Sequence[Path], facts: Sequence[str], find: Callable[[int], str]) -> list[str]:
        keys = [(*_key(file), fact) for file, fact in zip(files, facts, strict=True)]
        found = {key: self._known(key) for key in keys}
        first = {key: i for i, key in reversed([*enumerate(keys)]) if found[key] is None}
        new = sorted(first.values())
        for start in range(0, len(new), SLICE):
            part = new[start : start + SLICE]
            with ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="files") as pool:
                values = [(keys[i], value) for i, value in zip(part, pool.map(find, part), strict=True)]
            found |= dict(values)
            with self._table:
                rows = [(*key, value) for key, value in values]
                self._table.executemany("insert or replace into facts values (?, ?, ?, ?, ?)", rows)
        return [str(found[key]) for key in keys]

    def _known(self, key: tuple[str, int, int, str]) -> str | None:
        question = "select value from facts where path = ? and size = ? and time = ? and fact = ?"
        row = self._table.execute(question, key).fetchone()
        return None if row is None else str(row[0])


def _key(file: Path) -> tuple[str, int, int]:
    try:
        status = file.stat()
    except OSError as error:
        raise ProbeError(f"cannot read '{file}': {error.strerror}") from None
    return str(file.resolve()), status.st_size, status.st_mtime_ns


def _content_hash(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise ProbeError(f"cannot read '{file}': {error.strerror}") from None


def _open(place: Path | None) -> sqlite3.Connection:
    table = sqlite3.connect(place or ":memory:", timeout=60)
    with table:
        columns = "path text, size, time, fact text, value, primary key (path, fact)"
        table.execute(f"create table if not exists facts ({columns})")
    return table
