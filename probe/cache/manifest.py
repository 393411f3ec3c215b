"""The manifest of one set of features: read only when it is whole, of this version and of the request asked for."""

import json
from pathlib import Path
from typing import Any

from probe.base.files import Damaged, digest_of, read_signed

FORMAT = 2  # of the cache folder
FIELDS = {"request", "origin", "taps", "rows", "batch_size", "chunks"}
NAME = "manifest.json"


class Unusable(Exception):
    """A manifest that cannot be relied on. `kind` is missing, damaged or old; the text is for the user."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder. Raises Unusable."""
    try:
        found = read_signed(folder / NAME)
    except (FileNotFoundError, NotADirectoryError):
        raise Unusable("missing", f"{NAME} is missing") from None
    except OSError as error:
        raise Unusable("damaged", f"{NAME} cannot be read: {error.strerror}") from None
    except Damaged:
        found = read_loosely(folder / NAME)
        if not is_unsigned(found):
            raise Unusable("damaged", f"{NAME} is damaged") from None
    if _format(found) != FORMAT or not found.keys() >= FIELDS:
        raise Unusable("old", f"written by another version (format {_format(found)}; this one reads {FORMAT})")
    if digest_of(found["request"]) != folder.name:
        raise Unusable("damaged", f"{NAME} belongs to another folder")
    return found


def read_loosely(path: Path) -> dict[str, Any]:
    """What can be made out of a signed file that may be damaged, to show and not to rely on."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def is_unsigned(found: dict[str, Any]) -> bool:
    """Whether this is of a format before checksums, rather than damaged."""
    return "checksum" not in found and "request" in found and _format(found) != FORMAT


def _format(found: dict[str, Any]) -> Any:
    request = found.get("request")
    return request.get("format") if isinstance(request, dict) else None
