"""MLP probes: standardised features, one hidden layer, all seeds and settings of a training set trained at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, product
from math import ceil

import numpy as np
import torch
from jaxtyping import Float, Integer
from numpy import ndarray
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from probe.base.array_types import Labels, ProbabilitiesAt
from probe.base.errors import ProbeError
from probe.base.runtime import in_threads, one_thread
from probe.probes.designs import StandardisedRows
from probe.probes.mlp_batch import Course, Sample, layers
from probe.probes.mlp_training import train
from probe.probes.readout import Readable
from probe.probes.targets import Target, about
from probe.settings import MLPSetting
from probe.tasks import Task

TOGETHER = 8_000_000  # weights trained side by side; AdamW holds five times as many numbers
Networks = list[tuple[int, int, int]]  # training set, seed, setting
Layers = tuple[NDArray[np.float32], ...]  # weight, bias, weight, bias as `nn.Linear` has them, seeds first


@dataclass(frozen=True)
class MLPs:
    """MLP probes at every setting and seed: `epochs` (s, seeds) trained, with `held_loss` (s, seeds) on held rows.

    `layers` has weights and biases by setting, on features standardised by `center` and `scale` (d,). Of the logits
    (k,) those `learnt` are the networks' outputs, the others stand at `constant`. `held_loss` is NaN without held rows.
    """

    task: Task
    layers: Sequence[Layers]
    center: Float[ndarray, "d"]
    scale: Float[ndarray, "d"]
    learnt: NDArray[np.bool_]
    constant: Float[ndarray, "k"]
    epochs: Integer[ndarray, "s seeds"]
    held_loss: Float[ndarray, "s seeds"]

    def only(self, setting: int) -> "MLPs":
        """The probes of one of the settings, so that the others need not be kept."""
        at = slice(setting, setting + 1)
        known = (self.task, self.layers[at], self.center, self.scale, self.learnt, self.constant)
        return MLPs(*known, self.epochs[at], self.held_loss[at])

    def probabilities(self, features: Readable, setting: int | slice = slice(None)) -> ProbabilitiesAt:
        """(..., seeds, n, classes) at one or all settings; rows of multi-label data do not sum to 1."""
        if isinstance(setting, int):
            return self.task.prediction(self._logits(features, self.layers[setting])).cpu().numpy()
        every = [self.task.prediction(self._logits(features, each)) for each in self.layers[setting]]
        return np.stack([each.cpu().numpy() for each in every])

    def _logits(self, features: Readable, layers: Layers) -> Tensor:
        """(seeds, n, k); the networks run in float32, as they were trained."""
        raw = torch.as_tensor(features).double()
        center, scale, constant = (torch.from_numpy(x).to(raw) for x in (self.center, self.scale, self.constant))
        x = ((raw - center) / scale).float()
        with one_thread():
            by_seed = zip(*(torch.from_numpy(layer).to(x) for layer in layers), strict=True)
            found = torch.stack([network(x, *one) for one in by_seed])
        logits = constant.expand(*found.shape[:2], -1).clone()
        logits[..., self.learnt] = found.double()
        return logits


def network(x: Tensor, weight: Tensor, bias: Tensor, last: Tensor, shift: Tensor) -> Tensor:
    """(n, o) logits of one trained network."""
    return (x @ weight.T + bias).relu() @ last.T + shift


@dataclass(frozen=True)
class MLPSet:
    """StandardisedRows to train MLP probes on: of `features` (n, d) and `labels` those in `rows`, all by default.

    Labels are (n,) classes, or (n, labels) of 1, 0 and -1 for unknown: such a row does not count for that label.
    There is one probe for each of `settings` and each seed. Training stops when the loss on the rows in `held`
    no longer falls; without them every setting runs all its epochs.
    """

    features: Readable
    labels: Labels
    settings: Sequence[MLPSetting]
    rows: NDArray[np.integer] | None = None
    held: NDArray[np.integer] | None = None
    name: str = ""  # stands before what is wrong with it

    @property
    def chosen(self) -> NDArray[np.integer]:
        """Indices of the rows."""
        return np.arange(len(self.labels)) if self.rows is None else np.asarray(self.rows)

    def target(self, task: Task) -> Target:
        """What the rows show. Raises ProbeError for rows of a single class."""
        return Target(self.labels[self.chosen], task)


@dataclass(frozen=True)
class _Network:
    """One trained network: which it is, and what it came to."""

    at: tuple[int, int, int]  # training set, seed, setting
    layers: Layers
    by: StandardisedRows
    epoch: int
    held_loss: float


def fit_mlps(sets: Sequence[MLPSet], seeds: Sequence[int], task: Task, *, device: str = "cpu") -> list[MLPs]:
    """Train MLP probes on several training sets as batched problems, on a CPU one for each core.

    Features are standardised over all rows of a set and held in memory; the loss is the cross-entropy, of two classes
    and of labels the binary one. Each network is what it would be alone, to rounding. A class or label that a set
    does not show both ways cannot be learnt: its probability is then what the rows show (0 or 1). Raises ProbeError
    for features that are not finite, rows of a single class, held rows that show nothing that can be learnt, and
    training that diverges.
    """
    targets = [about(each.name, partial(each.target, task)) for each in sets]

    def fit(job: Networks) -> list[_Network]:
        with one_thread():
            return _fit_job(sets, targets, job, task, device)

    threads = torch.get_num_threads() if device == "cpu" else 1
    found: dict[tuple[int, int, int], _Network] = {}
    total = len(seeds) * sum(len(each.settings) for each in sets)
    with tqdm(total=total, unit="fit", disable=None if len(sets) > 1 else True, desc="probes", leave=False) as bar:
        for networks in in_threads(fit, _jobs(sets, targets, seeds, threads), threads):
            found |= {each.at: each for each in networks}
            bar.update(len(networks))
    return [
        _gathered([[found[i, seed, j] for seed in seeds] for j in range(len(each.settings))], targets[i], task)
        for i, each in enumerate(sets)
    ]


def _jobs(sets: Sequence[MLPSet], targets: Sequence[Target], seeds: Sequence[int], threads: int) -> list[Networks]:
    """Which networks are trained side by side: those of one shape, not too many, and a job at least for every thread.

    Of a training set and seed, which share their rows, those of one dropout are next to each other.
    """
    alike: dict[tuple[int, ...], Networks] = {}
    for (i, each), seed in product(enumerate(sets), seeds):
        rows = len(each.chosen), -1 if each.held is None else len(each.held)
        for j in sorted(range(len(each.settings)), key=lambda j: each.settings[j].dropout):
            setting = each.settings[j]
            shape = each.features.shape[1], setting.hidden, int(targets[i].learnt.sum())
            alike.setdefault((*shape, setting.batch_size, *rows), []).append((i, seed, j))
    jobs = []
    for (inputs, hidden, *_), group in alike.items():
        parts = max(len(group) * inputs * hidden / TOGETHER, threads / len(alike))
        size = ceil(len(group) / min(ceil(parts), len(group)))
        jobs += [group[start : start + size] for start in range(0, len(group), size)]
    return jobs


def _fit_job(
    sets: Sequence[MLPSet], targets: Sequence[Target], job: Networks, task: Task, device: str
) -> list[_Network]:
    every = dict.fromkeys(i for i, _, _ in job)
    by = {i: about(sets[i].name, partial(StandardisedRows, sets[i].features, sets[i].chosen)) for i in every}
    samples = {i: about(sets[i].name, partial(_samples, sets[i], targets[i], by[i], task, device)) for i in every}
    courses = [
        Course(*samples[i], seed, [sets[i].settings[j] for _, _, j in at])
        for (i, seed), at in groupby(job, key=lambda network: network[:2])
    ]
    first, _, setting = job[0]
    trained = train(courses, softmax=targets[first].multinomial)
    size = sets[first].features.shape[1], sets[first].settings[setting].hidden, int(targets[first].learnt.sum())
    each = zip(job, *(part.cpu().numpy() for part in layers(trained.weights, *size)), strict=True)
    scores = zip(trained.epochs.tolist(), trained.held_loss.tolist(), strict=True)
    return [
        _checked(sets, _Network(at, tuple(parts), by[at[0]], epoch, loss))
        for (at, *parts), (epoch, loss) in zip(each, scores, strict=True)
    ]


def _checked(sets: Sequence[MLPSet], found: _Network) -> _Network:
    i, seed, j = found.at
    if found.epoch == 0 or not all(np.isfinite(part).all() for part in found.layers):
        setting, name = sets[i].settings[j], sets[i].name
        raise ProbeError(
            f"{name + ': ' if name else ''}the MLP of seed {seed} diverged; "
            f"take a smaller learning_rate than {setting.learning_rate:g}"
        )
    return found


def _samples(
    given: MLPSet, target: Target, by: StandardisedRows, task: Task, device: str
) -> tuple[Sample, Sample | None]:
    """The rows to train on and those held out, on the device."""
    learnt = target.learnt.ravel()

    def sample(rows: StandardisedRows) -> Sample:
        shown, known = (each.reshape(-1, len(rows)) for each in task.targets(given.labels[rows.rows]))
        shown = shown[learnt]
        counts = shown.any(0, keepdims=True) if target.multinomial else known[learnt]
        x = torch.cat([block.float() for block in rows.standardised(by)])
        return Sample(*(each.to(device) for each in (x, *(torch.from_numpy(a).float() for a in (shown, counts)))))

    if given.held is None:
        return sample(by), None
    held = sample(StandardisedRows(given.features, given.held)) if len(given.held) else None
    if held is None or not held.weights.any():
        raise ProbeError("no held row has a label that can be learnt, so there is no loss to stop by; hold out others")
    return sample(by), held


def _gathered(networks: list[list[_Network]], target: Target, task: Task) -> MLPs:
    """The networks of one training set, by setting and seed."""
    by = networks[0][0].by
    return MLPs(
        task=task,
        layers=[tuple(map(np.stack, zip(*(one.layers for one in seeds), strict=True))) for seeds in networks],
        center=by.center.cpu().numpy(),
        scale=by.scale.cpu().numpy(),
        learnt=target.learnt.ravel(),
        constant=target.constant,
        epochs=np.array([[one.epoch for one in seeds] for seeds in networks]),
        held_loss=np.array([[one.held_loss for one in seeds] for seeds in networks]),
    )
