"""Strategies compared: at every cut the score of full fine-tuning, and what other ways of training differ from it.

Command: `probe check --arch resnet50 --data labels.csv` (writes `strategies.pdf`).
Rows read: `differences` of the comparison cell: per weights, strategy and tap (with its `depth`) the
`score` on test of the reference, and the paired difference to it with its interval and Holm's p.
What one should see: fine-tuning ahead of linear probing where the cut is low, less where it is high; scratch behind
wherever pretraining helps. Filled symbols are differences that stay below .05 after Holm's correction.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from figures.style import COLORS, MARKERS, literal, look
from probe.records.display_names import metric_label, weights_names
from probe.records.view import Missing, View

LEVEL = 0.05  # of p after correction
APART = 0.7  # of the room of a tap that its strategies share


def strategies(table: pd.DataFrame, column: str = "full") -> Figure:
    """A figure with the reference's score by tap and, beside it, the differences of all others to it, in the metric.

    In a "half" column they stand below it. Taps stand in the order of their `depth`, where the table has it, else in
    that of its lines.
    """
    first, metric = table.iloc[0], str(table["metric"].iloc[0])
    own = (table.sort_values("depth", kind="stable") if "depth" in table else table).drop_duplicates("tap")
    taps = own["tap"].tolist()
    names = weights_names([first["against_weights"], *table["weights"]])
    reference = f"{first['against_strategy']}, {names[first['against_weights']]}"
    shape, high = ((2, 1), 3) if column == "half" else ((1, 2), 1)
    with plt.rc_context(look(column, aspect=high * (0.2 + 0.055 * len(taps)))):
        figure, (left, right) = plt.subplots(*shape, sharey=True, width_ratios=(1, 1.7)[-shape[1] :])
        left.hlines(range(len(taps)), own["reference_low"], own["reference_high"], color="0.4", linewidth=0.8)
        left.plot(own["reference"], range(len(taps)), "o", color="0.25")
        left.set_xlabel(f"test {metric_label(metric)} (macro)")
        left.set_title(literal(reference))
        left.xaxis.set_major_locator(MaxNLocator(4))
        _draw_differences(right, table.assign(weights=table["weights"].map(names)), taps)
        right.set_xlabel(f"difference in test {metric_label(metric)}, paired")
        right.set_title(literal(f"{first['dataset']}, {first['arch']}: others minus that"))
        left.set_yticks(range(len(taps)), map(literal, taps))
        left.set_ylim(len(taps) - 0.5, -0.5)  # the lowest cut on top
        for place in (left, right)[: shape[0]]:
            place.set_ylabel("tap where the network is cut")
        named = right.get_legend_handles_labels()
        figure.legend(*named, loc="outside lower center", ncols=2 * shape[1], title=f"filled: p below {LEVEL:g} (Holm)")
        return figure


def redraw(view: View) -> dict[str, Figure]:
    """The figure of the latest run, by file stem."""
    _, cells = view.finished("check")[-1]
    table = pd.DataFrame(next(cell for cell in cells if cell.kind == "comparison").facts["differences"])
    if table.empty:
        raise Missing(f"'{view.record.folder}' holds one way of training, and nothing to compare it with")
    return {"strategies": strategies(table, column=view.column or "full")}


def _draw_differences(axes: Axes, table: pd.DataFrame, taps: list[str]) -> None:
    groups = list(table.groupby(["weights", "strategy"], sort=False))
    axes.axvline(0, color="0.25", linewidth=0.8)
    for order, ((weights, strategy), mine) in enumerate(groups):
        y = mine["tap"].map(taps.index) + APART * (order - (len(groups) - 1) / 2) / len(groups)
        color, shown = COLORS[order % len(COLORS)], mine["p_holm"] < LEVEL
        axes.hlines(y, mine["ci_low"], mine["ci_high"], color=color, linewidth=0.8)
        label = literal(f"{strategy}, {weights}")
        look: dict[str, Any] = {"marker": MARKERS[order % len(MARKERS)], "linestyle": "none", "color": color}
        axes.plot(mine["difference"], y, markerfacecolor="white", label=label, **look)
        axes.plot(np.where(shown, mine["difference"], np.nan), y, **look)
