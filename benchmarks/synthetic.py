"""A data set without end: noise drawn from the number of the image, nothing of it held."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from probe.data import Dataset, FileHashes, make_dataset

SIDE = 16  # pixels


class Noise:
    """`count` images, each made when it is asked for."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.reading: dict[str, Any] = {"noise": SIDE}

    def __len__(self) -> int:
        return self.count

    def load(self, index: int) -> Image.Image:
        """One image, the same every time."""
        return Image.fromarray(np.random.default_rng(index).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))

    def hashes(self, files: FileHashes) -> Sequence[str]:
        """One for all."""
        return [hashlib.sha256(f"noise {self.count}".encode()).hexdigest()]


def noise(count: int) -> Dataset:
    """Noise with two classes and given splits."""
    ids = [f"{i:07d}" for i in range(count)]
    splits = [("train", "train", "train", "val", "test")[i % 5] for i in range(count)]
    return make_dataset("noise", Noise(count), ids, np.arange(count) % 2, ["a", "b"], splits=splits)
