"""What a network starts from: re-initialised weights, and the head of a linear probe."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probe.base.array_types import Features2d, Labels
from probe.base.errors import ProbeError
from probe.finetuning.strategies import Strategy
from probe.metrics import MACRO, ones
from probe.probes import TrainingSet, fit_paths
from probe.records.metric_facts import find_metric
from probe.settings import ProbeGrid
from probe.tasks import Task
from probe.truncation import Truncated, drawn_again, head_from_probe
from probe.truncation.halved_top import halve_top
from probe.truncation.heads import make_head


def draw_weights(model: Truncated, strategy: Strategy, seed: int) -> None:
    """Give the stages that are not to keep their weights others, drawn from `seed`; halved ones take a new head.

    A trunk that keeps none says from then on that it is from scratch. Raises ProbeError for an architecture
    that cannot be built anew, or not be halved.
    """
    states = [state.weights for state in strategy.stages]
    if "slim" in states:
        _slim(model, states, seed)
    generator = torch.Generator().manual_seed(seed)
    fresh = drawn_again(model, seed) if "random" in states else {}
    with torch.no_grad():
        for stage, weights in zip(model.trunk.stages, states, strict=True):
            for name, tensor in stage.state_dict().items():
                if weights == "random":
                    tensor.copy_(fresh[name])
            for tensor in stage.parameters() if weights == "statistics" else ():
                tensor.copy_(_like(tensor, generator))
    if set(states) <= {"random", "slim"}:
        model.trunk.origin = replace(model.trunk.origin, weights="scratch", seed=seed)


def _slim(model: Truncated, states: list[str], seed: int) -> None:
    count = states.count("slim")
    if states[-count:] != ["slim"] * count:
        raise ProbeError("stages to be halved must be the highest, with none of full width among them")
    model.trunk = halve_top(model.trunk, count, seed)
    model.head = make_head(model.trunk.tap(-1), model.task.outputs, model.settings, seed)


def _like(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Normal numbers with the mean and the variance of a tensor."""
    drawn = torch.randn(tensor.shape, generator=generator).to(tensor.device)
    return tensor.mean() + tensor.std(correction=0) * drawn


def start_from_probe(
    model: Truncated,
    features: Features2d,
    labels: Labels,
    held: tuple[Features2d, Labels],
    metric: str,
    weights: NDArray[np.floating] | None = None,
) -> float:
    """Set the head to the linear probe of the training rows whose strength is best on those held; returns that."""
    grid = ProbeGrid().c_grid
    found = fit_paths([TrainingSet(features, labels, grid, weights=weights)], model.task)[0]
    scores = [score_of(model.task, held[1], found.probabilities(held[0], i), metric) for i in range(len(grid))]
    best = int(np.argmax(scores))  # the strongest penalty of equals
    head_from_probe(model, found.only(best))
    return grid[best]


def score_of(task: Task, labels: Labels, probabilities: NDArray[np.floating], metric: str) -> float:
    """A metric's macro average, its sign such that higher is better. Raises ProbeError where it is not defined."""
    found = task.score(labels, probabilities, ones(len(labels)), metrics=[metric])
    value = float(found[metric, MACRO][0])
    if np.isnan(value):
        raise ProbeError(f"{metric} is not defined on the validation images: they show no class both ways")
    return find_metric(metric).sign * value
