"""Learning rates over time, as functions of what has happened; so nothing of them needs keeping."""

import math
from collections.abc import Sequence

from probe.settings import Training

DECAY = 0.95  # exponential, after every epoch: Tajbakhsh et al. 2016
HALF, WAIT, MARGIN = 0.5, 5, 1e-4  # plateau: Peng et al. 2023; the margin, a share of the loss, is PyTorch's
LEAST = 0.01  # share of the learning rate below which plateau stops: 1e-4 to 1e-6 in Peng et al. 2023


def factor(settings: Training, step: int, steps: int, losses: Sequence[float]) -> float:
    """The learning rate of a step as a share of the largest.

    `step` counts from 0 over all epochs, `steps` are those of one epoch, and `losses` those on validation
    after the epochs before it.
    """
    warm = settings.warmup * steps
    if step < warm:
        return (step + 1) / warm
    if settings.schedule == "cosine":
        done = (step - warm) / (settings.epochs * steps - warm)
        return (1 + math.cos(math.pi * done)) / 2
    if settings.schedule == "exponential":
        return float(DECAY ** (step // steps - settings.warmup))
    return plateau(losses) if settings.schedule == "plateau" else 1.0


def plateau(losses: Sequence[float]) -> float:
    """Halved whenever the loss has not fallen for more than five epochs."""
    share, best, waited = 1.0, math.inf, 0
    for loss in losses:
        waited = 0 if loss < best * (1 - MARGIN) else waited + 1
        best = loss if waited == 0 else best
        if waited > WAIT:
            share, waited = share * HALF, 0
    return share


def is_over(settings: Training, scores: Sequence[float], losses: Sequence[float], settled: int) -> bool:
    """Whether to stop after the epochs behind `scores` (higher is better) and `losses`, the first of no training.

    Patience runs from the best epoch, and not before `settled`, when all that is ever trained is.
    """
    epoch = len(scores) - 1
    best = max(range(len(scores)), key=scores.__getitem__)
    spent = settings.schedule == "plateau" and plateau(losses[1:]) < LEAST
    return epoch >= settings.epochs or epoch - max(best, settled - 1) >= settings.patience or spent
