"""Score against cost: every probe and every trained network, and the frontier that validation finds.

Command: `probe figure frontier --results results` (after `probe layerwise`, or `probe check` for trained networks).
Rows read: the metric that selects (macro, val and test) of linear probes and trained networks; `params` and `macs`.
What one should see: a frontier (its taps are named on top) that rises steeply at first and then hardly; where it ends
before the whole network, what lies beyond costs more and is not better. It is chosen on validation and drawn on test,
so it may dip.
"""

import logging

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from figures.style import COLORS, MARKERS, literal, look
from probe.records.display_names import metric_label, weights_names
from probe.records.metric_facts import find_metric
from probe.records.view import Missing, View

COSTS = (("macs", 1e9, r"MACs up to the cut ($10^9$)"), ("params", 1e6, r"parameters up to the cut ($10^6$)"))
COMMANDS = ("layerwise", "check", "finetune")
HALVED = "tf"  # trains a network whose top is half as wide as what taps cost was counted of
PROBE = "probe"  # the arm of linear probes
KEYS = ["arch", "weights", "arm"]


def frontier(rows: pd.DataFrame, metric: str = "auroc", column: str = "full") -> Figure:
    """A figure of the test score against MACs and against parameters, with the frontier of each.

    Scores are means over seeds; a network is on the frontier when none that costs as little has a better score on
    validation.
    """
    points = tabulate(rows, metric)
    looks = {key: at for at, key in enumerate(dict.fromkeys(points[KEYS].itertuples(index=False, name=None)))}
    shape, high = ((2, 1), 1.5) if column == "half" else ((1, 2), 0.46)
    with plt.rc_context(look(column, aspect=high)):
        figure, axes = plt.subplots(*shape, sharey=True)
        for place, (cost, unit, label) in zip(axes, COSTS, strict=True):
            for key, at in looks.items():
                mine = points[(points[KEYS] == list(key)).all(axis=1)]
                color, marker = COLORS[at % len(COLORS)], MARKERS[at // len(COLORS) + at % len(MARKERS)]
                place.plot(mine[cost] / unit, mine["test"], marker, color=color, alpha=0.75, label=_named(key, looks))
            place.set(xscale="log", xlabel=label)
            place.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
            place.xaxis.set_major_formatter("{x:g}")
            place.xaxis.set_minor_formatter(NullFormatter())
            place.grid(axis="y", color="0.9", linewidth=0.5)
            _draw_front(place, on_front(points, cost, metric), cost, unit)
        for place in axes[: shape[0]]:
            place.set_ylabel(f"test {metric_label(metric)} (macro)")
        figure.suptitle(literal(str(rows["dataset"].iloc[0])), fontsize="large")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=1 + shape[1])
        return figure


def redraw(view: View) -> dict[str, Figure]:
    """The figure of a record, by file stem."""
    rows = view.scores(["layerwise"], *COMMANDS)
    if not rows["metric"].eq("macs").any():
        raise Missing(f"the features in '{view.record.folder}' do not say what their taps cost")
    every = view.rows(*COMMANDS)
    chosen = every[every["study"].isin(["layerwise", "finetune"])]
    return {"frontier": frontier(chosen, view.metric_of(COMMANDS[0]), view.column or "full")}


def tabulate(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One line per network, weights, arm ("probe" for linear probes) and tap: costs, scores on val and test.

    Networks of which a part was halved in width are left out, for rows do not say what they cost.
    """
    halved = rows["strategy"].eq(HALVED)
    if halved.any():
        logging.getLogger("probe").info("frontier: %s left out, its halved networks' costs are in no row", HALVED)
    rows = rows[~halved]
    kinds = rows[rows["method"].isin(["linear", "trained"]) & rows["class"].eq("macro") & rows["metric"].eq(metric)]
    probes = kinds["arm"].str.replace("linear", PROBE, n=1)
    named = kinds.assign(arm=kinds["arm"].where(kinds["method"].eq("trained"), probes))
    scores = named.pivot_table(index=[*KEYS, "tap"], columns="split", values="value", sort=False).reset_index()
    costs = rows[rows["metric"].isin(["params", "macs"])]
    wide = costs.pivot_table(index=["arch", "tap"], columns="metric", values="value", sort=False).reset_index()
    return scores.merge(wide, on=["arch", "tap"])


def on_front(points: pd.DataFrame, cost: str, metric: str) -> pd.DataFrame:
    """Those that no other beats on validation at the same cost or less, cheapest first."""
    quality = find_metric(metric).sign * points["val"]
    order = points.assign(quality=quality).sort_values([cost, "quality"], ascending=[True, False])
    return order[order["quality"] > order["quality"].cummax().shift(fill_value=float("-inf"))]


def _draw_front(axes: Axes, front: pd.DataFrame, cost: str, unit: float) -> None:
    axes.plot(
        front[cost] / unit, front["test"], color="0.25", marker="o", markersize=7, markerfacecolor="none",
        linewidth=0.8, label="frontier, chosen on validation",
    )  # fmt: skip
    names = axes.secondary_xaxis("top")
    names.set_xticks(front[cost] / unit, map(literal, front["tap"]), rotation=90, fontsize=5.5)
    names.minorticks_off()
    names.spines["top"].set_visible(False)


def _named(key: tuple[str, ...], looks: dict[tuple[str, ...], int]) -> str:
    """What tells a set of points from the others; an architecture only where there are several."""
    arch, weights, arm = key
    several = len({each[0] for each in looks}) > 1
    kind = f"linear {arm}" if arm.partition(",")[0] == PROBE else arm
    name = weights_names(each[1] for each in looks)[weights]
    return literal(", ".join([*([arch] if several else []), name, kind]))
