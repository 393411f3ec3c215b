"""One map on its axes: a mark per image in the look of its class, or some of the images themselves."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from figures.style import COLORS, MARKERS

HUES = (*COLORS, "#000000", "#999999", "#882255", "#332288")  # and three of Tol 2021, told apart by lightness too
AREAS = dict(zip(MARKERS, (1, 0.785, 1.57, 0.785, 1.57, 1.41), strict=True))  # by which all cover as much
MOST = 14  # classes that can be told apart
CELLS = 11  # images that would fit side by side

Looks = Mapping[str, Mapping[str, Any]]  # colour and marker, by class
Pictures = Mapping[str, NDArray[np.uint8]]  # (height, width, 3), by image


def few_classes(labels: pd.Series) -> pd.Series:
    """The names of the commonest classes, as many as can be told apart; one name for all others."""
    counts = labels.value_counts(sort=False).sort_index().sort_values(ascending=False, kind="stable")
    if len(counts) <= MOST:
        return labels
    return labels.where(labels.isin(counts.index[: MOST - 1]), f"{len(counts) - MOST + 1} others")


def looks_of(labels: pd.Series) -> Looks:
    """Colour and marker by class, in the order of names; no two classes have both in common."""
    names = sorted(labels.unique(), key=lambda name: (name.endswith(" others"), name))
    return {
        name: {"color": HUES[at % len(HUES)], "marker": MARKERS[at % len(MARKERS)]} for at, name in enumerate(names)
    }


def spread_images(points: pd.DataFrame) -> pd.DataFrame:
    """The points of every panel whose images can be shown: in random order, all that hide none before them."""
    found = []
    for _, panel in points.groupby(["arm", "tap"], sort=False):
        apart = _square(panel)[1] / CELLS
        shuffled = panel.sample(frac=1, random_state=0)
        places = shuffled[["x", "y"]].to_numpy(np.float64)
        taken: list[int] = []
        for at, place in enumerate(places):
            if (abs(places[taken] - place).max(1) >= apart).all():
                taken.append(at)
        found.append(shuffled.iloc[taken])
    return pd.concat(found)


def draw_points(axes: Axes, panel: pd.DataFrame, looks: Looks) -> None:
    """A mark per image, the commonest class first, so that it hides no other."""
    area = float(np.clip(1500 / len(panel), 1.5, 12))
    for name in panel["label"].value_counts().index:
        mine, look = panel[panel["label"] == name], looks[name]
        size = area * AREAS[look["marker"]]
        axes.scatter(mine["x"], mine["y"], s=size, linewidths=0, alpha=0.75, rasterized=True, **look)
    _frame(axes, panel)


def draw_images(axes: Axes, panel: pd.DataFrame, looks: Looks, pictures: Pictures) -> None:
    """Some of the images around their points, framed and marked in the look of their class."""
    size = _square(panel)[1] / CELLS * 0.92
    for point in spread_images(panel).to_dict(orient="records"):
        picture, look = pictures[point["image"]], looks[point["label"]]
        height, width = (size * length / max(picture.shape[:2]) for length in picture.shape[:2])
        left, low = point["x"] - width / 2, point["y"] - height / 2
        axes.imshow(picture, extent=(left, left + width, low, low + height))
        axes.add_patch(Rectangle((left, low), width, height, fill=False, edgecolor=look["color"], linewidth=0.8))
        axes.scatter(left, low, s=9 * AREAS[look["marker"]], linewidths=0.4, edgecolors="white", zorder=3, **look)
    _frame(axes, panel)


def _square(panel: pd.DataFrame) -> tuple[NDArray[np.float64], float]:
    """The lower left corner of a square that leaves room for an image around every point, and its side."""
    low, high = (np.array([panel[axis].agg(end) for axis in ("x", "y")], np.float64) for end in ("min", "max"))
    side = float((high - low).max()) * CELLS / (CELLS - 1)
    return (low + high - side) / 2, side


def _frame(axes: Axes, panel: pd.DataFrame) -> None:
    (left, low), side = _square(panel)
    axes.set(xlim=(left, left + side), ylim=(low, low + side), xticks=[], yticks=[], aspect="auto")
    for spine in axes.spines.values():
        spine.set(color="0.6", linewidth=0.5)
