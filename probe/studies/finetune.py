"""One network cut at a tap and trained from several seeds, each a recorded cell: the work of `probe finetune`."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from probe.base.errors import ProbeError, reason
from probe.base.files import replace_file
from probe.data import Dataset
from probe.records.cell import Cell
from probe.records.metric_facts import find_metric
from probe.records.record import Entry, Record, Run
from probe.records.text_tables import text_table
from probe.settings import Extraction, Head, Network, Reading, Training, Tuning
from probe.studies.arms import Setup
from probe.studies.engine import complete, model_file
from probe.studies.trainer import Trainer, macro_scores

STUDY = "finetune"
SHOWN = ("auroc", "auprc", "balanced_accuracy", "log_loss")
MODEL = "model.safetensors"


@dataclass(frozen=True)
class Trainings:
    """The recorded networks of one request, by seed; `file` holds the weights of the best on validation."""

    entries: list[Entry]
    record: Record
    file: Path | None = None

    def table(self) -> str:
        """A line per seed and split."""
        cells = [
            [
                *(entry.labels["seed"], entry.facts["best_epoch"], split),
                *(f"{_number(scores.get(name)):.3f}" for name in SHOWN),
                f"{entry.facts['seconds']:.0f}",
            ]
            for entry in self.entries
            for split, scores in macro_scores(entry, SHOWN).items()
        ]
        return text_table(["seed", "epoch", "split", *SHOWN, "seconds"], cells)

    def history(self) -> pd.DataFrame:
        """A line per epoch and seed."""
        return pd.concat(
            [pd.DataFrame(each.facts["history"]).assign(seed=each.labels["seed"]) for each in self.entries]
        )

    def summaries(self) -> list[dict[str, Any]]:
        """Per seed its epoch, seconds, cell and scores."""
        return [
            {
                "seed": entry.labels["seed"], "best_epoch": entry.facts["best_epoch"], "cell": entry.digest,
                "seconds": entry.facts["seconds"], "scores": macro_scores(entry, SHOWN),
            }
            for entry in self.entries
        ]  # fmt: skip


def run_finetune(
    arch: str,
    tap: str,
    data: str | Path | Dataset = "digits",
    *,
    weights: str | None = None,
    strategy: str = "ftl",
    seeds: Sequence[int] = (0,),
    out: str | Path | None = "results",
    reading: Reading | None = None,
    network: Network | None = None,
    head: Head | None = None,
    training: Training | None = None,
    tuning: Tuning | None = None,
    cache: str | Path | None = None,
) -> Trainings:
    """Cut a network at a tap and train it by a strategy from every seed; results are recorded in the folder `out`.

    By default weights are pretrained, and those of the strategy `scratch` are scratch. The network of the seed that is
    the best on validation is `out`/model.safetensors. What was stopped goes on. Raises ProbeError as `backbone`,
    `truncate` and `finetune` do.
    """
    from probe.finetuning.devices import is_first

    training = training or Training()
    setup = Setup(
        seed=seeds[0], reading=reading or Reading(), network=network or Network(), extraction=Extraction(),
        cache=Path(cache) if cache else None,
    )  # fmt: skip
    table = setup.load(data)
    source = weights or ("scratch" if strategy == "scratch" else "pretrained")
    record = Record(out, writes=is_first())
    trainer = Trainer(arch, table, setup, head or Head(), training, tuning or Tuning(), record, keeps=out is not None)
    tap = trainer.name_of(source, tap)
    cells = [trainer.cell(source, strategy, tap, seed) for seed in seeds]
    asked = {"arch": arch, "tap": tap, "weights": source, "strategy": strategy, "seeds": list(seeds), **trainer.asked()}
    record.enter(Run.of(STUDY, asked, cells, {"data": table.facts()}))
    entries = complete(record, cells, trainer.work, doing="training")
    return Trainings(entries, record, keep_best(record, cells, entries, training.metric, MODEL))


def write_training(found: Trainings) -> list[str]:
    """Write the rows of the record and `history.csv`; returns the paths, with that of the model."""
    written = found.record.export({"history.csv": found.history().to_csv(index=False)})
    return [str(found.file), *written, *found.record.rebuild()]


def keep_best(record: Record, cells: Sequence[Cell], entries: Sequence[Entry], metric: str, name: str) -> Path | None:
    """Copy the weights of the cell that is the best on validation to `name` in the folder of the record.

    Returns the copy. Raises ProbeError when it cannot be written.
    """
    sign = find_metric(metric).sign
    best = max(range(len(entries)), key=lambda i: sign * entries[i].facts["val"])
    source = model_file(record, cells[best])
    if source is None or record.folder is None or not record.writes:
        return None
    target = record.folder / name
    try:
        with source.open("rb") as weights:
            replace_file(target, lambda file: shutil.copyfileobj(weights, file))
    except OSError as error:
        raise ProbeError(f"cannot write '{target}': {reason(error)}; the network is in '{source}'") from None
    return target


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
