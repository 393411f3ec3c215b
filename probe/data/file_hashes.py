"""Content hashes of files and what else they came to, remembered by path, size and modification time."""

import os
import sqlite3
import weakref
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from probe.base.errors import ProbeError
from probe.base.files import hash_file
from probe.base.runtime import log

TOGETHER = 1000  # files noted at once, so that a killed run has not read all for nothing
CHECK = 8  # digits of the checksum that stands after what is remembered

Key = tuple[str, int, int, str]  # path, size, modification time, fact


class FileHashes:
    """SHA-256 of files, and other facts; a file whose path, size and time are known is not opened again."""

    def __init__(self, folder: Path | None = None) -> None:
        """Remember in `folder`, where that can be read or written, else for the life of this object."""
        self._table = _open(folder and folder / "files.sqlite")
        weakref.finalize(self, self._table.close)

    def hash(self, files: Sequence[Path]) -> list[str]:
        """One hash per file. Raises ProbeError for a file that cannot be read."""
        return self.remember(files, ["hash"] * len(files), lambda i: hash_file(files[i]))

    def remember(self, files: Sequence[Path], facts: Sequence[str], find: Callable[[int], str]) -> list[str]:
        """One fact of each file; `find` is asked, in several threads, for those that are not known.

        `facts` names what is asked of each file. Raises ProbeError for a file that is not there.
        """
        keys = [_key(file, fact) for file, fact in zip(files, facts, strict=True)]
        found = {key: self._recall(key) for key in keys}
        first = {key: i for i, key in reversed([*enumerate(keys)]) if found[key] is None}
        new = sorted(first.values())
        for start in range(0, len(new), TOGETHER):
            part = new[start : start + TOGETHER]
            with ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="files") as pool:
                values = [(keys[i], value) for i, value in zip(part, pool.map(find, part), strict=True)]
            found |= dict(values)
            self._note(values)
        return [str(found[key]) for key in keys]

    def _recall(self, key: Key) -> str | None:
        """What is known of a file, if not a byte of it has changed since it was noted."""
        question = "select cast(value as blob) from facts where path = ? and size = ? and time = ? and fact = ?"
        try:
            row = self._table.execute(question, key).fetchone()
        except sqlite3.DatabaseError:  # damaged; `_note` will say so
            return None
        text = row[0].decode(errors="replace") if row and row[0] else ""
        known, check = text[:-CHECK], text[-CHECK:]
        return known if check == _check(key, known) else None

    def _note(self, values: Sequence[tuple[Key, str]]) -> None:
        rows = [(*key, value + _check(key, value)) for key, value in values]
        try:
            with self._table:
                self._table.executemany("insert or replace into facts values (?, ?, ?, ?, ?)", rows)
        except sqlite3.DatabaseError as error:
            log.warning("the cache's files.sqlite cannot remember %d files: %s", len(rows), error)


def _key(file: Path, fact: str) -> Key:
    try:
        status = file.stat()
    except OSError as error:
        raise ProbeError(f"cannot read '{file}': {error.strerror}") from None
    return str(file.resolve()), status.st_size, status.st_mtime_ns, fact


def _check(key: Key, value: str) -> str:
    return f"{zlib.crc32(repr((*key, value)).encode(errors='replace')):08x}"


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
    columns = "path text, size, time, fact text, value, primary key (path, fact)"
    try:
        with table:
            table.execute(f"create table if not exists facts ({columns})")
    except sqlite3.DatabaseError:
        table.close()
        raise
    return table
