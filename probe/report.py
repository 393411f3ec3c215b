"""A study in words and files: rows, a table, the run's facts, and the recommendation."""

from pathlib import Path
from typing import Any

import pandas as pd

from probe.metrics import MACRO
from probe.results import append_rows, to_json
from probe.study import Study


def write_study(study: Study, facts: dict[str, Any], out: Path) -> list[str]:
    """Write `results.jsonl` (rows, appended), `layerwise.csv` and `run.json` into a folder; returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    append_rows(out / "results.jsonl", study.rows.to_dict(orient="records"))
    score_table(study).to_csv(out / "layerwise.csv", index=False)
    (out / "run.json").write_text(to_json(facts, indent=1) + "\n")
    return [str(out / name) for name in ("results.jsonl", "layerwise.csv", "run.json")]


def score_table(study: Study) -> pd.DataFrame:
    """One line per arm, seed, tap and split: the macro scores with their intervals, beside what the tap costs."""
    rows = study.rows[study.rows["class"].eq(MACRO) & study.rows["seed"].notna()]
    keys = ["dataset", "arch", "weights", "seed", "tap", "depth", "split"]
    wide = rows.pivot_table(index=keys, columns="metric", values=["value", "ci_low", "ci_high"], sort=False)
    wide.columns = wide.columns.map(lambda pair: pair[1] if pair[0] == "value" else f"{pair[1]}_{pair[0]}")
    table = wide.sort_index(axis=1).reset_index()
    costs = study.rows[study.rows["metric"].isin(["params", "macs"])]
    cost = costs.pivot_table(index=["arch", "weights", "tap"], columns="metric", values="value", sort=False)
    return table.merge(cost.reset_index(), on=["arch", "weights", "tap"], how="left")


def summary_lines(study: Study) -> list[str]:
    """The table and the recommendation of every arm, as lines of text."""
    lines: list[str] = []
    for arm in study.summaries():
        lines += ["", *_arm_table(study, arm), "", *_advice(study, arm)]
    for missing in study.skipped:
        lines += ["", f"SKIPPED {missing['arch']}, {missing['weights']}: {missing['reason']}"]
    return lines[1:]


def _arm_table(study: Study, arm: dict[str, Any]) -> list[str]:
    intervals = study.rows[
        (study.rows["metric"] == "auroc") & (study.rows["class"] == MACRO) & (study.rows["split"] == "test")
        & (study.rows["arch"] == arm["arch"]) & (study.rows["weights"] == arm["weights"])
    ].groupby("tap")  # fmt: skip
    low, high = intervals["ci_low"].min(), intervals["ci_high"].max()
    width = max(len("tap"), *(len(tap["tap"]) for tap in arm["taps"]))
    seeds = f", {len(arm['seeds'])} seeds" if len(arm["seeds"]) > 1 else ""
    lines = [
        f"{arm['arch']}, {arm['weights']}, {study.data.name}: linear probes, macro AUROC{seeds}",
        f"{'':>3}  {'tap':<{width}}  depth   params     macs    val   test  95 % interval",
    ]
    chosen = {name: (arm[name] or {}).get("tap") for name in ("best", "earliest_sufficient", "oracle")}
    for tap in arm["taps"]:
        name = tap["tap"]
        notes = ", ".join(kind.replace("_", " ") for kind, of in chosen.items() if of == name)
        lines.append(
            f"{tap['index']:>3}  {name:<{width}}  {tap['depth']:5.2f}"
            f"  {tap['params'] / 1e6:6.2f}M  {tap['macs'] / 1e9:6.2f}G"
            f"  {tap['val']:5.3f}  {tap['test']:5.3f}  {low[name]:5.3f}-{high[name]:5.3f}  {notes}".rstrip()
        )
    return lines


def _advice(study: Study, arm: dict[str, Any]) -> list[str]:
    best, enough, oracle = arm["best"], arm["earliest_sufficient"], arm["oracle"]
    lines = [f"best on validation: {_place(best)}"]
    if enough:
        lines.append(f"earliest sufficient (loses less than {study.delta:g} AUROC, 95 % bound): {_place(enough)}")
    else:
        lines.append(
            f"earliest sufficient: none can be shown to lose less than {study.delta:g} AUROC with "
            f"{study.data.counts()['val']} validation images (smallest bound {arm['smallest_gap_high']:.3f})"
        )
    if oracle:
        lines.append(f"oracle, chosen on test and no recommendation: {oracle['tap']}, test {oracle['test']:.3f}")
    return lines


def _place(tap: dict[str, Any]) -> str:
    return (
        f"{tap['tap']}, val {tap['val']:.3f}, test {tap['test']:.3f}; cutting there saves "
        f"{tap['saved_params']:.1%} of the parameters and {tap['saved_macs']:.1%} of the MACs below the head"
    )
