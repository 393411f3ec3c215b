"""Attribution maps: a row per image, a column per network and tap.

Command: `probe attribute --arch resnet50 --at layer2.3 --at layer4.2 --data labels.csv`
(writes `attribution_gradcam.pdf`).
Input: the arrays of a run: `pictures` (n, h, w, 3) bytes, `masks` (n, h, w), `labels`, for every column `arms`, `taps`,
`targets` (columns, n) and `maps_0`, `maps_1`, ... (n, h, w); `method`, `unit`, `signed`, `data`.
What one should see: maps that lie on what the label names (outlined where there are masks), and that differ between
trained and random weights.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from figures.style import WIDTHS, literal, paper
from probe.records.stored_tables import attribution_arrays
from probe.records.view import View

ROWS, ACROSS = 6, 6  # images, and maps of each, on a page
TOP, FOOT, BAR, GAP, NAME = 0.42, 0.13, 0.76, 0.05, 0.2  # inches: heads, the line under a map, color bar, space, label
LARGEST = 1.1  # inches of a picture
OUTLINE = "#00E5FF"


def redraw(view: View) -> dict[str, Figure]:
    """The figures of a record, by file stem: of every method the pages of the latest run."""
    latest = {run.asked["Attribution"]["method"]: entries for run, entries in view.finished("attribute")}
    drawn: dict[str, Figure] = {}
    for method, entries in latest.items():
        pages = enumerate(panels(attribution_arrays(entries)), 1)
        drawn |= {f"attribution_{method}" + (f"_{number}" if number > 1 else ""): page for number, page in pages}
    return drawn


def panels(saved: Mapping[str, NDArray[Any]]) -> list[Figure]:
    """Pages of a page's width at most: the first six images, and up to six maps of each.

    All networks stand on one page where they fit, else each on its own. Colours are shares of the largest absolute
    value of each map, which is printed below it.
    """
    columns = list(range(len(saved["arms"])))
    pages = [columns]
    if len(columns) > ACROSS:
        by_arm = [[i for i in columns if saved["arms"][i] == arm] for arm in dict.fromkeys(saved["arms"].tolist())]
        pages = [part[at : at + ACROSS] for part in by_arm for at in range(0, len(part), ACROSS)]
    return [_page(saved, page) for page in pages]


def _page(saved: Mapping[str, NDArray[Any]], columns: Sequence[int]) -> Figure:
    rows, across = min(ROWS, len(saved["pictures"])), len(columns) + 1
    side = min(LARGEST, (WIDTHS["full"] - NAME - BAR - across * GAP) / across)
    wide, tall = NAME + across * (side + GAP) + BAR, TOP + rows * (side + FOOT)
    with plt.rc_context(paper("full") | {"axes.spines.top": True, "axes.spines.right": True}):
        figure = Figure(figsize=(wide, tall))
        figure.set_layout_engine("none")  # placed in inches, so that saving must not lay it out anew

        def place(row: int, column: int) -> Axes:
            left, bottom = NAME + column * (side + GAP), tall - TOP - row * (side + FOOT) - side
            return figure.add_axes((left / wide, bottom / tall, side / wide, side / tall), xticks=[], yticks=[])

        for row in range(rows):
            first = place(row, 0)
            first.imshow(saved["pictures"][row])
            first.set_ylabel(literal(str(saved["labels"][row])), fontsize=6, labelpad=2)
            _outline(first, saved["masks"][row])
            for at, column in enumerate(columns, 1):
                axes = place(row, at)
                image = _draw(axes, saved, column, row)
                if row == 0:
                    axes.set_title(literal(str(saved["taps"][column])), fontsize=6.5, pad=2)
        _name_arms(figure, saved, columns, side, (wide, tall))
        height = min(rows * (side + FOOT) - FOOT, 2.4)
        spot = ((wide - BAR + 0.08) / wide, (tall - TOP - height) / tall, 0.08 / wide, height / tall)
        bar = figure.colorbar(image, cax=figure.add_axes(spot))
        bar.set_ticks([-1, -0.5, 0, 0.5, 1] if bool(saved["signed"]) else [0, 0.5, 1])
        bar.set_label(_units(saved), fontsize=6)
        return figure


def _draw(axes: Axes, saved: Mapping[str, NDArray[Any]], column: int, row: int) -> AxesImage:
    """A map in shares of its largest absolute value, with that value below."""
    values, signed = saved[f"maps_{column}"][row], bool(saved["signed"])
    largest = float(np.abs(values).max())
    shares = values / largest if largest else values
    colors = "RdBu_r" if signed else "viridis"
    image = axes.imshow(shares, vmin=-1 if signed else 0, vmax=1, cmap=colors, interpolation="nearest")
    mask = saved["masks"][row]
    if mask.shape == values.shape:
        _outline(axes, mask, "black" if signed else "white")
    target, label = str(saved["targets"][column][row]), str(saved["labels"][row])
    asked = "" if target == label else f"{target}: "
    axes.set_xlabel(literal(f"{asked}{largest:.2g}"), fontsize=6, labelpad=1.5)
    return image


def _outline(axes: Axes, mask: NDArray[np.bool_], color: str = OUTLINE) -> None:
    if mask.any() and not mask.all():
        framed = np.pad(mask, 1).astype(float)  # so that an outline closes at the border
        places = [np.arange(-1, length - 1) for length in framed.shape]
        axes.contour(places[1], places[0], framed, levels=[0.5], colors=[color], linewidths=0.7)
        height, width = mask.shape
        axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _name_arms(
    figure: Figure, saved: Mapping[str, NDArray[Any]], columns: Sequence[int], side: float, size: tuple[float, float]
) -> None:
    """Names of the networks above their taps, and of the data above the images."""
    wide, tall = size
    names = [str(saved["arms"][column]) for column in columns]
    heads = [(str(saved["data"]), 0, 0)]
    heads += [(name, names.index(name) + 1, len(names) - names[::-1].index(name)) for name in dict.fromkeys(names)]
    for name, first, last in heads:
        left, right = NAME + first * (side + GAP), NAME + last * (side + GAP) + side
        figure.text((left + right) / 2 / wide, 1 - 0.05 / tall, literal(name), ha="center", va="top", fontsize=7)
        if last:
            line = Line2D([left / wide, right / wide], [1 - 0.22 / tall] * 2, color="0.4", linewidth=0.6)
            figure.add_artist(line)


def _units(saved: Mapping[str, NDArray[Any]]) -> str:
    size = "largest |value|" if bool(saved["signed"]) else "largest value"
    return f"{saved['method']}, share of the map's {size}\n(that is printed below it, in {saved['unit']})"
