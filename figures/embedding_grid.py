"""Maps of the images as every tap sees them: a panel per tap, a line per network, bottom to top from left to right.

Command: `probe embed --arch resnet50 --data labels.csv` (writes `embedding_umap.pdf`; with `--thumbnails`
`embedding_umap_images.pdf` too).
Tables read: points (`arm`, `tap`, `image`, `label`, `x`, `y`), and maps, a row per panel (`dataset`, `arm`, `tap`,
`method`, `images`, `of`, `neighbours`, `trustworthiness`, `silhouette`, `silhouette_map`). Axes have no unit, and every
panel has its own.
What one should see: of pretrained weights one cloud at the first taps and colours that part towards the last; from
scratch much the same cloud throughout. T says how far to trust a map, S how much of what it shows is in the features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.embedding_panel import Looks, Pictures, draw_images, draw_points, few_classes, looks_of
from figures.style import WIDTHS, literal, paper
from probe.records.display_names import told_once
from probe.records.stored_tables import embedding_tables, thumbnails
from probe.records.view import View

COLUMNS = {False: 6, True: 3}  # panels side by side, of points and of images
LARGEST = {False: 1.7, True: 1.95}  # inches of a panel's side
LEFT, GAP, HEAD, FOOT, LINE, TITLE = 0.17, 0.06, 0.15, 0.13, 0.11, 0.22  # inches around panels
LETTER, KEY, LONGEST = 0.048, 0.25, 2.0  # inches: a letter, a mark with its gaps, the longest name of a class
NAMES = {"umap": "UMAP", "pca": "PCA", "tsne": "t-SNE"}

Line = tuple[str, list[dict[Any, Any]]]  # a network, and what is known of each panel


@dataclass(frozen=True)
class Layout:
    """Where panels stand, in inches: `lines` of `across`, a legend of `keys` to the line, `notes` below."""

    lines: int
    across: int
    width: float
    largest: float
    keys: int
    legend: int
    notes: Sequence[str]

    @property
    def side(self) -> float:
        """Of a panel."""
        return min(self.largest, (self.width - LEFT - GAP * self.across) / self.across)

    @property
    def height(self) -> float:
        """Of the figure."""
        below = (self.legend + 1.5 + len(self.notes)) * LINE
        return TITLE + self.lines * (HEAD + self.side + FOOT) + below

    def corner(self, line: int, column: int) -> tuple[float, float]:
        """The lower left one of a panel."""
        margin = (self.width - LEFT - self.across * (self.side + GAP)) / 2
        left = margin + LEFT + column * (self.side + GAP)
        return left, self.height - TITLE - (line + 1) * (HEAD + self.side + FOOT) + FOOT


def redraw(view: View) -> dict[str, Figure]:
    """The figures of a record, by file stem: of every method the latest run, and images where it has small pictures."""
    latest = {run.asked["Embedding"]["method"]: entries for run, entries in view.finished("embed")}
    drawn = {}
    for method, entries in latest.items():
        points, maps = embedding_tables(entries)
        drawn[f"embedding_{method}"] = embedding_grid(points, maps)
        if pictures := thumbnails(entries):
            drawn[f"embedding_{method}_images"] = embedding_grid(points, maps, pictures)
    return drawn


def embedding_grid(points: pd.DataFrame, maps: pd.DataFrame, pictures: Pictures | None = None) -> Figure:
    """A figure of a column's width for up to three taps, else of a page's, six panels in a line.

    Given `pictures` (height, width, 3) by image, those of `spread_images` at least, they stand in the place of points,
    three panels in a line of a page.
    """
    names, network = told_once(list(maps["arm"]))
    points = points.assign(label=few_classes(points["label"]))
    looks = looks_of(points["label"])
    lines = _lines(maps, names, COLUMNS[bool(pictures)])
    layout = _lay_out(lines, looks, maps, bool(pictures))
    width, height, side = layout.width, layout.height, layout.side
    with plt.rc_context(paper() | {"axes.spines.top": True, "axes.spines.right": True}):
        figure = Figure(figsize=(width, height))
        figure.set_layout_engine("none")  # or saving would lay it out anew
        for at, (name, panels) in enumerate(lines):
            left, low = layout.corner(at, 0)
            place = ((left - LEFT + 0.03) / width, (low + side / 2) / height)
            figure.text(*place, literal(_short(name, side)), rotation=90, va="center", fontsize=6.5)
            for column, each in enumerate(panels):
                left, low = layout.corner(at, column)
                axes = figure.add_axes((left / width, low / height, side / width, side / height))
                mine = points[(points["arm"] == each["arm"]) & (points["tap"] == each["tap"])]
                if pictures:
                    draw_images(axes, mine, looks, pictures)
                else:
                    draw_points(axes, mine, looks)
                axes.set_title(literal(_short(each["tap"], side)), fontsize=6.5, pad=2)
                axes.set_xlabel(_quality(each), fontsize=6, labelpad=2)
        _explain(figure, _title(maps, network), looks, layout)
        return figure


def _lines(maps: pd.DataFrame, names: Mapping[str, str], columns: int) -> list[Line]:
    return [
        (names[str(arm)], part.iloc[start : start + columns].to_dict(orient="records"))
        for arm, part in maps.groupby("arm", sort=False)
        for start in range(0, len(part), columns)
    ]


def _lay_out(lines: Sequence[Line], looks: Looks, maps: pd.DataFrame, images: bool) -> Layout:
    across = max(len(panels) for _, panels in lines)
    width = WIDTHS["full" if images or across > 3 else "half"]
    keys = max(1, int((width - GAP) / (KEY + min(LONGEST, LETTER * max(map(len, looks))))))
    notes = _notes(maps, 1 if width > WIDTHS["half"] else 2)
    return Layout(len(lines), across, width, LARGEST[images], keys, ceil(len(looks) / keys), notes)


def _quality(each: Mapping[Any, Any]) -> str:
    told = f"T {_number(each['trustworthiness'])}"
    if np.isnan(each["silhouette"]):
        return told
    return f"{told}   S {_number(each['silhouette'])} / {_number(each['silhouette_map'])}"


def _number(value: float) -> str:
    return f"{value:.2f}".replace("0.", ".", 1).replace("-", "\N{MINUS SIGN}")


def _title(maps: pd.DataFrame, network: str) -> str:
    first = maps.iloc[0]
    drawn = f"{first['images']:,}" + ("" if first["images"] == first["of"] else f" of {first['of']:,}")
    return ", ".join(filter(None, [first["dataset"], network, f"{NAMES[first['method']]} of {drawn} images"]))


def _notes(maps: pd.DataFrame, lines: int) -> list[str]:
    """What the letters under the panels are, in one line or two."""
    several = maps["silhouette"].isna().all()
    told = [
        f"T trustworthiness ({maps['neighbours'].iloc[0]} neighbours)",
        "no silhouette, for images have several labels" if several else
        "S silhouette of the classes, in the features / on the map",
    ]  # fmt: skip
    return told if lines > 1 else ["   ".join(told)]


def _explain(figure: Figure, title: str, looks: Looks, layout: Layout) -> None:
    """The title above; below, what the marks are, and the notes."""
    height, notes = layout.height, layout.notes
    figure.text(0.5, 1 - 0.05 / height, literal(title), ha="center", va="top", fontsize=7.5)
    marks = [
        Line2D([], [], linestyle="", markersize=3.5, markeredgewidth=0, label=literal(_short(name, LONGEST)), **look)
        for name, look in looks.items()
    ]
    place = (0.5, (len(notes) + 0.5) * LINE / height)
    figure.legend(
        handles=marks, ncols=layout.keys, loc="lower center", bbox_to_anchor=place, borderaxespad=0, borderpad=0,
        labelspacing=0.25, handletextpad=0.2, columnspacing=1,
    )  # fmt: skip
    for line, note in enumerate(reversed(notes)):
        figure.text(0.5, (0.04 + line * LINE) / height, note, ha="center", va="bottom", fontsize=6)


def _short(text: str, inches: float) -> str:
    """As much of the end of a name as there is room for."""
    most = int(inches / LETTER)
    return text if len(text) <= most else f"\N{HORIZONTAL ELLIPSIS}{text[1 - most :]}"
