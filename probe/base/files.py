"""Small text files, replaced as a whole; JSON among them that carries a checksum of itself; the hash of any file."""

import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from probe.base.errors import ProbeError


class Damaged(Exception):
    """A file is not what was written."""


def write_signed(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a file by `content` and its checksum, as JSON."""
    replace_text(path, _signed(content))


def read_signed(path: Path) -> dict[str, Any]:
    """What `write_signed` wrote. Raises OSError, or Damaged when a single byte is another."""
    try:
        text = path.read_bytes().decode()
        content = json.loads(text)
        del content["checksum"]
        whole = _signed(content) == text
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise Damaged(path)
    return dict(content)


def _signed(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, indent=1)
    return f'{{\n "checksum": {zlib.crc32(text.encode())},{text[1:]}\n'


def replace_text(path: Path, text: str | Iterable[str]) -> None:
    """Put a text in place of a file in one step: a reader sees the old one or the new one, never a part."""
    new = path.with_name(f".{path.name}.{uuid4().hex}")  # threads, and hosts on one disk, share process numbers
    try:
        with new.open("w", encoding="utf-8", newline="") as file:
            file.writelines([text] if isinstance(text, str) else text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def sweep(folder: Path) -> None:
    """Remove what `replace_text` had not finished when its process was killed; nobody else may be writing there."""
    for path in folder.glob(".*.*"):
        path.unlink()


def hash_file(file: Path) -> str:
    """SHA-256 of what a file holds. Raises ProbeError when it cannot be read."""
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise ProbeError(f"cannot read '{file}': {error.strerror}") from None
