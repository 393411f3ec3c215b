"""A study in words and files: rows, tables, the run's facts, and the recommendation."""

from typing import Any

import pandas as pd

from probe.metrics import MACRO
from probe.records.display_names import PLURALS, metric_label
from probe.records.result_rows import WITHOUT_PROBE
from probe.records.text_tables import text_table
from probe.studies.layerwise import Study
from probe.studies.recorded_probes import STUDY


def write_study(study: Study) -> list[str]:
    """Write `results.jsonl` and two tables, `layerwise.csv` and `differences.csv`; returns their paths."""
    tables = {"layerwise.csv": score_table(study), "differences.csv": study.differences()}
    written = study.record.export({name: table.to_csv(index=False) for name, table in tables.items()})
    return [*study.record.rebuild(), *written]


def score_table(study: Study) -> pd.DataFrame:
    """One line per arm, seed, probe, tap and split: the macro scores with their intervals, and what the tap costs."""
    main = study.rows[study.rows["study"] == STUDY]
    rows = main[main["seed"].notna() & (main["class"].eq(MACRO) | main["class"].isna())]
    keys = ["dataset", "arch", "weights", "seed", "method", "tap", "depth", "split"]
    wide = rows.pivot_table(index=keys, columns="metric", values=["value", "ci_low", "ci_high"], sort=False)
    wide.columns = wide.columns.map(lambda pair: pair[1] if pair[0] == "value" else f"{pair[1]}_{pair[0]}")
    table = wide.sort_index(axis=1).reset_index()
    costs = main[main["metric"].isin(["params", "macs"])]
    if costs.empty:
        return table
    cost = costs.pivot_table(index=["arch", "weights", "tap"], columns="metric", values="value", sort=False)
    return table.merge(cost.reset_index(), on=["arch", "weights", "tap"], how="left")


def summary_lines(study: Study) -> list[str]:
    """The table and the recommendation of every arm and probe, as lines of text."""
    lines: list[str] = []
    for arm in study.summaries():
        lines += ["", *_arm_table(study, arm), "", *_advice(study, arm), *_size_lines(arm)]
        lines += [*_control_lines(study, arm), *_transfer_lines(study, arm)]
    for missing in study.skipped:
        lines += ["", f"SKIPPED {missing['arch']}, {missing['weights']}: {missing['reason']}"]
    return lines[1:]


def _arm_table(study: Study, arm: dict[str, Any]) -> list[str]:
    rows = _of_arm(study, arm)
    intervals = rows[_is_test(rows, study.grid.metric) & (rows["study"] == STUDY)].groupby("tap")
    low, high = intervals["ci_low"].min(), intervals["ci_high"].max()
    seeds = f", {len(arm['seeds'])} seeds" if len(arm["seeds"]) > 1 else ""
    what = f"{PLURALS[arm['method']]}, macro {metric_label(study.grid.metric)}"
    chosen = {name: (arm[name] or {}).get("tap") for name in ("best", "earliest_sufficient", "oracle")}
    cells = []
    for tap in arm["taps"]:
        name = tap["tap"]
        costs = [f"{tap[cost] / unit:.2f}{sign}" for cost, unit, sign in COSTS if tap.get(cost) is not None]
        scores = [f"{tap[split]:.3f}" for split in ("train", "val", "test")]
        notes = ", ".join(kind.replace("_", " ") for kind, of in chosen.items() if of == name)
        cells.append(
            [tap["index"], name, f"{tap['depth']:.2f}", *costs, *scores, f"{low[name]:.3f}-{high[name]:.3f}", notes]
        )
    head = ["", "tap", "depth", *(["params", "macs"] if costs else []), "train", "val", "test", "95 % interval", ""]
    return [f"{arm['arch']}, {arm['weights']}, {study.data.name}: {what}{seeds}", *text_table(head, cells).splitlines()]


COSTS = (("params", 1e6, "M"), ("macs", 1e9, "G"))


def _advice(study: Study, arm: dict[str, Any]) -> list[str]:
    best, enough, oracle = arm["best"], arm["earliest_sufficient"], arm["oracle"]
    lines = [f"best on validation: {_place(best)}"]
    lost = f"less than {study.grid.delta:g} {metric_label(study.grid.metric)}"
    if enough:
        lines.append(f"earliest sufficient (loses {lost}, 95 % bound): {_place(enough)}")
    else:
        counts = study.data.counts()
        images = counts["val"] + (counts["train"] if study.grid.folds else 0)
        lines.append(
            f"earliest sufficient: none can be shown to lose {lost} with {images} validation images "
            f"(smallest bound {arm['smallest_gap_high']:.3f})"
        )
    if oracle:
        lines.append(f"oracle, chosen on test and no recommendation: {oracle['tap']}, test {oracle['test']:.3f}")
    return lines


def _place(tap: dict[str, Any]) -> str:
    place = f"{tap['tap']}, val {tap['val']:.3f}, test {tap['test']:.3f}"
    if "saved_params" not in tap:
        return place
    if tap["saved_params"] == tap["saved_macs"] == 0:
        return f"{place}; nothing above it but the head"
    return (
        f"{place}; cutting there saves "
        f"{tap['saved_params']:.1%} of the parameters and {tap['saved_macs']:.1%} of the MACs below the head"
    )


def _size_lines(arm: dict[str, Any]) -> list[str]:
    """Where to cut with fewer labelled images."""
    if not arm["training_sizes"]:
        return []
    head = ["images", "subsets", "best on held-out", "val", "test", "95 % interval", "earliest sufficient", "oracle"]
    cells = [
        [
            *(size["n_train"], size["subsets"], size["best"], f"{size['val']:.3f}", f"{size['test']:.3f}"),
            *(f"{size['low']:.3f}-{size['high']:.3f}", size["earliest_sufficient"] or "none", size["oracle"] or "none"),
        ]
        for size in arm["training_sizes"]
    ]
    return ["", *text_table(head, cells).splitlines()]


def _control_lines(study: Study, arm: dict[str, Any]) -> list[str]:
    """The range over taps of what read-outs score that learnt nothing."""
    rows = study.rows[(study.rows["arch"] == arm["arch"]) & (study.rows["weights"] == arm["weights"])]
    control = rows[(rows["study"] == "control") & _is_test(rows, study.grid.metric)]
    mine = control[control["method"].str.startswith(f"{arm['method']},") | (control["method"] == "majority")]
    return [
        f"control, {method}: {found['value'].min():.3f} to {found['value'].max():.3f}, "
        f"95 % intervals within {found['ci_low'].min():.3f}-{found['ci_high'].max():.3f}"
        for method, found in mine.groupby("method", sort=False)
    ]


def _transfer_lines(study: Study, arm: dict[str, Any]) -> list[str]:
    """The tap at which each score that needs no probe is highest, beside the first kind of probe."""
    rows = study.rows[(study.rows["arch"] == arm["arch"]) & (study.rows["weights"] == arm["weights"])]
    scores = rows[rows["method"] == WITHOUT_PROBE].dropna(subset="value")
    if scores.empty or arm["method"] != study.probes[0]:
        return []
    means = scores.groupby(["metric", "tap"], sort=False)["value"].mean()
    highest = means.groupby("metric", sort=False).idxmax()
    told = [f"{metric_label(metric)} {tap} ({means[metric, tap]:.3f})" for metric, tap in highest]
    return [f"transferability, highest at: {', '.join(told)}"]


def _of_arm(study: Study, arm: dict[str, Any]) -> pd.DataFrame:
    mine = pd.Series(True, index=study.rows.index)
    for key in ("arch", "weights", "method"):
        mine &= study.rows[key] == arm[key]
    return study.rows[mine]


def _is_test(rows: pd.DataFrame, metric: str) -> "pd.Series[bool]":
    return (rows["metric"] == metric) & (rows["class"] == MACRO) & (rows["split"] == "test")
