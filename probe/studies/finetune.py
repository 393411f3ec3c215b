"""What came of training, as files and as a table."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe.base.errors import ProbeError, reason
from probe.records.text import text_table

if TYPE_CHECKING:
    from probe.finetuning import Finetuned

SHOWN = ("auroc", "auprc", "balanced_accuracy", "log_loss")


def write_training(found: Sequence["Finetuned"], chosen: dict[str, Any], out: Path) -> list[str]:
    """The epochs of all seeds, their scores (appended), and what was asked; returns the paths of the files."""
    import pandas as pd

    from probe.base.runtime import versions
    from probe.records.rows import append_rows, to_json

    facts = {"command": ["probe", *sys.argv[1:]], "settings": chosen, "versions": versions()}
    try:
        out.mkdir(parents=True, exist_ok=True)
        histories = pd.concat([each.history.assign(seed=seed) for seed, each in enumerate(found)])
        histories.to_csv(out / "history.csv", index=False)
        for each in found:
            append_rows(out / "results.jsonl", each.rows.to_dict(orient="records"))
        (out / "run.json").write_text(to_json(facts, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ProbeError(f"cannot write results to '{out}': {reason(error)}") from None
    return [str(out / name) for name in ("history.csv", "results.jsonl", "run.json")]


def scores(found: "Finetuned") -> dict[str, dict[str, float]]:
    """Macro averages by split."""
    rows = found.rows[(found.rows["class"] == "macro") & found.rows["metric"].isin(SHOWN)]
    parts = {split: rows[rows["split"] == split] for split in rows["split"].unique()}
    return {split: dict(zip(part["metric"], part["value"], strict=True)) for split, part in parts.items()}


def score_table(found: Sequence["Finetuned"]) -> str:
    """A line per seed and split."""
    cells = [
        [seed, each.best_epoch, split, *(f"{shown.get(name, float('nan')):.3f}" for name in SHOWN),
         f"{each.seconds:.0f}"]
        for seed, each in enumerate(found)
        for split, shown in scores(each).items()
    ]  # fmt: skip
    return text_table(["seed", "epoch", "split", *SHOWN, "seconds"], cells)
