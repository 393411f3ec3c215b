"""Maps of the images as every tap sees them: a panel per tap, a line per network, bottom to top from left to right.

Command: `probe embed --arch resnet50 --data labels.csv` (writes `embedding_umap.pdf`).
Tables read: points (`arm`, `tap`, `image`, `label`, `x`, `y`), and maps, a row per panel (`dataset`, `arm`, `tap`,
`method`, `images`, `of`, `neighbours`, `trustworthiness`, `silhouette`, `silhouette_map`); `read_embedding` reads what
the command wrote. Axes have no unit, and every panel has its own.
What one should see: of pretrained weights one cloud at the first taps and colours that part towards the last; from
scratch much the same cloud throughout. T says how far to trust a map, S how much of what it shows is in the features.
"""

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from figures.style import COLORS, MARKERS, WIDTHS, literal, paper, told_once

COLUMNS = 6  # panels side by side
LARGEST = 1.7  # inches of a panel's side
LEFT, GAP, HEAD, FOOT, LINE, TITLE = 0.17, 0.06, 0.15, 0.13, 0.11, 0.22  # inches around panels
LETTER, KEY = 0.048, 0.25  # inches that a letter takes in the legend, and a mark with its gaps
HUES = (*COLORS, "#000000")
AREAS = dict(zip(MARKERS, (1, 0.785, 1.57, 0.785, 1.57, 1.41), strict=True))  # by which all cover as much
MOST, LONGEST = 14, 2.0  # classes that can be told apart, inches of a name
CELLS = 6  # photographs on a side of a panel, at most
NAMES = {"umap": "UMAP", "pca": "PCA", "tsne": "t-SNE"}

Pictures = Mapping[str, NDArray[np.uint8]]  # by image


def read_embedding(stem: str | Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Points and maps as `probe embed` wrote them, such as `results/embedding_umap`, to be drawn without computing."""
    words = dict.fromkeys(("dataset", "arm", "tap", "image", "label", "method"), str)
    single = dict.fromkeys(("x", "y"), np.float32)
    how: dict[str, Any] = {"dtype": {**words, **single}, "na_values": [""], "keep_default_na": False}
    return pd.read_csv(f"{stem}.csv", **how), pd.read_csv(f"{stem}_maps.csv", **how)


def embedding_grid(points: pd.DataFrame, maps: pd.DataFrame, pictures: Pictures | None = None) -> Figure:
    """A figure of a column's width for up to three taps, else of a page's; at most six panels in a line.

    `pictures` (height, width, 3) by image are shown at their places in the panels; see `spread_images`.
    """
    names, network = told_once(list(maps["arm"]))
    points = points.assign(label=_few(points["label"]))
    looks = _looks(points["label"])
    lines = [
        (names[arm], part.iloc[start : start + COLUMNS])
        for arm, part in maps.groupby("arm", sort=False)
        for start in range(0, len(part), COLUMNS)
    ]
    across = max(len(part) for _, part in lines)
    width = WIDTHS["half" if across <= COLUMNS // 2 else "full"]
    side = min(LARGEST, (width - LEFT - GAP * across) / across)
    margin = (width - LEFT - across * (side + GAP)) / 2
    keys = max(1, int((width - GAP) / (KEY + min(LONGEST, LETTER * max(map(len, looks))))))
    notes = _notes(maps, 1 if width > WIDTHS["half"] else 2)
    bottom = (ceil(len(looks) / keys) + 1.5 + len(notes)) * LINE
    height = TITLE + len(lines) * (HEAD + side + FOOT) + bottom
    with plt.rc_context(paper() | {"axes.spines.top": True, "axes.spines.right": True}):
        figure = Figure(figsize=(width, height))
        figure.set_layout_engine("none")  # or saving would lay it out anew
        for at, (name, part) in enumerate(lines):
            low = height - TITLE - (at + 1) * (HEAD + side + FOOT) + FOOT
            middle = (low + side / 2) / height
            figure.text(
                (margin + 0.03) / width, middle, literal(_short(name, side)), rotation=90, va="center", fontsize=6.5
            )
            for column, each in enumerate(part.to_dict(orient="records")):
                left = margin + LEFT + column * (side + GAP)
                axes = figure.add_axes((left / width, low / height, side / width, side / height))
                panel = points[(points["arm"] == each["arm"]) & (points["tap"] == each["tap"])]
                _draw(axes, panel, looks, pictures or {})
                axes.set_title(literal(_short(each["tap"], side)), fontsize=6.5, pad=2)
                axes.set_xlabel(_quality(each), fontsize=6, labelpad=2)
        _explain(figure, _title(maps, network), looks, keys, notes)
        return figure


def spread_images(points: pd.DataFrame) -> pd.DataFrame:
    """The points whose images may be shown: of every cell of a lattice over each panel, the one nearest its middle."""
    found = []
    for _, panel in points.groupby(["arm", "tap"], sort=False):
        (left, bottom), side = _square(panel)
        across, up = ((panel["x"] - left) / side * CELLS), ((panel["y"] - bottom) / side * CELLS)
        cells = np.floor(across).astype(int) * CELLS + np.floor(up).astype(int)
        off = (across % 1 - 0.5) ** 2 + (up % 1 - 0.5) ** 2
        found.append(panel.loc[off.groupby(cells).idxmin()])
    return pd.concat(found)


def _square(panel: pd.DataFrame) -> tuple[NDArray[np.float64], float]:
    """The lower left corner of a square around all points, and its side."""
    low, high = (np.array([panel[axis].agg(end) for axis in ("x", "y")], np.float64) for end in ("min", "max"))
    side = float((high - low).max()) * 1.08
    return (low + high - side) / 2, side


def _few(labels: pd.Series) -> pd.Series:
    """The names of the commonest classes, as many as can be told apart; one name for all others."""
    counts = labels.value_counts(sort=False).sort_index().sort_values(ascending=False, kind="stable")
    if len(counts) <= MOST:
        return labels
    return labels.where(labels.isin(counts.index[: MOST - 1]), f"{len(counts) - MOST + 1} others")


def _looks(labels: pd.Series) -> dict[str, dict[str, Any]]:
    """Colour and marker by class, in the order of names; no two classes have both in common."""
    names = sorted(labels.unique(), key=lambda name: (name.endswith(" others"), name))
    return {
        name: {"color": HUES[at % len(HUES)], "marker": MARKERS[at % len(MARKERS)]} for at, name in enumerate(names)
    }


def _draw(axes: Axes, panel: pd.DataFrame, looks: Mapping[str, Mapping[str, Any]], pictures: Pictures) -> None:
    """Points, the commonest class first, so that it hides no other."""
    area = float(np.clip(1500 / len(panel), 1.5, 12))
    for name in panel["label"].value_counts().index:
        mine = panel[panel["label"] == name]
        axes.scatter(
            mine["x"],
            mine["y"],
            s=area * AREAS[looks[name]["marker"]],
            linewidths=0,
            alpha=0.75,
            rasterized=True,
            **looks[name],
        )
    (left, bottom), side = _square(panel)
    if pictures:
        for point in spread_images(panel).itertuples():
            _show(axes, pictures[point.image], (point.x, point.y), side / CELLS * 0.9, looks[point.label]["color"])
    axes.set(xlim=(left, left + side), ylim=(bottom, bottom + side), xticks=[], yticks=[], aspect="auto")
    for spine in axes.spines.values():
        spine.set(color="0.6", linewidth=0.5)


def _show(axes: Axes, picture: NDArray[np.uint8], place: tuple[float, float], size: float, color: str) -> None:
    """A photograph around its point, in the frame of its class's colour."""
    height, width = (size * length / max(picture.shape[:2]) for length in picture.shape[:2])
    corner = (place[0] - width / 2, place[1] - height / 2)
    axes.imshow(picture, extent=(corner[0], corner[0] + width, corner[1], corner[1] + height), zorder=3)
    axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=color, linewidth=0.7, zorder=4))


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


def _explain(
    figure: Figure, title: str, looks: Mapping[str, Mapping[str, Any]], keys: int, notes: Sequence[str]
) -> None:
    """The title above; below, what the marks are, and the notes."""
    height = figure.get_size_inches()[1]
    figure.text(0.5, 1 - 0.05 / height, literal(title), ha="center", va="top", fontsize=7.5)
    marks = [
        Line2D([], [], linestyle="", markersize=3.5, markeredgewidth=0, label=literal(_short(name, LONGEST)), **look)
        for name, look in looks.items()
    ]
    place = (0.5, (len(notes) + 0.5) * LINE / height)
    figure.legend(
        handles=marks, ncols=keys, loc="lower center", bbox_to_anchor=place, borderaxespad=0, borderpad=0,
        labelspacing=0.25, handletextpad=0.2, columnspacing=1,
    )  # fmt: skip
    for line, note in enumerate(reversed(notes)):
        figure.text(0.5, (0.04 + line * LINE) / height, note, ha="center", va="bottom", fontsize=6)


def _short(text: str, inches: float) -> str:
    """As much of the end of a name as there is room for."""
    most = int(inches / LETTER)
    return text if len(text) <= most else f"\N{HORIZONTAL ELLIPSIS}{text[1 - most :]}"
