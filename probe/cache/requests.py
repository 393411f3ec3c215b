"""What a set of features is: weights, images, numerics and versions, and the digest that names it."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe.cache.store import replace_text
from probe.data import Dataset, FileHashes
from probe.runtime import versions
from probe.settings import Extraction

if TYPE_CHECKING:
    from probe.backbones import Backbone

FORMAT = 1  # of the cache folder


def data_fingerprint(data: Dataset, files: FileHashes) -> str:
    """Hash of the images, of their order and of how they are read; labels and splits do not change a feature."""
    images = {"ids": data.ids.tolist(), "images": list(data.images.hashes(files)), "reading": data.images.reading}
    return digest_of(images)


def network_request(net: "Backbone", settings: Extraction, device: str) -> dict[str, Any]:
    """All of a request but its data."""
    return {
        "format": FORMAT,
        "arch": net.origin.arch,
        "state": net.weights_hash(),
        "level": net.origin.level,
        "taps": list(net.taps),
        "preprocessing": asdict(net.origin.preprocessing),
        "pool": settings.pool,
        "dtype": settings.dtype,
        "channels_last": settings.channels_last,
        "compiled": False,
        "folded_batchnorm": False,
        "device": device.partition(":")[0],
        "versions": versions(),
    }


def digest_of(request: Any) -> str:
    """Name of a request: 128 bits of SHA-256 over its canonical JSON."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:32]


class Notebook:
    """Remembers what a recipe for a network came to, so that a warm run need not build it again.

    The recipe holds whatever decides the weights (a seed, or the hash of a file) and every version.
    """

    def __init__(self, cache: Path) -> None:
        self._folder = cache / "recipes"

    def recall(self, recipe: Any) -> dict[str, Any] | None:
        """What was noted for a recipe, or None."""
        try:
            found = json.loads(self._path(recipe).read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def note(self, recipe: Any, outcome: dict[str, Any]) -> None:
        """Remember a recipe's outcome."""
        self._folder.mkdir(parents=True, exist_ok=True)
        replace_text(self._path(recipe), json.dumps(outcome))

    def _path(self, recipe: Any) -> Path:
        return self._folder / f"{digest_of(recipe)}.json"
