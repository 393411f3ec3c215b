"""Contact sheet: a handful of images of one class, to be looked at before anyone trains on them.

Command: `probe data my_images/labels.csv` (writes `contact-CLASS.png`, one per class).
Input: images as arrays, their names and splits; the caller draws the sample.
What one should see: the same kind of picture everywhere, of the class that the title names; no border,
ruler, arrow or size that goes with the class alone; splits (coloured frames) that look alike.
"""

from collections.abc import Sequence
from itertools import zip_longest
from math import ceil

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from figures.style import COLORS, literal, paper

COLUMNS = 6
LONGEST = 24  # characters of a name that fit under an image
SPLIT_COLORS = dict(zip(("train", "val", "test"), COLORS, strict=False))


def contact_sheet(
    images: Sequence[NDArray[np.uint8]], names: Sequence[str], splits: Sequence[str], title: str
) -> Figure:
    """A figure of a page's width: images (height, width, 3), each with its name below and its split as a frame."""
    rows = max(1, ceil(len(images) / COLUMNS))
    aspect = rows / COLUMNS * 1.1 + 0.08
    with plt.rc_context(paper("full", aspect=aspect)):
        figure = Figure()  # unknown to pyplot, which would keep every sheet in memory
        axes = figure.subplots(rows, COLUMNS, squeeze=False)
        for place, image, name, split in zip_longest(axes.flat, images, names, splits):
            if image is None:
                place.set_axis_off()
            else:
                _draw(place, image, name, split)
        figure.suptitle(literal(title), fontsize=8)
        shown = [split for split in SPLIT_COLORS if split in splits]
        keys = [Patch(facecolor="none", edgecolor=SPLIT_COLORS[split], linewidth=1.6, label=split) for split in shown]
        figure.legend(handles=keys, loc="outside lower center", ncols=len(SPLIT_COLORS))
        return figure


def _draw(axes: Axes, image: NDArray[np.uint8], name: str, split: str) -> None:
    axes.imshow(image)
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel(
        literal(name if len(name) <= LONGEST else f"\N{HORIZONTAL ELLIPSIS}{name[1 - LONGEST :]}"), fontsize=5
    )
    for spine in axes.spines.values():
        spine.set(visible=True, color=SPLIT_COLORS[split], linewidth=1.6)
