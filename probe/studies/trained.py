"""A trained network as a cell: cut at a tap, trained by a strategy from one seed, scored, and recorded."""

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe.base.lookup import find_index
from probe.base.runtime import log
from probe.data import Dataset
from probe.metrics import MACRO
from probe.records.cell import Cell, Outcome
from probe.records.record import Entry, Record
from probe.records.rows import records
from probe.settings import Head, Network, Reading, Training, Tuning
from probe.settings.training import reads
from probe.studies.engine import model_file
from probe.studies.plan import DataIdentity, decisive, network_identity, setting_words

if TYPE_CHECKING:
    from probe.finetuning import Finetuned


@dataclass(frozen=True)
class Trainer:
    """Names and trains networks on one data set: `cell` says what would be trained, `work` does it.

    Nothing is built for a name. With `keeps` the trained networks are kept in files of the record.
    """

    arch: str
    data: Dataset
    network: Network
    training: Training
    tuning: Tuning
    cache: Path
    record: Record
    reading: Reading
    head: Head
    keeps: bool = False

    def asked(self) -> dict[str, Any]:
        """The settings, as plain values."""
        return decisive(self.reading, self.network, self.head, self.training, self.tuning)

    def name_of(self, weights: str, tap: str | int) -> str:
        """The name of a tap that may be given by its index, for which the network is built."""
        if isinstance(tap, str) and not tap.lstrip("-").isdigit():
            return tap
        taps = self._net(weights, 0).taps
        return str(taps[find_index("tap", tap, taps)])

    def cell(self, weights: str, strategy: str, tap: str, seed: int) -> Cell:
        """One network. Raises Unreachable for weights that cannot be had."""
        training, tuning = decisive(self.training, self.tuning).values()
        asked = {
            "network": self._network(weights, _drawn(weights, seed)), "data": self._identity.of(self.data.redraw(seed)),
            "tap": tap, "strategy": strategy, "seed": seed, **decisive(self.head), "Training": training,
            "Tuning": {name: value for name, value in tuning.items() if name in reads(strategy)},
        }  # fmt: skip
        setting = setting_words(self.reading, self.network, self.head, self.training, self.tuning, strategy=strategy)
        return Cell(
            kind="trained", asked=asked, keeps=self.keeps,
            labels={
                "dataset": self.data.name, "arch": self.arch, "weights": weights, "tap": tap, "arm": strategy,
                "setting": setting, "seed": seed,
            },
        )  # fmt: skip

    def work(self, cell: Cell) -> Outcome:
        """Build, cut, train and score the network of a cell; a training that was stopped goes on."""
        from probe.finetuning import finetune
        from probe.truncation import save, truncate

        weights, tap, strategy, seed = (cell.labels[name] for name in ("weights", "tap", "arm", "seed"))
        log.info("training %s, %s, cut at %s, %s, seed %d", self.arch, weights, tap, strategy, seed)
        place = model_file(self.record, cell)
        if place is not None:
            place.parent.mkdir(parents=True, exist_ok=True)
        data = self.data.redraw(seed)
        net = self._net(weights, _drawn(weights, seed))
        model = truncate(net, tap, data.task, seed=seed, **asdict(self.head))
        result = finetune(
            model, data, strategy, seed=seed, training=self.training, tuning=self.tuning,
            checkpoint=place and place.with_suffix(".ckpt"), cache=self.cache,
        )  # fmt: skip
        if place is not None and self.keeps:
            save(result.model, place)
        return outcome_of(result)

    @cached_property
    def _identity(self) -> DataIdentity:
        return DataIdentity(self.data, self.cache)

    @cached_property
    def _memo(self) -> dict[Any, Any]:
        return {}

    def _network(self, weights: str, drawn: int) -> dict[str, Any]:
        if ("identity", weights, drawn) not in self._memo:
            size = self.network.image_size or self.data.image_size
            found = network_identity(self.arch, weights, drawn, self.network, size, self.cache)
            self._memo["identity", weights, drawn] = found
        return dict(self._memo["identity", weights, drawn])

    def _net(self, weights: str, drawn: int) -> Any:
        from probe.backbones import backbone

        if ("net", weights, drawn) not in self._memo:
            size = self.network.image_size or self.data.image_size
            settings = asdict(self.network) | {"image_size": size}
            self._memo["net", weights, drawn] = backbone(self.arch, weights, seed=drawn, **settings)
        return self._memo["net", weights, drawn]


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


def _drawn(weights: str, seed: int) -> int:
    """The seed of the weights: only scratch weights are drawn."""
    return seed if weights == "scratch" else 0
