"""The upkeep of a cache: its features verified and removed."""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import Timeout

from probe.base.errors import ProbeError
from probe.cache.inventory import Entry, entries, find, iso_time, store_of
from probe.cache.manifest import NAME, Unusable, read_manifest
from probe.cache.requests import RECIPES, Notebook
from probe.cache.store import lock_of

DAY = 86400  # seconds


class InUse(ProbeError):
    """A process is working on a set of features."""


def verify(entry: Entry) -> list[str]:
    """What is damaged, by every checksum and in bounded memory. Raises InUse while it is being made.

    What another version wrote has no checksums that this one knows.
    """
    folder = Path(entry.folder)
    if entry.state == "old":
        return []
    with _held(folder):
        try:
            store = store_of(folder, read_manifest(folder))
        except Unusable as unusable:
            return [] if unusable.kind == "missing" else [str(unusable)]
        store.check()
        return store.faults


def verify_all(cache: Path, prefixes: Sequence[str] = ()) -> list[dict[str, Any]]:
    """`name`, `state` and `faults` of the sets of features asked for; of all, and of the notes on networks, if none."""
    findings = []
    for entry in [find(cache, prefix) for prefix in prefixes] if prefixes else entries(cache):
        try:
            faults = verify(entry)
            state = "damaged" if faults else entry.state
        except InUse:
            faults, state = [], "in use"
        findings.append({"name": entry.digest, "state": state, "faults": faults})
    if not prefixes:
        notes = [f"{path.name} is damaged" for path in Notebook(cache).damaged()]
        findings.append({"name": RECIPES, "state": "damaged" if notes else "complete", "faults": notes})
    return findings


def remove(entry: Entry) -> None:
    """Delete a set of features. Raises InUse while it is being made, ProbeError when it cannot be deleted."""
    folder = Path(entry.folder)
    try:
        with _held(folder):
            (folder / NAME).unlink(missing_ok=True)  # first, so that no half of it is taken for damage
            shutil.rmtree(folder)
    except OSError as error:
        raise ProbeError(f"cannot remove '{folder}': {error.strerror}") from None


def remove_all(
    cache: Path, prefixes: Sequence[str] = (), older_than: float | None = None
) -> tuple[list[Entry], list[str]]:
    """Delete what is named, else what was not used for `older_than` days, else everything.

    Returns what is gone, and the digests that were in use and stay. Everything includes what is
    remembered of files and networks. A prefix that is unknown or stands for several raises
    ProbeError before anything is deleted.
    """
    chosen = list({entry.digest: entry for entry in (find(cache, prefix) for prefix in prefixes)}.values())
    if not prefixes:
        limit = iso_time(time.time() - (older_than or 0) * DAY)
        chosen = [entry for entry in entries(cache) if older_than is None or entry.used < limit]
    removed, kept = [], []
    for entry in chosen:
        try:
            remove(entry)
            removed.append(entry)
        except InUse:
            kept.append(entry.digest)
    if not prefixes and older_than is None:
        _remove_index(cache)
    return removed, kept


def _remove_index(cache: Path) -> None:
    try:
        for path in Notebook(cache).files():
            path.unlink()
        (cache / "files.sqlite").unlink(missing_ok=True)
    except OSError as error:
        raise ProbeError(f"cannot remove what '{cache}' remembers: {error.strerror}") from None


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    lock = lock_of(folder)
    try:
        Path(lock.lock_file).parent.mkdir(exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise InUse(f"'{folder}' is in use by another process") from None
    except OSError:
        pass  # where nothing can be written, nobody writes
    try:
        yield
    finally:
        lock.release()
