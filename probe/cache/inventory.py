"""What a cache holds: listed, measured, looked up."""

import json
import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from probe.base.errors import ProbeError
from probe.base.lookup import unknown
from probe.cache.manifest import FORMAT, NAME, Unusable, read_loosely, read_manifest
from probe.cache.store import Store

DIGEST = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One set of features, as far as its manifest can be read; None for what cannot.

    `state` is complete, partial, old (another version's), damaged or missing (no manifest yet);
    `done` counts the rows that are there of `rows`, `bytes` is what it takes on the disk.
    """

    digest: str
    state: str
    arch: Any
    weights: Any
    dataset: Any
    taps: int | None
    rows: Any
    done: int | None
    bytes: int
    used: str
    folder: str

    def cells(self) -> list[str | int]:
        """A line of `probe cache ls`."""
        partial = f"{self.done / self.rows:.0%} made" if self.state == "partial" and self.done is not None else None
        known = [self.arch, self.weights, self.dataset, self.taps, self.rows]
        cells = ["?" if cell is None else cell if isinstance(cell, int) else str(cell) for cell in known]
        return [self.digest[:12], partial or self.state, *cells, f"{self.bytes / 1e6:.1f}", self.used[:19]]


def entries(cache: Path) -> list[Entry]:
    """Every set of features in a cache, the last used first. Raises ProbeError for what is no folder."""
    try:
        folders = [path for path in cache.iterdir() if DIGEST.fullmatch(path.name) and _is_ours(path)]
        return sorted(map(_entry, folders), key=lambda entry: (entry.used, entry.digest), reverse=True)
    except FileNotFoundError as error:
        if error.filename in (None, str(cache)):
            return []
        return entries(cache)  # one was removed while we looked
    except OSError as error:
        raise ProbeError(f"cannot read the cache '{cache}': {error.strerror}") from None


def find(cache: Path, prefix: str) -> Entry:
    """The one whose digest begins so. Raises ProbeError when none does, or several do."""
    known = entries(cache)
    found = [entry for entry in known if prefix and entry.digest.startswith(prefix)]
    if not found:
        raise unknown("digest", prefix, [entry.digest for entry in known], "'probe cache ls'")
    if len(found) > 1:
        raise ProbeError(f"'{prefix}' begins {len(found)} digests: {', '.join(entry.digest for entry in found)}")
    return found[0]


def size(cache: Path) -> dict[str, Any]:
    """Bytes of the features, of what is remembered beside them, and free."""
    known = entries(cache)
    features = sum(entry.bytes for entry in known)
    there = next(place for place in (cache, *cache.absolute().parents) if place.is_dir())
    return {
        "cache": str(cache),
        "entries": len(known),
        "features": features,
        "index": _bytes(cache) - features,
        "free": shutil.disk_usage(there).free,
    }


def of_other_versions(folder: Path, request: dict[str, Any]) -> dict[str, str]:
    """Digests of the same features made with other versions, and what differs."""
    found, asked = {}, json.loads(json.dumps(request))  # as a manifest would hold it
    for entry in entries(folder.parent):
        made = read_loosely(Path(entry.folder) / NAME).get("request")
        if not isinstance(made, dict) or entry.digest == folder.name or not {"state", "data"} <= made.keys():
            continue
        if all(made[key] == asked[key] for key in made.keys() & asked.keys() - {"versions", "format"}):
            found[entry.digest] = _difference(made, request)
    return found


def _difference(made: dict[str, Any], request: dict[str, Any]) -> str:
    before, now = made.get("versions"), request["versions"]
    pairs = before.items() if isinstance(before, dict) else ()
    changed = [f"{name} {was}, now {now.get(name)}" for name, was in pairs if now.get(name) != was]
    if made.get("format") != FORMAT:
        changed.append(f"cache format {made.get('format')}, now {FORMAT}")
    return "; ".join(changed)


def _is_ours(folder: Path) -> bool:
    return (folder / NAME).is_file() or any(folder.glob("*.npy"))


def _entry(folder: Path) -> Entry:
    try:
        manifest = read_manifest(folder)
        state = "partial"
    except Unusable as unusable:
        manifest, state = read_loosely(folder / NAME), unusable.kind
    done = None
    if state == "partial":
        store = store_of(folder, manifest)
        done = store.rows_entered
        state = "complete" if done == store.rows else "partial"
    origin, taps = manifest.get("origin"), manifest.get("taps")
    origin = origin if isinstance(origin, dict) else {}
    place = folder / NAME
    return Entry(
        digest=folder.name,
        state=state,
        arch=origin.get("arch"),
        weights=origin.get("weights"),
        dataset=manifest.get("dataset"),
        taps=len(taps) if isinstance(taps, list) else None,
        rows=manifest.get("rows"),
        done=done,
        bytes=_bytes(folder),
        used=iso_time((place if place.is_file() else folder).stat().st_mtime),
        folder=str(folder),
    )


def store_of(folder: Path, manifest: dict[str, Any]) -> Store:
    """The arrays that a manifest describes."""
    store = Store(folder, manifest["request"]["widths"], manifest["rows"], {})
    store.manifest = manifest
    return store


def iso_time(seconds: float) -> str:
    """Seconds since 1970 as text whose order is that of time."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _bytes(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if not path.is_dir())
