"""Many networks of one hidden layer trained at once, each until it is done; then it leaves the batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor

from probe.probes.mlp_batch import Batch, Course


@dataclass(frozen=True)
class Trained:
    """m networks in the order of courses and settings: `weights` (m, size), and the epoch and loss they are from."""

    weights: Tensor
    epochs: Tensor
    held_loss: Tensor


def train(courses: Sequence[Course], softmax: bool) -> Trained:
    """Train until the loss on the held rows has not fallen for `patience` epochs, or for `epochs`; the best are kept.

    Without held rows all epochs are run. Courses have the same numbers of rows, features and outputs. The loss of
    labels is the mean over those that are known. `held_loss` is NaN without held rows; networks whose loss was never
    finite are from epoch 0.
    """
    batch = Batch(courses, softmax)
    settings = [setting for course in courses for setting in course.settings]
    watched = courses[0].held is not None
    longest, patience = (torch.tensor([getattr(s, name) for s in settings]) for name in ("epochs", "patience"))
    kept = batch.weights.clone()
    best, epochs = torch.full((len(settings),), torch.inf), torch.zeros(len(settings), dtype=torch.int64)
    here = torch.arange(len(settings))  # of all networks, those still in the batch
    for epoch in count(1):
        batch.epoch()
        losses = batch.held_loss().cpu() if watched else torch.full((len(here),), torch.nan)
        better = losses < best[here] if watched else longest[here] == epoch
        kept[here[better]] = batch.weights[better]
        best[here[better]], epochs[here[better]] = losses[better], epoch
        stay = epoch < longest[here]
        if watched:
            stay &= epoch - epochs[here] < patience[here]
        if not stay.any():
            return Trained(kept, epochs, best)
        if not stay.all():
            here = here[stay]
            batch.keep(stay)
    raise AssertionError("every network has a last epoch")
