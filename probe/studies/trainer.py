"""A trained network as a cell: cut at a tap, trained by a strategy from one seed, scored, and recorded."""

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from probe.base.runtime import log
from probe.data import Dataset
from probe.metrics import MACRO
from probe.records.cell import Cell, Outcome
from probe.records.record import Entry, Record
from probe.records.result_rows import records
from probe.settings import Head, Training, Tuning
from probe.settings.training import reads
from probe.studies.arms import NetworkArm, Setup, arm_of
from probe.studies.engine import model_file
from probe.studies.identity import DataIdentity, decisive, setting_words

if TYPE_CHECKING:
    from probe.backbones import Backbone
    from probe.finetuning import Finetuned


@dataclass(frozen=True)
class Trainer:
    """Names and trains networks on one data set: `cell` says what would be trained, `work` does it.

    `subject` is the name of a network, or one that is built; it is left as it is. Nothing is built for a name. With
    `keeps` the trained networks are kept in files of the record.
    """

    subject: "str | Backbone"
    data: Dataset
    setup: Setup
    head: Head
    training: Training
    tuning: Tuning
    record: Record
    keeps: bool = False

    def asked(self) -> dict[str, Any]:
        """The settings, as plain values."""
        return decisive(self.setup.reading, self.setup.network, self.head, self.training, self.tuning)

    def name_of(self, weights: str, tap: str | int) -> str:
        """The name of a tap that may be given by its index, for which the network is built."""
        if isinstance(tap, str) and not tap.lstrip("-").isdigit():
            return tap
        return self.arm(weights, 0).net.tap(tap).name

    def cell(self, weights: str, strategy: str, tap: str, seed: int) -> Cell:
        """One network. Raises Unreachable for weights that cannot be had."""
        arm, (training, tuning) = self.arm(weights, seed), decisive(self.training, self.tuning).values()
        asked = {
            "network": arm.identity, "data": self._identity.of(arm.data), "tap": tap, "strategy": strategy,
            "seed": seed, **decisive(self.head), "Training": training,
            "Tuning": {name: value for name, value in tuning.items() if name in reads(strategy)},
        }  # fmt: skip
        setup = (self.setup.reading, self.setup.network)
        return Cell(
            kind="trained", asked=asked, keeps=self.keeps,
            labels={
                "dataset": self.data.name, "arch": arm.origin["arch"], "weights": weights, "tap": tap, "arm": strategy,
                "setting": setting_words(*setup, self.head, self.training, self.tuning, strategy=strategy),
                "seed": seed,
            },
        )  # fmt: skip

    def work(self, cell: Cell) -> Outcome:
        """Build, cut, train and score the network of a cell; a training that was stopped goes on."""
        from probe.finetuning import finetune
        from probe.truncation import save, truncate

        weights, tap, strategy, seed = (cell.labels[name] for name in ("weights", "tap", "arm", "seed"))
        log.info("training %s, %s, cut at %s, %s, seed %d", cell.labels["arch"], weights, tap, strategy, seed)
        place, arm = model_file(self.record, cell), self.arm(weights, seed)
        if place is not None:
            place.parent.mkdir(parents=True, exist_ok=True)
        model = truncate(arm.net, tap, arm.data.task, seed=seed, **asdict(self.head))
        checkpoint = place and place.with_suffix(".ckpt")
        result = finetune(
            model, arm.data, strategy, seed=seed, training=self.training, tuning=self.tuning,
            checkpoint=checkpoint, cache=self.setup.folder,
        )  # fmt: skip
        if place is not None and self.keeps and self.record.writes:
            save(result.model, place)
        return replace(outcome_of(result), spent=checkpoint)

    def arm(self, weights: str, seed: int) -> NetworkArm:
        """The network with some weights, and the data as they are drawn from a seed."""
        if (weights, seed) not in self._arms:
            data, setup = self.data.redraw(seed), replace(self.setup, seed=seed)
            self._arms[weights, seed] = arm_of(self.subject, weights, data, setup)
        return self._arms[weights, seed]

    @cached_property
    def _identity(self) -> DataIdentity:
        return DataIdentity(self.data, self.setup.folder)

    @cached_property
    def _arms(self) -> dict[tuple[str, int], NetworkArm]:
        return {}


def outcome_of(result: "Finetuned") -> Outcome:
    """What `finetune` came to, as it is recorded."""
    arrays = {f"draws/{split}": draws for split, draws in result.draws.items()}
    for split, columns in result.predictions.items():
        names = ("ids", "targets", "probabilities")
        arrays |= {f"{name}/{split}": column for name, column in zip(names, columns, strict=True)}
    model = result.model
    facts = {
        "best_epoch": result.best_epoch, "params": model.params, "trainable": result.trainable, "macs": model.macs,
        "seconds": result.seconds, "history": records(result.history), "request": result.request,
        "origin": model.trunk.describe(), "val": float(result.draws["val"][0]),
    }  # fmt: skip
    return Outcome(rows=records(result.rows), facts=facts, arrays=arrays)


def trained(entry: Entry) -> dict[str, Any]:
    """A recorded network, as comparisons take it: what it is, `val`, `seconds`, `params`, and on test its `draws`."""
    labels = {name: entry.labels[name] for name in ("weights", "tap", "setting", "seed")}
    facts = {name: entry.facts[name] for name in ("val", "seconds", "params", "trainable", "macs", "best_epoch")}
    return {**labels, "strategy": entry.labels["arm"], **facts, "draws": entry.arrays["draws/test"]}


def macro_scores(entry: Entry, metrics: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Macro averages by split and metric."""
    scores: dict[str, dict[str, float]] = {}
    for row in entry.rows:
        if row["class"] == MACRO and row["metric"] in metrics:
            scores.setdefault(row["split"], {})[row["metric"]] = row["value"]
    return scores
