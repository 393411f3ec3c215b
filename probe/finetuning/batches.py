"""Which images make a step, in which order, and how they are changed."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms.v2 import functional

from probe.base.errors import ProbeError
from probe.data import Images

Indices = NDArray[np.int64]
# Share of the area, and width over height: torchvision's RandomResizedCrop by default, and a mild one of our choice.
AUGMENTS = {"light": ((0.8, 1.0), (9 / 10, 10 / 9)), "crops": ((0.08, 1.0), (3 / 4, 4 / 3))}
TRIES = 10


def draw_epoch(rows: Indices, classes: Indices | None, sampling: str, generator: np.random.Generator) -> Indices:
    """The rows of an epoch, in order: each once, or as many draws in which every class is as likely.

    `classes` (n,) are those of all images; None where an image may have several labels.
    """
    if sampling == "plain":
        return generator.permutation(rows)
    if classes is None:
        raise ProbeError("balanced sampling takes one class per image; these data are multi-label")
    weights = 1 / np.bincount(classes[rows])[classes[rows]]
    return generator.choice(rows, len(rows), p=weights / weights.sum())


def cut_steps(count: int, size: int, parts: int) -> list[list[Indices]]:
    """Positions 0 to count - 1 as steps of `size`, each in `parts`.

    No part is of one image, of which BatchNorm has no variance: a short last step joins the one before it.
    Raises ProbeError when there are too few images for that.
    """
    least = 2 * parts
    if min(size, count) < least:
        raise ProbeError(
            f"a step of {min(size, count)} images in {parts} parts has parts of a single image, which BatchNorm cannot "
            f"be trained on; take at least {least} training images and such a batch size, or fewer parts"
        )
    bounds = [*range(0, count, size), count]
    if len(bounds) > 2 and bounds[-1] - bounds[-2] < least:
        del bounds[-2]
    return [np.array_split(np.arange(start, stop), parts) for start, stop in pairwise(bounds)]


class Changed:
    """The images at `order`, each changed as its place in the epoch decides, or its row alone; see `AUGMENTS`."""

    def __init__(
        self, images: Images, order: Indices, augment: str, seeds: Sequence[int], by_row: bool = False
    ) -> None:
        self.images, self.order, self.augment, self.seeds = images, order, augment, tuple(seeds)
        self.by_row = by_row

    def __len__(self) -> int:
        return len(self.order)

    def load(self, index: int) -> Image.Image:
        """The image at a place of the epoch."""
        row = int(self.order[index])
        image = self.images.load(row)
        if self.augment == "none":
            return image
        generator = np.random.default_rng((*self.seeds, row if self.by_row else index))
        left, top, width, height = draw_crop(image.width, image.height, *AUGMENTS[self.augment], generator)
        image = functional.crop(image, top, left, height, width)
        mirrored: Image.Image = functional.horizontal_flip(image) if generator.random() < 0.5 else image
        return mirrored


def draw_crop(
    width: int,
    height: int,
    area: tuple[float, float],
    aspect: tuple[float, float],
    generator: np.random.Generator,
) -> tuple[int, int, int, int]:
    """Left, top, width and height of a part: its share of the area uniform, its aspect log-uniform.

    As torchvision's RandomResizedCrop, whose draws come from global state; where ten draws do not fit,
    all that the aspect allows.
    """
    low, high = np.log(aspect)
    for _ in range(TRIES):
        size, ratio = width * height * generator.uniform(*area), math.exp(generator.uniform(low, high))
        w, h = round(math.sqrt(size * ratio)), round(math.sqrt(size / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(generator.integers(width - w + 1)), int(generator.integers(height - h + 1)), w, h
    w, h = min(width, max(1, round(height * aspect[1]))), min(height, max(1, round(width / aspect[0])))
    return (width - w) // 2, (height - h) // 2, w, h
