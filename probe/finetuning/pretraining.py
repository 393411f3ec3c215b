"""pretrain(): a whole network trained on one data set, as weights that a network for another starts from."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from probe.backbones import Backbone, NetworkSpec
from probe.backbones.catalog import find_source, seeded
from probe.backbones.state_dicts import CARD, hash_tensors
from probe.base.errors import ProbeError, reason
from probe.base.runtime import log, versions
from probe.data import Dataset, dataset
from probe.finetuning.devices import is_first
from probe.finetuning.finetuned import Finetuned, finetune
from probe.settings import Network, Reading, Training
from probe.truncation import truncate
from probe.truncation.model_file import check_model_file, write_tensors

STUDY, FORMAT = "pretrain", 1


@dataclass(frozen=True)
class Pretrained:
    """A file of weights, the card in it, and the training that it came from."""

    path: Path
    card: dict[str, Any]
    training: Finetuned


def pretrain(
    arch: str,
    data: str | Path | Dataset,
    path: str | Path,
    *,
    weights: str | Path = "scratch",
    seed: int = 0,
    reading: Reading | None = None,
    network: Network | None = None,
    training: Training | None = None,
    checkpoint: str | Path | None = None,
    cache: str | Path | None = None,
) -> Pretrained:
    """Train every stage of a network on labelled images, and write what came of it to a `.safetensors` file.

    That is a state dict under the architecture's own names, which is taken wherever `weights` may be a file. Training
    is that of `finetune`, strategy "ftl", cut at the last tap under a new linear head: the epoch is chosen on
    validation, and a run that was stopped goes on from `checkpoint`, which is left behind. The head is not kept; what
    the architecture has above its last tap (a final norm) stays as `weights` gave it. A card in the metadata says what
    it was trained on and how.

    Raises ProbeError as `backbone`, `dataset` and `finetune` do, and when the file cannot be written.
    """
    place, network, training = Path(path), network or Network(), training or Training()
    check_model_file(place)
    table = data
    if not isinstance(table, Dataset):
        table = dataset(table, seed=seed, cache=cache, **asdict(reading or Reading()))
    net = NetworkSpec.of(network, arch, weights, seed).sized(table.image_size).build()
    model = truncate(net, -1, table.task, seed=seed)
    found = finetune(model, table, seed=seed, training=training, checkpoint=checkpoint, cache=cache)
    found = replace(found, rows=found.rows.assign(study=STUDY))
    if found.best_epoch == 0:
        log.warning("no epoch was better on validation than the start, so '%s' holds the weights it began with", place)
    tensors = _whole_state(net, found.model.trunk)
    card = {**_describe(found, table, seed, training, model.source_hash), "hash": hash_tensors(tensors)}
    if is_first():
        write_tensors(place, tensors, {CARD: json.dumps(card)})
    return Pretrained(place, card, found)


def read_pretraining(path: str | Path) -> dict[str, Any]:
    """The card of a file that `pretrain` wrote. Raises ProbeError for any other file."""
    try:
        with safe_open(path, "pt") as file:
            found = (file.metadata() or {}).get(CARD, "{}")
        card = json.loads(found)
    except (SafetensorError, OSError, ValueError) as error:
        raise ProbeError(f"cannot read a card from '{path}': {reason(error)}") from None
    if card.get("format") != FORMAT:
        raise ProbeError(f"'{path}' has no card of pretraining; 'probe pretrain' makes one")
    return dict(card)


def _whole_state(net: Backbone, trained: Backbone) -> dict[str, Tensor]:
    """Every tensor of the architecture but its classifier: those trained, and what was given of the others."""
    source, origin = find_source(net.origin.arch), net.origin
    with seeded(origin.seed):
        fresh = source.create(None, origin.preprocessing.image_size)
    classifier = tuple(f"{name}." for name in source.classifier(fresh))
    above: Mapping[str, Tensor] = net.head.state_dict() if net.head is not None else {}
    given = {**fresh.state_dict(), **above, **trained.weights()}
    names = [name for name in fresh.state_dict() if not name.startswith(classifier)]
    return {name: given[name].detach().cpu().contiguous().clone() for name in names}


def _describe(found: Finetuned, data: Dataset, seed: int, training: Training, start: str) -> dict[str, Any]:
    """The card, but for the hash of the tensors."""
    origin = found.model.trunk.describe()
    rows = found.rows[(found.rows["class"] == "macro") & (found.rows["metric"] == training.metric)]
    return {
        "format": FORMAT,
        **{name: origin[name] for name in ("arch", "preprocessing")},
        "start": {"weights": origin["weights"], "seed": seed, "hash": start},
        "data": data.facts(),
        "trained_to": found.model.tap,
        "training": asdict(training),
        "seed": seed,
        "best_epoch": found.best_epoch,
        training.metric: dict(zip(rows["split"], rows["value"], strict=True)),
        "request": found.request,
        "versions": versions(),
    }
