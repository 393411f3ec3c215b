"""Table of scores: taps down, networks and read-outs across, as CSV, Markdown and LaTeX.

Command: `probe figure table --results results` (writes `table.csv`, `table.md`, `table.tex`; LaTeX takes booktabs).
Rows read: the metric that selects (macro, test) of probes and of trained networks, with intervals.
What one should see: in every column the best score in bold, and with it all whose interval reaches it.
"""

from dataclasses import dataclass
from math import isnan
from pathlib import Path

import pandas as pd

from probe.records.display_names import metric_label, probe_label, weights_names
from probe.records.metric_facts import Metric, find_metric
from probe.records.view import View

STUDIES = ["layerwise", "finetune"]
COMMANDS = ("layerwise", "check", "finetune")
BOLD = "In bold the best of a column and all whose 95% interval reaches it."


@dataclass(frozen=True)
class ScoreTable:
    """Scores (taps, columns) with their intervals, and which of them are bold."""

    value: pd.DataFrame
    low: pd.DataFrame
    high: pd.DataFrame
    caption: str
    metric: Metric

    @property
    def bold(self) -> pd.DataFrame:
        """The best of each column, and those that are not told apart from it."""
        if self.metric.better == "lower":
            return self.low.le(self.value.min()) | self.value.eq(self.value.min())
        return self.high.ge(self.value.max()) | self.value.eq(self.value.max())

    def text(self) -> pd.DataFrame:
        """Every score with its interval, as printed."""
        cells = [
            [_printed(*numbers) for numbers in zip(*lines, strict=True)]
            for lines in zip(self.value.values, self.low.values, self.high.values, strict=True)
        ]
        return pd.DataFrame(cells, self.value.index, self.value.columns)

    def markdown(self) -> str:
        """A table in GitHub's Markdown, the caption below it."""
        shown, bold = self.text(), self.bold
        lines = [["tap", *shown.columns], ["---"] * (1 + len(shown.columns))]
        for tap, cells, marks in zip(shown.index, shown.values, bold.values, strict=True):
            lines.append([tap, *(f"**{cell}**" if mark else cell for cell, mark in zip(cells, marks, strict=True))])
        body = "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)
        return f"{body}\n\n{self.caption} {BOLD}\n"

    def latex(self) -> str:
        r"""A `table` with booktabs' rules."""
        props = self.bold.map(lambda bold: "textbf:--rwrap;" if bold else "")
        style = (
            self.text()
            .rename_axis(index=None, columns="tap")
            .style.format(escape="latex")
            .apply(lambda _: props, axis=None)
        )
        style = style.format_index(escape="latex", axis=0).format_index(escape="latex", axis=1)
        told = pd.DataFrame([f"{self.caption} {BOLD}"]).style.hide(axis="index").hide(axis="columns")
        caption = told.format(escape="latex").to_string().strip()
        return str(style.to_latex(hrules=True, column_format="l" + "c" * self.value.shape[1], caption=caption))


def score_table(rows: pd.DataFrame, metric: str = "auroc") -> ScoreTable:
    """The table of test scores: means over seeds, and the envelope of their intervals."""
    scores = rows[rows["study"].isin(STUDIES) & rows["metric"].eq(metric)]
    scores = scores[scores["class"].eq("macro") & scores["split"].eq("test") & scores["tap"].notna()]
    named = scores.assign(column=_columns(scores))
    taps = list(scores.sort_values("depth", kind="stable")["tap"].drop_duplicates())
    columns = list(dict.fromkeys(named["column"]))
    cells = named.groupby(["tap", "column"], sort=False)
    value, low, high = (
        each.unstack().loc[taps, columns].rename_axis(columns=None)
        for each in (cells["value"].mean(), cells["ci_low"].min(), cells["ci_high"].max())
    )
    seeds = scores["seed"].nunique()
    over = f"means over {seeds} seeds with the envelope of their" if seeds > 1 else "with"
    caption = f"Test {metric_label(metric)} (macro) on {scores['dataset'].iloc[0]}, {over} 95% intervals."
    return ScoreTable(value, low, high, caption, find_metric(metric))


def write_table(view: View, out: Path) -> list[str]:
    """The table of a record, in three forms; the files."""
    view.scores(["layerwise"], *COMMANDS)
    table = score_table(view.rows(*COMMANDS), view.metric_of(COMMANDS[0]))
    numbers = pd.concat({"value": table.value, "ci_low": table.low, "ci_high": table.high}, axis=1)
    numbers.columns = numbers.columns.map(lambda pair: f"{pair[1]}, {pair[0]}")
    texts = {"csv": numbers.to_csv(), "md": table.markdown(), "tex": table.latex()}
    return [_write(out / f"table.{kind}", text) for kind, text in texts.items()]


def _write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def _columns(rows: pd.DataFrame) -> "pd.Series[str]":
    """What tells columns apart: the network where there are several, its weights, and how it is read or trained."""
    several = rows["arch"].nunique() > 1
    probes = rows["arm"].map(probe_label) + " probe"
    names = (
        rows["weights"].map(weights_names(rows["weights"]))
        + ", "
        + rows["arm"].where(rows["method"].eq("trained"), probes)
    )
    return rows["arch"] + ", " + names if several else names


def _printed(value: float, low: float, high: float) -> str:
    if isnan(value):
        return "-"
    return f"{value:.3f}" if isnan(low) else f"{value:.3f} [{low:.3f}, {high:.3f}]"
