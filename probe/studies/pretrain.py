"""A whole network trained on one data set, as a recorded cell: the work of `probe pretrain`."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from probe.backbones import Networks, NetworkSpec
from probe.base.runtime import default_folder
from probe.data import Dataset, dataset
from probe.records.cell import Cell, Outcome
from probe.records.record import Record, Run
from probe.settings import Network, Reading, Training
from probe.studies.engine import complete, model_file
from probe.studies.finetune import Trainings, keep_best
from probe.studies.identity import DataIdentity, decisive, network_identity, setting_words
from probe.studies.trainer import outcome_of

STUDY, WEIGHTS = "pretrain", "weights.safetensors"


def run_pretrain(
    arch: str,
    data: str | Path | Dataset,
    out: str | Path,
    *,
    weights: str = "scratch",
    seed: int = 0,
    reading: Reading | None = None,
    network: Network | None = None,
    training: Training | None = None,
    cache: str | Path | None = None,
) -> Trainings:
    """Train every stage of a network and write its weights to `out`/weights.safetensors; see `pretrain`.

    Results are recorded in the folder `out`, and what was stopped goes on.
    """
    from probe.finetuning import pretrain
    from probe.finetuning.devices import is_first

    reading, network, training = reading or Reading(), network or Network(), training or Training()
    cache_folder = Path(cache) if cache else default_folder()
    table = data if isinstance(data, Dataset) else dataset(data, seed=seed, cache=cache, **asdict(reading))
    record = Record(out, writes=is_first())
    cell = _cell(arch, table, weights, seed, network, training, cache_folder, reading)
    asked = {"arch": arch, "weights": weights, "seed": seed, **decisive(reading, network, training)}
    record.enter(Run.of(STUDY, asked, [cell], {"data": table.facts()}))

    def work(one: Cell) -> Outcome:
        file = model_file(record, one)
        assert file is not None  # the record has a folder
        file.parent.mkdir(parents=True, exist_ok=True)
        checkpoint = file.with_suffix(".ckpt")
        made = pretrain(
            arch, table, file, weights=weights, seed=seed, network=network, training=training,
            checkpoint=checkpoint, cache=cache,
        )  # fmt: skip
        outcome = replace(outcome_of(made.training), spent=checkpoint)
        outcome.facts["card"] = made.card
        return outcome

    entries = complete(record, [cell], work, doing="training")
    return Trainings(entries, record, keep_best(record, [cell], entries, training.metric, WEIGHTS))


def card_of(found: Trainings) -> Mapping[str, Any]:
    """What the weights were trained on, and how."""
    card: Mapping[str, Any] = found.entries[0].facts["card"]
    return card


def _cell(
    arch: str, data: Dataset, weights: str, seed: int, network: Network, training: Training, cache: Path,
    reading: Reading,
) -> Cell:  # fmt: skip
    spec = NetworkSpec.of(network, arch, weights, seed).sized(data.image_size)
    identity = network_identity(spec, cache, Networks())
    setting = setting_words(reading, network, training)
    return Cell(
        kind="pretrained", keeps=True,
        asked={"network": identity, "data": DataIdentity(data, cache).of(data), "seed": seed, **decisive(training)},
        labels={
            "dataset": data.name, "arch": arch, "weights": weights, "arm": "pretrain", "setting": setting, "seed": seed,
        },
    )  # fmt: skip
