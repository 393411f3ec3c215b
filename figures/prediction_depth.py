"""Prediction depth: images that are settled first and last, and where those read rightly and wrongly settle.

Command: `probe depth --arch torchvision:resnet18 --data scans.npz` (writes `depth.pdf`).
Input: the images to show as arrays with what is known of them, the taps, and per image of the split the place of
the tap at which it settles and whether it is read rightly.
What one should see: early images that look typical of their class, late ones that are unusual, faint or
ambiguous; wrong readings (orange) settling later than right ones (blue). A class far commoner than the others
settles early whatever it looks like.
"""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from figures.style import COLORS, literal, paper
from probe.records.folder import Results, reading

COLUMNS = 8  # images in a row
LONGEST = 20  # characters of a line that fit under an image
STATED = {"True": True, "False": False}  # in a file of values
KINDS = {True: ("read as labelled", COLORS[0]), False: ("read otherwise", COLORS[1])}


def prediction_depth(
    first: Sequence[dict[str, Any]],
    last: Sequence[dict[str, Any]],
    taps: Sequence[str],
    settled: NDArray[np.integer],
    correct: NDArray[np.bool_],
    title: str,
) -> Figure:
    """A figure of a page's width: a row of images that settle `first`, one of those that settle `last`, a histogram.

    An image is a dict of `image` (height, width, 3), `id`, `label`, `predicted`, `correct` (None if that is not
    known) and `tap`. `settled` (n,) counts taps from 0, `correct` is (n,).
    """
    with plt.rc_context(paper("full", aspect=0.62)):
        figure = Figure()  # unknown to pyplot, which would keep it in memory
        grid = figure.add_gridspec(3, COLUMNS, height_ratios=[1, 1, 1.1])
        places = [[figure.add_subplot(grid[row, column]) for column in range(COLUMNS)] for row in (0, 1)]
        for row, (name, shown) in zip(places, (("settled first", first), ("settled last", last)), strict=True):
            for place, each in zip_longest(row, shown[:COLUMNS]):
                _draw(place, each)
            row[0].set_ylabel(name)
        _draw_histogram(figure.add_subplot(grid[2, :]), taps, settled, correct)
        figure.suptitle(literal(title), fontsize=8)
        return figure


def redraw(results: Results) -> dict[str, Figure]:
    """The figure from a folder of results, by file stem."""
    paths = [results.path(name, "probe depth") for name in ("depth.csv", "depth.npz")]
    results.table("depth.csv", "probe depth")  # so that it is told which of the two is damaged
    with reading(paths[1]), paths[1].open("rb") as file:
        np.load(file).close()
    results.check("depth.csv")
    with reading(*paths):
        return {"depth": figure_of(*paths)}


def figure_of(table: Path, images: Path) -> Figure:
    """The figure from what is known of every image, and the images that are shown, their names, the taps, the title."""
    every = pd.read_csv(table, dtype={"id": str, "label": str, "predicted": str, "correct": str}, keep_default_na=False)
    known = every.set_index("id").to_dict(orient="index")
    with np.load(images) as stored:
        first, last = (
            [_example(name, known[name], stored[f"{end}_{at}"]) for at, name in enumerate(stored[end].tolist())]
            for end in ("first", "last")
        )
        taps, title = stored["taps"].tolist(), str(stored["title"])
    stated = every[every["correct"].isin(list(STATED))]
    right = stated["correct"].eq("True").to_numpy(bool)
    return prediction_depth(first, last, taps, stated["index"].to_numpy(), right, title)


def _example(name: str, known: dict[Any, Any], image: NDArray[np.uint8]) -> dict[str, Any]:
    return {**known, "id": name.rpartition("/")[2], "image": image, "correct": STATED.get(known["correct"])}


def _draw(axes: Axes, example: dict[str, Any] | None) -> None:
    axes.set(xticks=[], yticks=[])
    if example is None:
        axes.set_axis_off()
        return
    axes.imshow(example["image"])
    lines = [
        example["id"],
        f"labelled {example['label'] or 'none'}",
        f"read as {example['predicted'] or 'none'}",
        example["tap"],
    ]
    axes.set_xlabel("\n".join(literal(_short(line)) for line in lines), fontsize=5, linespacing=1.15)
    for spine in axes.spines.values():
        color = "0.6" if example["correct"] is None else KINDS[bool(example["correct"])][1]
        spine.set(visible=True, color=color, linewidth=1.6)


def _short(line: str) -> str:
    return line if len(line) <= LONGEST else f"\N{HORIZONTAL ELLIPSIS}{line[1 - LONGEST :]}"


def _draw_histogram(axes: Axes, taps: Sequence[str], settled: NDArray[np.integer], correct: NDArray[np.bool_]) -> None:
    """Shares of the images read rightly, and of those read wrongly, that settle at each tap."""
    places = np.arange(len(taps))
    for side, (kind, (name, color)) in zip((-0.2, 0.2), KINDS.items(), strict=True):
        chosen = settled[correct == kind]
        if len(chosen):
            shares = np.bincount(chosen, minlength=len(taps)) / len(chosen)
            axes.bar(places + side, shares, 0.38, color=color, label=f"{name} ({len(chosen)})")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xticks(places, taps, rotation=90 if len(taps) > COLUMNS + 1 else 0, fontsize=5.5)
    axes.set(xlabel="tap from which on the prediction is that of the last tap", ylabel="share of images")
    axes.set_ylim(top=1.25 * axes.get_ylim()[1])  # room above the bars
    axes.legend(loc="upper right", ncols=2)
