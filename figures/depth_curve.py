"""Depth curves: how well labels can be read at each tap, with intervals, and what a cut there keeps.

Command: `probe layerwise --arch resnet50 --data labels.csv --probe linear --probe knn` (writes `layerwise.pdf`).
Rows read: the metric that selects (macro, test) with its interval, `params`.
What one should see: scratch flat or falling, pretrained rising above it, often highest before the
last block; the tap to cut at marked on each curve, and below it what is kept of the network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from figures.style import COLORS, DASHES, MARKERS, literal, look
from probe.records.display_names import metric_label, probe_label, weights_name, weights_names
from probe.records.metric_facts import find_metric
from probe.records.result_rows import records
from probe.records.view import View

MOST_NAMES = 26  # tap names that fit under a column
MOST_CUTS = 4  # legend entries that have room for the tap to cut at
MOST_BANDS = 4  # intervals that can be told apart when they lie over each other


@dataclass(frozen=True)
class Curve:
    """One line: the rows of a network, its weights and an arm (a kind of probe), and how it is drawn."""

    arch: str
    weights: str
    arm: str
    rows: pd.DataFrame
    look: Mapping[str, Any]
    marked: str | None


def depth_curve(
    rows: pd.DataFrame,
    marks: Sequence[dict[str, str]] = (),
    skipped: Sequence[dict[str, str]] = (),
    column: str = "half",
    metric: str = "auroc",
) -> Figure:
    """A figure of the test score against relative depth, a curve per network, weights and kind of probe.

    `marks` name the recommended tap of a curve (keys arch, weights, tap, and arm when there are several), `skipped`
    the arms that could not be had, which the figure then says.
    """
    main = rows[rows["study"].eq("layerwise")]
    curves = _curves(main[_is_score(main, metric)], marks)
    one = len({curve.arch for curve in curves}) == 1
    with plt.rc_context(look(column, aspect=(1.0 if one else 0.9) + 0.04 * max(0, len(curves) - 3))):
        figure, (top, below) = plt.subplots(2, 1, sharex=True, height_ratios=(3.4, 1))
        for curve in curves:
            draw_curve(top, curve, _label(curve, curves), bands=len(curves) <= MOST_BANDS)
        _fit(top, pd.concat([curve.rows for curve in curves]), metric, bands=len(curves) <= MOST_BANDS)
        top.set_title(_title(curves))
        for line, missing in enumerate(skipped):
            note = literal(f"{missing['arch']}, {missing['weights']}: skipped, weights not available")
            top.text(0.99, 0.15 + 0.07 * line, note, transform=top.transAxes, ha="right", fontsize=6, color="#8B0000")
        _draw_costs(below, main, curves)
        _name_depths(below, curves[0].rows if one else None)
        figure.legend(*top.get_legend_handles_labels(), loc="outside lower center", ncols=1 if len(curves) < 4 else 2)
        return figure


def redraw(view: View) -> dict[str, Figure]:
    """The figure of a record, by file stem."""
    rows = view.scores(["layerwise"], "layerwise")
    run = view.latest("layerwise")
    skipped = run.facts["skipped"] if run else ()
    size = {"metric": view.metric_of("layerwise"), "column": view.column or "half"}
    return {"layerwise": depth_curve(rows, marks(view, rows), skipped, **size)}


def marks(view: View, rows: pd.DataFrame) -> list[dict[str, str]]:
    """The tap that each run recommended to cut at, by network, weights and arm."""
    recommended = []
    for entry in view.entries("probes", "layerwise"):
        probes = rows[rows["cell"].eq(entry.digest)].drop_duplicates("method")
        for line in records(probes[["arch", "weights", "method", "arm"]]):
            if chosen := entry.facts["recommended"].get(line["method"]):
                recommended.append({**line, "tap": chosen["earliest_sufficient"] or chosen["best"]})
    return recommended


def draw_curve(axes: Axes, curve: Curve, label: str, bands: bool = True) -> None:
    """The curve, its interval band (over seeds the envelope of their intervals), its marked tap."""
    by_depth = curve.rows.groupby("depth")
    value, low, high = by_depth["value"].mean(), by_depth["ci_low"].min(), by_depth["ci_high"].max()
    color, depths = curve.look["color"], value.index.to_numpy(float)
    if bands:
        axes.fill_between(depths, low, high, color=color, alpha=0.15, linewidth=0)
    axes.plot(depths, value, label=literal(label).lstrip("_"), **curve.look)  # one that begins so is left out
    if curve.marked is not None:
        depth = float(curve.rows.loc[curve.rows["tap"] == curve.marked, "depth"].iloc[0])
        axes.plot(depth, value[depth], "o", color=color, markersize=8, markerfacecolor="none", markeredgewidth=1.2)


def _curves(scores: pd.DataFrame, marks: Sequence[dict[str, str]]) -> list[Curve]:
    """Several networks or weights go by colour, and their probes by dashes; of one network the probes go by colour."""
    groups = list(scores.groupby(["arch", "weights", "arm"], sort=False))
    arms = list(dict.fromkeys((arch, weights) for (arch, weights, _), _ in groups))
    kinds = list(dict.fromkeys(kind for (_, _, kind), _ in groups))
    curves = []
    for (arch, weights, kind), mine in groups:
        arm, dash = arms.index((arch, weights)), kinds.index(kind)
        hue = arm if len(arms) > 1 else dash
        look: dict[str, Any] = {"color": COLORS[hue % len(COLORS)], "marker": MARKERS[hue % len(MARKERS)]}
        look["linestyle"] = DASHES[dash % len(DASHES)] if len(arms) > 1 else "-"
        known = {"arch": arch, "weights": weights, "arm": kind}
        taps = [mark["tap"] for mark in marks if all(mark.get(key, known[key]) == known[key] for key in known)]
        curves.append(Curve(str(arch), str(weights), str(kind), mine, look, taps[0] if taps else None))
    return curves


def _is_score(rows: pd.DataFrame, metric: str) -> "pd.Series[bool]":
    return (rows["metric"] == metric) & (rows["class"] == "macro") & (rows["split"] == "test")


def _shared(curves: Sequence[Curve]) -> dict[str, bool]:
    return {key: len({getattr(curve, key) for curve in curves}) == 1 for key in ("arch", "weights", "arm")}


def _label(curve: Curve, curves: Sequence[Curve]) -> str:
    """What tells a curve from the others, of a single one its weights; and, of few, where to cut."""
    shared = _shared(curves)
    name = weights_names(each.weights for each in curves)[curve.weights]
    parts = {"arch": curve.arch, "weights": name, "arm": probe_label(curve.arm)}
    told = [text for key, text in parts.items() if not shared[key] or (key == "weights" and shared["arm"])]
    cut = f" (cut at {curve.marked})" if curve.marked and len(curves) < MOST_CUTS else ""
    return ", ".join(told) + cut


def _title(curves: Sequence[Curve]) -> str:
    shared, first = _shared(curves), curves[0]
    seeds = first.rows["seed"].nunique()
    parts = [
        str(first.rows["dataset"].iloc[0]),
        first.arch if shared["arch"] else "",
        weights_name(first.weights) if shared["weights"] and not shared["arm"] else "",
        f"{probe_label(first.arm)} probes" if shared["arm"] else "",
        f"{seeds} seeds" if seeds > 1 else "",
    ]
    return literal(", ".join(filter(None, parts)))


def _fit(axes: Axes, scores: pd.DataFrame, metric: str, bands: bool) -> None:
    """The chance line where there is one, and limits that show every score."""
    low, high = ("ci_low", "ci_high") if bands else ("value", "value")
    bottom, top = scores[low].min() - 0.02, scores[high].max() + 0.04
    chance = draw_chance(axes, metric)
    if chance is not None:
        bottom, top = min(chance - 0.03, bottom), min(1.02, top)
    if isfinite(bottom) and isfinite(top):
        axes.set_ylim(bottom, top)
    axes.set_ylabel(f"test {metric_label(metric)} (macro)")


def draw_chance(axes: Axes, metric: str, color: str = "0.45") -> float | None:
    """A line at what a read-out that knows nothing scores, and that score; None where it depends on the data."""
    chance = find_metric(metric).chance
    if chance is not None:
        axes.axhline(chance, color=color, linewidth=0.8, linestyle=(0, (4, 2)), label="chance")
    return chance


def _draw_costs(axes: Axes, rows: pd.DataFrame, curves: Sequence[Curve]) -> None:
    """Share of the parameters below the head that a cut at each depth keeps, per architecture."""
    archs = list(dict.fromkeys(curve.arch for curve in curves))
    for arch in archs:
        params = rows[(rows["metric"] == "params") & (rows["arch"] == arch)]
        kept = params.drop_duplicates("depth").set_index("depth")["value"]
        color = next(curve.look["color"] for curve in curves if curve.arch == arch) if len(archs) > 1 else "0.35"
        if len(kept):
            axes.plot(kept.index, kept / kept.iloc[-1], color=color, marker=".", markersize=2.5)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(ylim=(0, 1.08), yticks=(0, 0.5, 1), ylabel="parameters\nkept")


def _name_depths(axes: Axes, rows: pd.DataFrame | None) -> None:
    """Tap names under the axis when one architecture has few enough of them, else the numbers alone."""
    taps = None if rows is None else rows.drop_duplicates("tap")
    if taps is None or len(taps) > MOST_NAMES:
        axes.set_xlabel("relative depth (share of the blocks run)")
        return
    axes.set_xticks(taps["depth"], taps["tap"], rotation=90, fontsize=5.5)
    axes.set_xlabel("tap, at its relative depth")
