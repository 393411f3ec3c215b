"""What a set of features is: weights, images, numerics and versions, and the digest that names it."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe.base.files import Damaged, digest_of, read_signed, write_signed
from probe.base.runtime import log, versions
from probe.cache.manifest import FORMAT, is_unsigned, read_loosely
from probe.data import Dataset, FileHashes
from probe.settings import Extraction

if TYPE_CHECKING:
    from probe.backbones import Backbone


RECIPES = "recipes"  # folder beside the features


def data_fingerprint(data: Dataset, files: FileHashes) -> str:
    """Hash of the images, of their order and of how they are read; labels and splits do not change a feature."""
    images = {"ids": data.ids.tolist(), "images": list(data.images.hashes(files)), "reading": data.images.reading}
    return digest_of(images)


def network_request(net: "Backbone", settings: Extraction, device: str) -> dict[str, Any]:
    """All of a request but its data; the settings are settled."""
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
        "compiled": settings.compile == "on",
        "device": device.partition(":")[0],
        "versions": versions(),
    }


class Notebook:
    """Remembers what a recipe for a network came to, so that a warm run need not build it again.

    The recipe holds whatever decides the weights (a seed, or the hash of a file) and every version.
    """

    def __init__(self, cache: Path) -> None:
        self._folder = cache / RECIPES

    def recall(self, recipe: Any) -> dict[str, Any] | None:
        """What was noted for a recipe, or None."""
        path = self._path(recipe)
        if _is_damaged(path):
            log.warning("%s is damaged; the network is built again", path)
        try:
            return read_signed(path)
        except (OSError, Damaged):
            return None

    def note(self, recipe: Any, outcome: dict[str, Any]) -> None:
        """Remember a recipe's outcome, where something can be written."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_signed(self._path(recipe), outcome)
        except OSError as error:
            log.warning("cannot remember this network in '%s': %s; a later run builds it", self._folder, error.strerror)

    def files(self) -> list[Path]:
        """Every note, and nothing else that may lie there."""
        return sorted(path for path in self._folder.glob("*.json") if re.fullmatch("[0-9a-f]{32}", path.stem))

    def damaged(self) -> list[Path]:
        """Notes that are not what was written."""
        return [path for path in self.files() if _is_damaged(path)]

    def _path(self, recipe: Any) -> Path:
        return self._folder / f"{digest_of(recipe)}.json"


def _is_damaged(path: Path) -> bool:
    try:
        read_signed(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, Damaged):
        return not is_unsigned(read_loosely(path))
    return False
