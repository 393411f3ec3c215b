"""Files replaced as a whole, JSON that carries a checksum of itself, and the digests of requests and of files."""

import hashlib
import json
import math
import os
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from probe.base.errors import ProbeError


class Damaged(Exception):
    """A file is not what was written."""


def digest_of(request: Any) -> str:
    """Name of a request: 128 bits of SHA-256 over its canonical JSON."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:32]


def plain(value: Any) -> Any:
    """Nested data as JSON takes it: NumPy's numbers as plain ones, None for a number that is not defined."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_signed(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a file by `content` and its checksum, as JSON."""
    text = json.dumps(content, indent=1)
    replace_text(path, f'{{\n "checksum": {zlib.crc32(text.encode())},{text[1:]}\n')


def read_signed(path: Path) -> dict[str, Any]:
    """What `write_signed` wrote. Raises OSError, or Damaged when a single byte is another."""
    written = path.read_bytes()
    signed = re.fullmatch(rb'{\n "checksum": (\d+),(.*)\n', written, re.DOTALL)
    if signed is None or str(zlib.crc32(b"{" + signed[2])).encode() != signed[1]:
        raise Damaged(path)
    content = json.loads(written)
    del content["checksum"]
    return dict(content)


def replace_text(path: Path, text: str | Iterable[str]) -> None:
    """Put a text in place of a file in one step: a reader sees the old one or the new one, never a part."""
    lines = [text] if isinstance(text, str) else text
    replace_file(path, lambda file: file.writelines(line.encode() for line in lines))


def replace_file(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Put what `write` writes in place of a file in one step."""
    new = path.with_name(f".{path.name}.{uuid4().hex}")  # threads, and hosts on one disk, share process numbers
    try:
        with new.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def sweep(folder: Path) -> None:
    """Remove what `replace_file` had not finished when its process was killed; nobody else may be writing there."""
    for path in folder.glob(".*.*"):
        path.unlink()


def hash_file(file: Path) -> str:
    """SHA-256 of what a file holds. Raises ProbeError when it cannot be read."""
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise ProbeError(f"cannot read '{file}': {error.strerror}") from None
