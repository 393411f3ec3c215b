"""Canonical correlations of equal taps of two networks: their sorted curves against noise, and boxes by tap.

Command: `probe similarity --arch resnet50 --weights pretrained --weights finetuned.safetensors --measure svcca`
(writes `cca.pdf`; `--results results` of `probe layerwise` draws the score over the boxes).
Rows read: `tap`, `share`, `coefficient`, `chance`, one per canonical direction; of scores `tap` and `value`.
What one should see: curves near 1 and boxes high where fine-tuning changed little, mostly the lower taps, and curves
that come down to the dashed ones of noise, where nothing of the pretrained tap is left. The numbers are the areas
between the two.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.style import COLORS, literal, paper
from probe.records.stored_tables import correlation_tables
from probe.records.view import Missing, View


def canonical_correlations(
    table: pd.DataFrame, title: str = "", scores: pd.DataFrame | None = None, metric: str = ""
) -> Figure:
    """A figure of a page's width: curves of the taps, from dark (first) to light, and their boxes with the areas.

    `scores` has a `tap` and a `value` per line, drawn over the boxes on an axis of their own and called `metric`.
    """
    taps = list(dict.fromkeys(table["tap"]))
    with plt.rc_context(paper("full", aspect=0.4)):
        figure = Figure()
        left, right = figure.subplots(1, 2, width_ratios=(1, 2))
        for at, tap in enumerate(taps):
            part, shade = table[table["tap"] == tap], plt.get_cmap("viridis")(0.9 * at / max(1, len(taps) - 1))
            named = literal(tap) if at in (0, len(taps) - 1) else None
            left.plot(part["share"], part["coefficient"], color=shade, label=named)
            left.plot(part["share"], part["chance"], color=shade, linestyle=(0, (3, 2)), linewidth=0.7)
        left.plot([], [], color="0.4", linestyle=(0, (3, 2)), linewidth=0.7, label="noise, of as many directions")
        left.set(xlabel="share of the directions, best first", ylabel="canonical correlation", ylim=(0, 1.03))
        _draw_boxes(right, table, taps)
        if scores is not None:
            _draw_scores(right, scores, taps, metric)
        handles, names = (
            a + b for a, b in zip(*(axes.get_legend_handles_labels() for axes in (left, right)), strict=True)
        )
        figure.legend(handles, names, loc="outside lower center", ncols=4)
        figure.suptitle(literal(title), fontsize=8)
        return figure


def redraw(view: View) -> dict[str, Figure]:
    """The figures of the latest run in a record, by file stem."""
    tables = correlation_tables(*view.finished("similarity")[-1])
    if not tables:
        raise Missing(
            f"no two networks with the same taps of 'probe similarity --measure svcca' in '{view.record.folder}'"
        )
    return {stem: figure_of(table) for stem, table in tables.items()}


def figure_of(table: pd.DataFrame) -> Figure:
    """The figure of the two networks `arm_a` and `arm_b`; a column `score` is the test AUROC of each tap, if known."""
    scores = table[["tap", "score"]].dropna().drop_duplicates().rename(columns={"score": "value"})
    title = f"{table['arm_a'].iloc[0]} and {table['arm_b'].iloc[0]}"
    return canonical_correlations(table, title, None if scores.empty else scores, "test AUROC (macro)")


def _draw_boxes(axes: Axes, table: pd.DataFrame, taps: list[str]) -> None:
    groups = [table[table["tap"] == tap] for tap in taps]
    axes.boxplot(
        [part["coefficient"].to_numpy() for part in groups],
        positions=np.arange(len(taps)),
        widths=0.6,
        flierprops={"markersize": 1, "markeredgewidth": 0.3},
        medianprops={"color": COLORS[0]},
    )
    for at, part in enumerate(groups):
        area = float((part["coefficient"] - part["chance"]).mean())
        axes.text(at, 1.04, f"{area:.2f}", ha="center", fontsize=5.5)
    axes.plot(range(len(taps)), [part["chance"].mean() for part in groups], "_", color=COLORS[1], label="mean of noise")
    axes.set_xticks(range(len(taps)), map(literal, taps), rotation=90, fontsize=5.5)
    axes.set(ylim=(0, 1.12), xlabel="tap; above, the area between its curve and that of noise")
    axes.set_yticks(np.linspace(0, 1, 6))


def _draw_scores(axes: Axes, scores: pd.DataFrame, taps: list[str], metric: str) -> None:
    other = axes.twinx()
    other.spines["right"].set_visible(True)
    values = scores.groupby("tap")["value"].mean().reindex(taps)
    other.plot(range(len(taps)), values, color=COLORS[2], marker="o")
    low, high = other.get_ylim()
    other.set_ylim(low, high + (high - low) * 0.12)  # below the areas
    other.set_ylabel(literal(metric), color=COLORS[2])
