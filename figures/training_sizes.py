"""Training-size curves: what a tap's features are worth with few labelled images.

Command: `probe layerwise --arch resnet50 --data labels.csv --n-train 50 --n-train 10% --n-train 100%`
(writes `training_sizes.pdf`).
Rows read: the metric that selects (macro, test) of the study `training_size`; the rows without a seed.
What one should see: every curve rising and its intervals narrowing; with few images an early or middle tap
may lead, with many the later ones.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from figures.depth_curve import draw_chance
from figures.style import COLORS, MARKERS, literal, look
from probe.records.display_names import metric_label, probe_label, weights_names
from probe.records.view import View

MOST_TAPS = 5  # curves of one panel that can be told apart


def training_sizes(rows: pd.DataFrame, taps: Sequence[str] = (), column: str = "full", metric: str = "auroc") -> Figure:
    """A figure of the test score against the number of labelled images, a panel per network, weights and probe.

    `taps` are the curves; by default five spread over the depth.
    """
    sized = rows[(rows["study"] == "training_size") & rows["seed"].isna() & (rows["metric"] == metric)]
    sized = sized[sized["split"] == "test"]
    panels = list(sized.groupby(["arch", "weights", "arm"], sort=False))
    names = weights_names(map(str, sized["weights"]))
    with plt.rc_context(look(column, aspect=0.42 if len(panels) > 1 else 0.55)):
        figure, axes = plt.subplots(1, len(panels), sharey=True, squeeze=False)
        for place, ((arch, weights, arm), mine) in zip(axes.flat, panels, strict=True):
            shown = list(taps) or _spread(mine)
            draw_sizes(place, mine, shown)
            place.set_title(literal(f"{arch}, {names[str(weights)]}, {probe_label(str(arm))}"))
        axes[0, 0].set_ylabel(f"test {metric_label(metric)} (macro)")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=MOST_TAPS)
        for place in axes.flat:  # after the legend, in which chance has no place
            draw_chance(place, metric)
        return figure


def redraw(view: View) -> dict[str, Figure]:
    """The figure of a record, by file stem."""
    rows = view.scores(["training_size"], "layerwise")
    return {"training_sizes": training_sizes(rows, metric=view.metric_of("layerwise"), column=view.column or "full")}


def draw_sizes(axes: Axes, rows: pd.DataFrame, taps: Sequence[str]) -> None:
    """A curve per tap with error bars: the luck of one subset and that of the test images together."""
    for order, tap in enumerate(taps):
        mine = rows[rows["tap"] == tap].sort_values("n_train")
        value, apart = mine["value"], 1.03 ** (order - (len(taps) - 1) / 2)  # side by side, not over each other
        color = COLORS[order % len(COLORS)]
        axes.vlines(mine["n_train"] * apart, mine["ci_low"], mine["ci_high"], color=color, linewidth=0.6)
        axes.plot(mine["n_train"] * apart, value, color=color, marker=MARKERS[order % len(MARKERS)], label=literal(tap))
    sizes = sorted(rows["n_train"].unique())
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{size:g}" for size in sizes])
    axes.set_xlabel("labelled images (training and validation)")


def _spread(rows: pd.DataFrame) -> list[str]:
    taps = rows.drop_duplicates("tap").sort_values("depth")["tap"].tolist()
    count = min(MOST_TAPS, len(taps))
    return [taps[round(i * (len(taps) - 1) / max(1, count - 1))] for i in range(count)]
