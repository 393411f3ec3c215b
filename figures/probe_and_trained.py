"""Probes and training: the probe's curve over depth, and networks that were cut there and trained.

Command: `probe check --arch resnet50 --data labels.csv` (writes `check.pdf`).
Rows read: the metric that selects (macro, test) of linear probes and of trained networks, with intervals; `params`.
What one should see: the trained points above the probe's curve, in the same order; fully fine-tuned ones often
highest at a deeper tap than the probe's best. On the right the same against the parameters that are left.
"""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.depth_curve import draw_chance
from figures.style import COLORS, MARKERS, literal, look
from probe.records.display_names import metric_label, weights_names
from probe.records.result_rows import frame
from probe.records.view import Missing, View

APART = 0.012  # of the depth, between strategies at one tap
PROBE = "0.25"  # grey: the probe is the reference, the strategies have the colours


def probe_and_trained(rows: pd.DataFrame, metric: str = "auroc", column: str = "full") -> Figure:
    """A figure with a row per set of weights: score against depth, and against parameters below the head.

    There is room for the first alone in a "half" column.
    """
    scores = rows[(rows["metric"] == metric) & (rows["class"] == "macro") & (rows["split"] == "test")]
    probes = scores[(scores["study"] == "layerwise") & (scores["method"] == "linear")]
    trained = scores[scores["method"] == "trained"]
    weights = list(dict.fromkeys(trained["weights"]))
    names = weights_names(weights)
    taps = probes.drop_duplicates("tap").set_index("tap")["depth"]
    params = rows[rows["metric"] == "params"].drop_duplicates("tap").set_index("tap")["value"] / 1e6
    arms = list(dict.fromkeys(trained["arm"]))
    panels, high = ((taps,), 0.5) if column == "half" else ((taps, params), 0.36)
    with plt.rc_context(look(column, aspect=high * len(weights) + high / 3)):
        figure, axes = plt.subplots(len(weights), len(panels), sharey=True, squeeze=False, sharex="col")
        for line, name in zip(axes, weights, strict=True):
            for place, where in zip(line, panels, strict=True):
                _draw_probe(place, probes[probes["weights"] == name], where)
                for order, arm in enumerate(arms):
                    mine = trained[(trained["weights"] == name) & (trained["arm"] == arm)]
                    aside = APART * (order - (len(arms) - 1) / 2) if place is line[0] else 0
                    _draw_trained(place, mine, where + aside, order, arm)
                draw_chance(place, metric, color="0.6")
            line[0].set_ylabel(f"test {metric_label(metric)} (macro)")
            line[0].set_title(literal(f"{probes['dataset'].iloc[0]}, {probes['arch'].iloc[0]}, {names[name]}"))
        axes[-1, 0].set_xticks(taps, list(taps.index), rotation=90, fontsize=5.5)
        axes[-1, 0].set_xlabel("tap where the network is cut")
        if len(panels) > 1:
            axes[-1, 1].set_xscale("log")
            axes[-1, 1].set_xlabel(r"parameters below the head ($10^6$)")
        handles = {
            label: handle
            for place in axes.flat
            for handle, label in zip(*place.get_legend_handles_labels(), strict=True)
        }
        figure.legend(
            list(handles.values()), list(handles), loc="outside lower center", ncols=4 if len(panels) == 1 else 5
        )
        return figure


def redraw(view: View) -> dict[str, Figure]:
    """The figure of the latest run, by file stem."""
    run, cells = view.finished("check")[-1]
    rows = frame(row for cell in cells for row in cell.rows)
    metric = view.metric_of(run.command)
    if not rows["metric"].eq(metric).any():
        raise Missing(f"no {metric} of 'probe check' in '{view.record.folder}'")
    return {"check": probe_and_trained(rows, metric=metric, column=view.column or "full")}


def _draw_probe(axes: Axes, rows: pd.DataFrame, where: "pd.Series[float]") -> None:
    by_tap = rows.groupby("tap", sort=False)
    value, low, high = by_tap["value"].mean(), by_tap["ci_low"].min(), by_tap["ci_high"].max()
    x = where.reindex(value.index)
    axes.fill_between(x, low, high, color=PROBE, alpha=0.12, linewidth=0)
    axes.plot(x, value, color=PROBE, label="linear probe")


def _draw_trained(axes: Axes, rows: pd.DataFrame, where: "pd.Series[float]", order: int, arm: str) -> None:
    """Means over seeds; the bars span the intervals of all of them."""
    if rows.empty:
        return
    by_tap = rows.groupby("tap", sort=False)
    value, low, high = by_tap["value"].mean(), by_tap["ci_low"].min(), by_tap["ci_high"].max()
    x = where.reindex(value.index)
    color = COLORS[order % len(COLORS)]
    axes.vlines(x, low, high, color=color, linewidth=0.6)  # an interval need not hold its value
    axes.plot(x, value, color=color, marker=MARKERS[order % len(MARKERS)], linestyle="none", label=arm)
