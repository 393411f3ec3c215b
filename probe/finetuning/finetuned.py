"""finetune(): a strategy applied to a truncated network, chosen on validation, scored once on test."""

import copy
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from probe.backbones.state_dicts import hash_tensors
from probe.base.errors import ProbeError
from probe.base.files import digest_of
from probe.base.lookup import check_seed
from probe.base.runtime import default_folder, log, versions
from probe.cache.requests import data_fingerprint
from probe.data import Dataset, FileHashes
from probe.features.network_reader import full_precision
from probe.finetuning.applied_strategy import check_fits
from probe.finetuning.checkpoints import keep, recall
from probe.finetuning.devices import make_fabric
from probe.finetuning.frozen_outputs import through_frozen
from probe.finetuning.initialisation import draw_weights, start_from_probe
from probe.finetuning.inputs import Pictures, Source
from probe.finetuning.strategies import Strategy, find_strategy
from probe.finetuning.training import Run
from probe.metrics import MACRO
from probe.records.result_rows import TRAINED, frame
from probe.scoring.resampling import weigh
from probe.scoring.score_rows import score_rows
from probe.scoring.trials import whole_trial
from probe.settings import ProbeGrid, Training, Tuning
from probe.truncation import Truncated

STUDY = "finetune"


@dataclass(frozen=True)
class Finetuned:
    """What came of fine-tuning: `model` at its best epoch on validation, on the CPU and in eval mode.

    `rows` are scores of train, val and test, with intervals, and `draws` (1 + draws,) by split the plain score and
    the bootstrap draws of the metric that selects, under the weights that probes are scored with; `history` has a
    line per epoch, 0 being the start. `predictions` by split are ids (n,), targets and probabilities (n, classes) of
    val and test; `trainable` counts the parameters that were ever trained; `request` names all that the numbers come
    from.
    """

    model: Truncated = field(repr=False)
    rows: pd.DataFrame = field(repr=False)
    draws: dict[str, NDArray[np.float64]] = field(repr=False)
    history: pd.DataFrame = field(repr=False)
    best_epoch: int
    seconds: float
    request: str
    trainable: int
    predictions: dict[str, tuple[NDArray[Any], ...]] = field(repr=False)


def finetune(
    model: Truncated,
    data: Dataset,
    strategy: str | Strategy = "ftl",
    *,
    seed: int = 0,
    training: Training | None = None,
    tuning: Tuning | None = None,
    checkpoint: str | Path | None = None,
    cache: str | Path | None = None,
) -> Finetuned:
    """Train a truncated network on the training split by a named strategy, or by one of your own.

    The epoch is chosen on validation by `training.metric`, and only then is test scored, once. The given
    `model` is left as it is; its head is trained from where it is. `seed` decides order, dropout,
    augmentation and weights that are drawn. With a `checkpoint` file, written after every epoch, a run that was
    stopped goes on, to the same weights bit by bit; delete it once the result is kept. Under torchrun every
    process takes its part of each step.

    Raises ProbeError for a strategy that does not fit the network, data of other classes or without
    validation images, a loss that is no longer a number, and memory that does not suffice.
    """
    start = time.perf_counter()
    training, tuning = training or Training(), tuning or Tuning()
    check_seed(seed)
    _check_data(model, data, training)
    if isinstance(strategy, str):
        strategy = find_strategy(strategy, len(model.trunk.stages), tuning)
    check_fits(model, strategy, training)
    folder = Path(cache) if cache else default_folder()
    request = _request(model, data, strategy, training, seed, folder)
    place = Path(checkpoint) if checkpoint else None
    kept = recall(place, request) if place else None
    fabric = make_fabric(training)
    with full_precision(str(fabric.device)):
        try:
            run = _prepared(model, data, strategy, training, fabric, seed, folder, started=kept is None)
            run.go(lambda state: _keep(place, request, state, fabric), kept)
            rows, draws, predictions = _rows(run, data, seed)
        except torch.OutOfMemoryError:
            raise ProbeError(
                f"{fabric.device} ran out of memory with {training.batch_size} images a step; take a smaller batch "
                "size, or more parts (accumulate)"
            ) from None
    history = pd.DataFrame(run.history)
    best = run.model.cpu().eval().requires_grad_(True)
    seconds = time.perf_counter() - start
    return Finetuned(best, rows, draws, history, run.best_epoch, seconds, request, run.trainable, predictions)


def _prepared(
    model: Truncated,
    data: Dataset,
    strategy: Strategy,
    training: Training,
    fabric: Fabric,
    seed: int,
    cache: Path,
    started: bool,
) -> Run:
    """A run about to start, on a copy of the model."""
    mine = copy.deepcopy(model)
    draw_weights(mine, strategy, seed)
    mine.to(fabric.device)
    source: Source = Pictures(data, mine.preprocessing, training, str(fabric.device))
    if strategy.frozen_bottom and training.reuse and (training.augment == "none" or training.views):
        source = through_frozen(mine, strategy.frozen_bottom, data, training, fabric, source, seed, cache)
    if strategy.head.weights == "probe" and started:
        _probe_first(mine, data, training, source)
    return Run(mine, strategy, training, data, source, fabric, seed)


def _probe_first(model: Truncated, data: Dataset, training: Training, source: Source) -> None:
    """Start the head from the linear probe of what the trunk gives, pooled."""
    found = {}
    reduce = model.head.get_submodule("reduce")
    model.eval()
    for split in ("train", "val"):
        rows = np.flatnonzero(data.splits == split)
        chunks = [
            np.arange(at, min(at + training.batch_size, len(rows))) for at in range(0, len(rows), training.batch_size)
        ]
        with torch.no_grad():
            pooled = [reduce(_above(model, source, x)).cpu() for x in source.batches(rows, chunks)]
        found[split] = torch.cat(pooled).numpy(), data.labels[rows]
    labels = found["train"][1]
    classes, weights = model.task.row_classes(labels), None
    if training.class_weights == "balanced" and classes is not None:
        weights = model.task.balanced_weights(labels)[classes]
    strength = start_from_probe(model, *found["train"], found["val"], training.metric, weights)
    log.info("the head starts from a linear probe, C = %g by %s on validation", strength, training.metric)


def _above(model: Truncated, source: Source, x: torch.Tensor) -> torch.Tensor:
    for stage in model.trunk.stages[source.first :]:
        x = stage(x)
    return x


def _rows(
    run: Run, data: Dataset, seed: int
) -> tuple[pd.DataFrame, dict[str, NDArray[np.float64]], dict[str, tuple[NDArray[Any], ...]]]:
    """Under the weights that were kept: scores of every split, draws of the metric that selects, predictions."""
    model, grid = run.model, ProbeGrid(draws=run.training.draws, metric=run.training.metric)
    known = {
        "study": STUDY, "dataset": data.name, "arch": model.trunk.origin.arch,
        "weights": model.trunk.origin.weights, "tap": model.tap, "task": data.task.name,
        "method": TRAINED, "strategy": run.strategy.name, "seed": seed, "n_train": len(run.train),
    }  # fmt: skip
    rows, draws = [], {}
    predictions: dict[str, tuple[NDArray[Any], ...]] = {}
    for split, weighing in weigh(data, whole_trial(data, grid), grid).items():
        if len(weighing.rows):
            probabilities = model.task.prediction(run.logits(weighing.rows)).numpy()
            targets = data.labels[weighing.rows]
            scores = data.task.score(targets, probabilities, weighing.weights)
            rows += score_rows(scores, weighing, {**known, "split": split})
            draws[split] = scores[grid.metric, MACRO]
            if split != "train":
                predictions[split] = (data.ids[weighing.rows], targets, probabilities)
    return frame(rows), draws, predictions


def _check_data(model: Truncated, data: Dataset, training: Training) -> None:
    if model.task != data.task:
        raise ProbeError(
            f"the model is for {model.task} {', '.join(model.classes)}, and {data.name} is {data.task} "
            f"{', '.join(data.classes)}; truncate with data.task"
        )
    data.task.wanted([training.metric])
    for split in ("train", "val"):
        if not (data.splits == split).any():
            raise ProbeError(f"{data.name} has no images in {split}; training takes train and val")


def _keep(place: Path | None, request: str, state: dict[str, Any], fabric: Fabric) -> None:
    if place and fabric.is_global_zero:
        keep(place, request, state)


def _request(model: Truncated, data: Dataset, strategy: Strategy, training: Training, seed: int, cache: Path) -> str:
    """The digest of all that decides the final weights."""
    settings = {
        name: value for name, value in asdict(training).items() if name not in ("num_workers", "draws", "reuse")
    }
    content = {
        "arch": model.trunk.origin.arch,
        "state": hash_tensors(model.weights()),
        "tap": model.tap,
        "preprocessing": asdict(model.preprocessing),
        "strategy": asdict(strategy),
        "training": settings,
        "seed": seed,
        "data": data_fingerprint(data, FileHashes(cache)),
        "labels": data.labels.tolist(),
        "splits": data.splits.tolist(),
        "versions": versions(),
    }
    return str(digest_of(content))
