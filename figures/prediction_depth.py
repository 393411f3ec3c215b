"""Prediction depth: images that are settled first and last, and where those read rightly and wrongly settle.

Command: `probe depth --arch torchvision:resnet18 --data scans.npz` (writes `depth.pdf`).
Input: the cell of a run: per image of the split where it settles and whether it is read rightly, the taps, and the
pictures of the images to show.
What one should see: early images that look typical of their class, late ones that are unusual, faint or
ambiguous; wrong readings (orange) settling later than right ones (blue). A class far commoner than the others
settles early whatever it looks like.
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from figures.style import COLORS, literal, paper
from probe.records.display_names import weights_name
from probe.records.record import Entry
from probe.records.stored_tables import depth_table
from probe.records.view import View

COLUMNS = 8  # images in a row
LONGEST = 20  # characters of a line that fit under an image
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


def redraw(view: View) -> dict[str, Figure]:
    """The figure of the latest run in a record, by file stem."""
    return {"depth": figure_of(view.finished("depth")[-1][1][0])}


def figure_of(entry: Entry) -> Figure:
    """The figure of a cell: its table of images, the pictures that it kept, and what it was asked."""
    table, asked = depth_table(entry), entry.asked["Depths"]
    readout = f"{asked['k']} nearest neighbours" if asked["readout"] == "knn" else "linear probes"
    words = [entry.labels["dataset"], entry.labels["arch"], weights_name(entry.labels["weights"]), readout]
    title = f"{', '.join(words)}; {len(table)} {'' if asked['split'] == 'all' else asked['split'] + ' '}images"
    known = table[table["correct"].notna()]
    right = known["correct"].to_numpy(bool)
    first, last = (_examples(entry, table, end) for end in ("first", "last"))
    return prediction_depth(first, last, entry.facts["taps"], known["index"].to_numpy(), right, title)


def _examples(entry: Entry, table: pd.DataFrame, end: str) -> list[dict[str, Any]]:
    """What is known of the images that settle at one end, in the order in which they are shown."""
    found = []
    for name in [name for name in entry.arrays if name.startswith(f"{end}/")]:
        row = table.loc[int(name.removeprefix(f"{end}/"))]
        known: dict[str, Any] = {key: row[key] for key in ("label", "predicted", "tap")}
        known["correct"] = None if pd.isna(row["correct"]) else bool(row["correct"])
        found.append({**known, "id": row["id"].rpartition("/")[2], "image": entry.arrays[name]})
    return found


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
