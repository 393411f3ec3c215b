"""Some images of every class, to be looked at."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.data import SPLITS, Dataset

IMAGES = 24  # on a sheet
SIDE = 256  # pixels, at most


def samples(data: Dataset, readable: NDArray[np.bool_], seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Per class a name fit for a file and a sheet: images, names, splits and title.

    The images are drawn from `seed` among the readable ones and stand in the order of splits. Of
    several labels, images without any make a class of their own. A class of which nothing can be
    read has no sheet.
    """
    for number, (title, shown) in enumerate(data.task.members(data.labels)):
        rows = np.flatnonzero(shown & readable)
        if not len(rows):
            continue
        some = np.random.default_rng([seed, number]).choice(rows, min(IMAGES, len(rows)), replace=False)
        drawn = sorted(some.tolist(), key=lambda row: (SPLITS.index(data.splits[row]), row))
        yield (
            f"{number:02d}-{re.sub(r'[^A-Za-z0-9]+', '_', title)[:40]}",
            {
                "images": [_small(data, row) for row in drawn],
                "names": [str(data.ids[row]).rpartition("/")[2] for row in drawn],
                "splits": [str(data.splits[row]) for row in drawn],
                "title": f"{data.name}: {title}, {len(drawn)} of {int(shown.sum())} images",
            },
        )


def _small(data: Dataset, row: int) -> NDArray[np.uint8]:
    image = data.images.load(row)
    image.thumbnail((SIDE, SIDE))
    return np.asarray(image)
