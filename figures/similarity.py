"""Similarity of taps: a heatmap for every two networks, and a line over the taps that two networks share.

Command: `probe similarity --arch resnet50 --data labels.csv` (writes `similarity.pdf` and `similarity_lines.pdf`).
Table read: `arm_a`, `tap_a`, `arm_b`, `tap_b`, `value`, and for lines `ci_low`, `ci_high`, `null`.
What one should see: 1 on the diagonal of a network with itself, blocks of taps that are alike, mostly the stages; of
pretrained against scratch, or of before and after fine-tuning, the lines falling with depth and staying above the null.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from figures.style import COLORS, DASHES, INCH, MARKERS, WIDTHS, literal, paper
from probe.records.display_names import told_once
from probe.records.stored_tables import similarity_table
from probe.records.view import View

LETTER, LINE = 0.047, 2.3 / INCH  # inches that a letter of a tap's name takes, and its line, at 5.5 points
LARGEST = 0.2  # inches of a cell
PAGE, BAR, GAP, TITLE = 240 / INCH, 0.6, 0.3, 0.25  # inches: a page, the color bar, labels of a panel, the title
NUMBERED = 10  # taps up to which values are printed
MEASURES = {
    "cka": "CKA",
    "rbf-cka": "RBF CKA",
    "unbiased cka": "unbiased CKA",
    "unbiased rbf-cka": "unbiased RBF CKA",
    "svcca": "SVCCA",
    "pwcca": "PWCCA",
    "procrustes": "Procrustes similarity",
    "mutual-knn": "mutual nearest neighbours",
    "minibatch cka": "CKA of whole maps (minibatch estimate)",
}


Panel = tuple[str, str, pd.DataFrame]  # two arms, and a row per two of their taps


def heatmaps(table: pd.DataFrame, title: str = "") -> list[Figure]:
    """Figures of a page's width at most: a panel per two arms, side by side where that leaves room for every name.

    More than fill a page go on the next. Of more taps than there is room for, about 60, every k-th is named.
    """
    table, title = _told_once(table, title)
    panels: list[Panel] = [(str(a), str(b), part) for (a, b), part in table.groupby(["arm_a", "arm_b"], sort=False)]
    names = LETTER * max(map(len, [*table["tap_a"], *table["tap_b"]])) + GAP
    for across in range(len(panels), 0, -1):
        columns = max(sum(_counts(panel)[1] for panel in panels[at : at + across]) for at in range(len(panels)))
        cell = (WIDTHS["full"] - BAR - across * names) / columns
        if cell >= LINE:
            break
    cell = min(cell, LARGEST)
    pages: list[list[Sequence[Panel]]] = [[]]
    for at in range(0, len(panels), across):
        row = panels[at : at + across]
        if pages[-1] and sum(_height(each, cell, names) for each in [*pages[-1], row]) > PAGE:
            pages.append([])
        pages[-1].append(row)
    return [_page(rows, cell, names, title) for rows in pages]


def redraw(view: View) -> dict[str, Figure]:
    """The figures of the latest run in a record, by file stem."""
    return figures_of(similarity_table(*view.finished("similarity")[-1]))


def figures_of(table: pd.DataFrame) -> dict[str, Figure]:
    """The heatmaps, and where two networks share their taps the lines, by file stem; `dataset` is the title."""
    title = str(table["dataset"].fillna("").iloc[0])
    pages = heatmaps(table, title)
    found = {"similarity" if at == 1 else f"similarity_{at}": page for at, page in enumerate(pages, 1)}
    return found if shared_taps(table).empty else found | {"similarity_lines": lines(table, title)}


def _counts(panel: Panel) -> tuple[int, int]:
    return panel[2]["tap_a"].nunique(), panel[2]["tap_b"].nunique()


def _height(row: Sequence[Panel], cell: float, names: float) -> float:
    return max(_counts(panel)[0] for panel in row) * cell + names


def _page(rows: Sequence[Sequence[Panel]], cell: float, names: float, title: str) -> Figure:
    """Panels of cells of one size, placed in inches, so that names fit whatever there is."""
    wide = max(sum(names + cell * _counts(panel)[1] for panel in row) for row in rows) + BAR
    tall = sum(_height(row, cell, names) for row in rows) + TITLE
    values = pd.concat([panel[2] for row in rows for panel in row])["value"]
    limits = (min(0.0, float(values.min())), max(1.0, float(values.max())))
    with plt.rc_context(paper("full") | {"axes.spines.top": True, "axes.spines.right": True}):
        figure = Figure(figsize=(wide, tall))
        figure.set_layout_engine("none")  # or saving would lay it out anew
        top = tall - TITLE
        for row in rows:
            left = 0.0
            for panel in row:
                height, width = (count * cell for count in _counts(panel))
                left, bottom = left + names, top - 0.18 - height
                axes = figure.add_axes((left / wide, bottom / tall, width / wide, height / tall))
                image = _draw(axes, panel, cell, limits)
                left += width
            top -= _height(row, cell, names)
        height = min(_height(rows[0], cell, names) - names, 2.0)
        place = (wide - BAR + 0.12, tall - TITLE - 0.18 - height)
        bar = figure.add_axes((place[0] / wide, place[1] / tall, 0.08 / wide, height / tall))
        figure.colorbar(image, cax=bar, label=literal(MEASURES.get(rows[0][0][2]["measure"].iloc[0], "")))
        figure.text(0.5, 1 - 0.04 / tall, literal(title), ha="center", va="top", fontsize=8)
        return figure


def _told_once(table: pd.DataFrame, title: str) -> tuple[pd.DataFrame, str]:
    """The network's name in the title when it is that of all arms, which then bear their weights' alone."""
    names, shared = told_once([*table["arm_a"], *table["arm_b"]])
    named = table.assign(arm_a=table["arm_a"].map(names), arm_b=table["arm_b"].map(names))
    return named, ", ".join(filter(None, [title, shared]))


def _draw(axes: Axes, panel: Panel, cell: float, limits: tuple[float, float]) -> AxesImage:
    a, b, part = panel
    rows, columns = list(dict.fromkeys(part["tap_a"])), list(dict.fromkeys(part["tap_b"]))
    values = part["value"].to_numpy().reshape(len(rows), len(columns))
    image = axes.imshow(values, vmin=limits[0], vmax=limits[1], cmap="viridis", interpolation="nearest", aspect="auto")
    step = int(np.ceil(LINE / cell - 1e-9)) if cell < LINE else 1
    axes.set_xticks(range(0, len(columns), step), map(literal, columns[::step]), rotation=90, fontsize=5.5)
    axes.set_yticks(range(0, len(rows), step), map(literal, rows[::step]), fontsize=5.5)
    axes.tick_params(length=1.5, width=0.4, pad=1.5)
    if max(len(rows), len(columns)) <= NUMBERED:
        for (i, j), value in np.ndenumerate(values):
            shade = "black" if value > limits[0] + 0.6 * (limits[1] - limits[0]) else "white"
            text = f"{value:.2f}".replace("0.", ".", 1)
            axes.text(j, i, text, ha="center", va="center", fontsize=min(5.5, cell * 27), color=shade)
    if a == b:
        axes.set_title(literal(a), fontsize=7, pad=3)
    else:
        axes.set_ylabel(literal(a), fontsize=6.5, labelpad=2)
        axes.set_title(literal(b), fontsize=7, pad=3)
    return image


def shared_taps(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of equal taps of two arms that have all their taps in common."""
    across = table[table["arm_a"] != table["arm_b"]]
    kept = [
        part[part["tap_a"] == part["tap_b"]]
        for _, part in across.groupby(["arm_a", "arm_b"], sort=False)
        if list(dict.fromkeys(part["tap_a"])) == list(dict.fromkeys(part["tap_b"]))
    ]
    return pd.concat(kept) if kept else across.iloc[:0]


def lines(table: pd.DataFrame, title: str = "") -> Figure:
    """A figure of a column's width: the similarity of equal taps of two arms, with bands, and the null below.

    Raises ValueError when no two arms have the same taps.
    """
    table, title = _told_once(table, title)
    shared = shared_taps(table)
    if shared.empty:
        raise ValueError("no two arms have the same taps")
    groups = list(shared.groupby(["arm_a", "arm_b"], sort=False))
    taps = max((list(part["tap_a"]) for _, part in groups), key=len)
    with plt.rc_context(paper("half" if len(taps) <= 26 else "full", aspect=0.85 if len(taps) <= 26 else 0.45)):
        figure = Figure()
        axes = figure.subplots()
        for at, ((a, b), part) in enumerate(groups):
            places, color = np.arange(len(part)), COLORS[at % len(COLORS)]
            name = literal(f"{a} and {b}")
            axes.fill_between(places, part["ci_low"], part["ci_high"], color=color, alpha=0.15, linewidth=0)
            axes.plot(places, part["value"], color=color, marker=MARKERS[at % len(MARKERS)], label=name)
            if part["null"].notna().any():
                label = "95th percentile, images permuted"
                axes.plot(
                    places, part["null"], color=color, linestyle=DASHES[2], label=label if len(groups) == 1 else None
                )
        axes.set_xticks(range(len(taps)), map(literal, taps), rotation=90, fontsize=5.5)
        measured = literal(MEASURES.get(shared["measure"].iloc[0], ""))
        axes.set(xlabel="tap", ylabel=measured, ylim=(min(0.0, float(shared["value"].min()) - 0.02), 1.03))
        axes.set_title(literal(title))
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center")
        return figure
