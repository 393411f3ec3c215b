"""What a cut costs and what it keeps: parameters, MACs, time and memory up to every tap; quality against time.

Command: `probe cost --arch resnet50 --results results` (writes `cost.pdf`).
Rows read: what `probe cost` measures per tap; of results, `auroc` (macro, test) with its interval, and on val.
What one should see: parameters sit in the last blocks, time is spread evenly, memory of activations is largest
at the bottom; and how much quality the time buys.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.depth_curve import MOST_NAMES, draw_chance
from figures.style import COLORS, MARKERS, literal, paper
from probe.records.display_names import weights_names
from probe.records.result_rows import frame
from probe.records.view import View

PANELS = (  # column, unit in which it is shown, label
    ("params", 1e6, "parameters\n(10$^6$)"),
    ("macs", 1e9, "MACs\n(10$^9$)"),
    ("latency_ms", 1, "time\n(ms/image)"),
    ("memory_mb", 1, "peak memory\n(MB)"),
)


def cost_figure(
    costs: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], rows: pd.DataFrame | None = None
) -> Figure:
    """A figure of the costs of every tap and, when there are `rows` of results for these taps, what they buy.

    `facts` say how it was measured: arch, device, threads, batch_size, repeats.
    """
    table = pd.DataFrame(costs)
    with plt.rc_context(paper("half" if rows is None else "full", aspect=1.15 if rows is None else 0.56)):
        figure = plt.figure()
        sides = figure.add_gridspec(1, 1 if rows is None else 2, width_ratios=[1] if rows is None else [1, 1])
        left = sides[0].subgridspec(len(PANELS), 1)
        first: Axes | None = None
        for line, (column, unit, label) in enumerate(PANELS):
            first = draw_cost(figure.add_subplot(left[line], sharex=first), table, column, unit, label)
            first.tick_params(labelbottom=line == len(PANELS) - 1)
            if line == 0:
                first.set_title(_title(facts))
        _name_taps(figure.axes[-1], table)
        figure.align_ylabels()
        if rows is not None:
            draw_quality(figure.add_subplot(sides[1]), table, rows)
        return figure


def redraw(view: View) -> dict[str, Figure]:
    """The figure of the latest run in a record, by file stem; with quality where the run was given results."""
    run, (entry,) = view.finished("cost")[-1]
    scores = frame(run.facts["scores"])
    return {"cost": cost_figure(entry.facts["taps"], entry.facts["measured"], None if scores.empty else scores)}


def draw_cost(axes: Axes, table: pd.DataFrame, column: str, unit: float, label: str) -> Axes:
    """One cost of the network up to every tap; of the time the quartiles too."""
    places = np.arange(len(table))
    axes.plot(places, table[column] / unit, color=COLORS[0], marker="o", markersize=2.5)
    if f"{column}_low" in table:
        axes.fill_between(places, table[f"{column}_low"], table[f"{column}_high"], color=COLORS[0], alpha=0.2, lw=0)
    axes.set(ylabel=label, ylim=(0, None))
    axes.grid(axis="y", color="0.9", linewidth=0.5)
    return axes


def draw_quality(axes: Axes, table: pd.DataFrame, rows: pd.DataFrame) -> None:
    """Test AUROC with its interval against the time of an image, a line of taps per set of weights.

    A ring marks the tap that is best on validation; over seeds values are means and intervals their envelope.
    """
    times = table.set_index("tap")["latency_ms"]
    score = rows[(rows["metric"] == "auroc") & (rows["class"] == "macro")]
    names = weights_names(score["weights"])
    for order, (weights, mine) in enumerate(score.groupby("weights", sort=False)):
        test = mine[mine["split"] == "test"].groupby("tap", sort=False)
        value, color = test["value"].mean(), COLORS[order % len(COLORS)]
        low, high, x = test["ci_low"].min(), test["ci_high"].max(), times[value.index]
        axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
        label = literal(names[str(weights)]).lstrip("_")
        axes.plot(x, value, color=color, marker=MARKERS[order % len(MARKERS)], label=label)
        best = str(mine[mine["split"] == "val"].groupby("tap", sort=False)["value"].mean().idxmax())
        axes.plot(x[best], value[best], "o", color=color, markersize=8, markerfacecolor="none", markeredgewidth=1.2)
        axes.annotate(
            literal(best),
            (x[best], value[best]),
            (0, 8),
            textcoords="offset points",
            ha="center",
            fontsize=6,
            color=color,
        )
    draw_chance(axes, "auroc")
    axes.set(xlim=(0, None), xlabel="time up to the cut (ms/image)", ylabel="test AUROC (macro)")
    axes.set_title(literal(f"{rows['dataset'].iloc[0]}, linear probes; ring: best on validation"))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3)


def _title(facts: Mapping[str, Any]) -> str:
    threads = f", threads: {facts['threads']}" if facts["device"] == "cpu" else ""
    return literal(f"{facts['arch']}; {facts['device']}{threads}, {facts['batch_size']} images a pass")


def _name_taps(axes: Axes, table: pd.DataFrame) -> None:
    if len(table) <= MOST_NAMES:
        axes.set_xticks(np.arange(len(table)), [literal(tap) for tap in table["tap"]], rotation=90, fontsize=5.5)
    axes.set_xlabel("network up to tap" if len(table) <= MOST_NAMES else "network up to tap number")
