"""Depth curve: how well a probe reads the labels at every depth, one line per arm.

Command: `probe layerwise --arch torchvision:resnet18 --data labels.csv` (writes `layerwise.pdf`).
Rows read: `auroc` (macro, test) with its interval, `auroc_gap` (val), `params`.
What one should see: scratch flat or falling, pretrained rising above it, often highest before the
last block; the tap to cut at marked on each curve, and below it what is kept of the network.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from figures.style import COLORS, MARKERS, literal, paper

CHANCE = 0.5  # AUROC of a read-out that knows nothing
MOST_NAMES = 26  # tap names that fit under a column
FILES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")


def depth_curve(
    rows: pd.DataFrame,
    marks: Sequence[dict[str, str]] = (),
    skipped: Sequence[dict[str, str]] = (),
    column: str = "half",
) -> Figure:
    """A figure of test AUROC against relative depth.

    `marks` name the recommended tap of an arm (keys arch, weights, tap), `skipped` the arms that
    could not be had, which the figure then says.
    """
    arms = [(str(arch), str(weights), mine) for (arch, weights), mine in rows.groupby(["arch", "weights"], sort=False)]
    one = len({arch for arch, _, _ in arms}) == 1
    with plt.rc_context(paper(column, aspect=1.0 if one else 0.9)):
        figure, (top, below) = plt.subplots(2, 1, sharex=True, height_ratios=(3.4, 1))
        for order, (arch, weights, mine) in enumerate(arms):
            tap = next((mark["tap"] for mark in marks if (mark["arch"], mark["weights"]) == (arch, weights)), None)
            draw_arm(top, mine, weights_name(weights) if one else f"{arch}, {weights_name(weights)}", order, tap)
        top.axhline(CHANCE, color="0.45", linewidth=0.8, linestyle=(0, (4, 2)), label="chance")
        shown = rows[_is_score(rows)]
        top.set_ylim(min(CHANCE - 0.03, shown["ci_low"].min() - 0.02), min(1.02, shown["ci_high"].max() + 0.04))
        top.set_ylabel("test AUROC (macro)")
        top.set_title(_title(rows, arms[0][0] if one else None))
        for line, missing in enumerate(skipped):
            note = literal(f"{missing['arch']}, {missing['weights']}: skipped, weights not available")
            top.text(0.99, 0.15 + 0.07 * line, note, transform=top.transAxes, ha="right", fontsize=6, color="#8B0000")
        _draw_costs(below, arms)
        _name_depths(below, arms[0][2] if one else None)
        figure.legend(*top.get_legend_handles_labels(), loc="outside lower center", ncols=1 if len(arms) < 4 else 2)
        return figure


def weights_name(weights: str) -> str:
    """How an arm's weights are called in print: a file by its stem."""
    return Path(weights).stem if weights.endswith(FILES) else weights


def draw_arm(axes: Axes, rows: pd.DataFrame, label: str, order: int, marked: str | None) -> None:
    """One arm's curve, its interval band (over seeds the envelope of their intervals), its marked tap."""
    scores = rows[_is_score(rows)]
    by_depth = scores.groupby("depth")
    value, low, high = by_depth["value"].mean(), by_depth["ci_low"].min(), by_depth["ci_high"].max()
    color, depths = COLORS[order % len(COLORS)], value.index.to_numpy(float)
    axes.fill_between(depths, low, high, color=color, alpha=0.15, linewidth=0)
    cut = f" (cut at {marked})" if marked else ""
    label = literal(label).lstrip("_")  # matplotlib leaves out labels that begin so
    axes.plot(depths, value, color=color, marker=MARKERS[order % len(MARKERS)], label=label + cut)
    if marked is not None:
        depth = float(scores.loc[scores["tap"] == marked, "depth"].iloc[0])
        axes.plot(depth, value[depth], "o", color=color, markersize=8, markerfacecolor="none", markeredgewidth=1.2)


def _is_score(rows: pd.DataFrame) -> "pd.Series[bool]":
    return (rows["metric"] == "auroc") & (rows["class"] == "macro") & (rows["split"] == "test")


def _title(rows: pd.DataFrame, arch: str | None) -> str:
    seeds = rows.loc[_is_score(rows), "seed"].nunique()
    parts = [str(rows["dataset"].iloc[0]), arch or "", "linear probes", f"{seeds} seeds" if seeds > 1 else ""]
    return literal(", ".join(filter(None, parts)))


def _draw_costs(axes: Axes, arms: Sequence[tuple[str, str, pd.DataFrame]]) -> None:
    """Share of the parameters below the head that a cut at each depth keeps, per architecture."""
    archs = list(dict.fromkeys(arch for arch, _, _ in arms))
    for order, (arch, _, rows) in enumerate(arms):
        if arch in archs:
            archs.remove(arch)
            kept = rows[rows["metric"] == "params"].drop_duplicates("depth").set_index("depth")["value"]
            color = "0.35" if len(arms) == 1 or arch == arms[-1][0] == arms[0][0] else COLORS[order % len(COLORS)]
            axes.plot(kept.index, kept / kept.iloc[-1], color=color, marker=".", markersize=2.5)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(ylim=(0, 1.08), yticks=(0, 0.5, 1), ylabel="parameters\nkept")


def _name_depths(axes: Axes, rows: pd.DataFrame | None) -> None:
    """Tap names under the axis when one architecture has few enough of them, else the numbers alone."""
    taps = None if rows is None else rows[rows["metric"] == "params"].drop_duplicates("tap")
    if taps is None or len(taps) > MOST_NAMES:
        axes.set_xlabel("relative depth (share of the blocks run)")
        return
    axes.set_xticks(taps["depth"], taps["tap"], rotation=90, fontsize=5.5)
    axes.set_xlabel("tap, at its relative depth")
