"""Nearest class mean: nothing is trained, nothing is chosen."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from probe.base.array_types import Labels, ProbabilitiesAt
from probe.base.errors import ProbeError
from probe.probes.readout import Readable, blocks, check_finite, named, shown_and_known
from probe.tasks import Task


@dataclass(frozen=True)
class Centroids:
    """Class means of standardised features, as the linear classifier they are: `weights` (classes, d), `bias`.

    `center` and `scale` (d,) are what the features are standardised with.
    """

    task: Task
    center: Tensor
    scale: Tensor
    weights: Tensor
    bias: Tensor
    name: str = ""

    def only(self, which: int) -> "Centroids":
        """Itself: there is one setting."""
        return (self,)[which]

    def probabilities(self, features: Readable, which: int | slice = slice(None)) -> ProbabilitiesAt:
        """(1, n, classes), or (n, classes) at `which` 0; float64. Raises ProbeError for rows that are not finite."""
        check_finite(features, self.name)
        found = np.empty((1, len(features), len(self.bias)))
        for place, rows in blocks(features):
            logits = (rows.to(self.center) - self.center) / self.scale @ self.weights.T + self.bias
            found[0, place] = self.task.prediction(logits).cpu().numpy()
        return found[which]


def fit_centroids(features: Readable, labels: Labels, task: Task, *, name: str = "", device: str = "cpu") -> Centroids:
    """Read-out by the nearest class mean of standardised features (m, d).

    The probability of a class is the softmax over classes of minus half the squared distance to its mean
    (Mensink et al. 2013, IEEE TPAMI 35). Their metric is learnt; here it is the Euclidean one of
    features standardised over the training rows, its square divided by d, so that probabilities do not go to
    0 and 1 as features become many. They are for ranking and deciding, not calibrated. Of several labels, each
    is its positive rows' mean against its negative rows' mean, rows of unknown label (-1) left out. A class that
    the training rows do not show gets probability 0, a label that all of them have 1. O(m d).

    Raises ProbeError for rows that are not finite, and when there are none.
    """
    if not len(features):
        raise ProbeError(named(name, "no training rows, so there are no class means"))
    check_finite(features, name)
    shown, known = shown_and_known(labels, task)
    center, scale = _moments(features)
    kinds = torch.cat([shown, known - shown], 1).to(center)
    sums = torch.stack([kinds[place].T @ ((rows - center) / scale) for place, rows in blocks(features)]).sum(0)
    (weights, others), (bias, shift) = (each.tensor_split(2) for each in _against_origin(sums, kinds.sum(0)))
    if task.independent:
        learnt = bias.isfinite() & shift.isfinite()
        weights = torch.where(learnt[:, None], weights - others, 0)
        bias = torch.where(learnt, bias - shift, torch.where(bias.isfinite(), torch.inf, -torch.inf))
    center, scale, weights, bias = (each.to(device) for each in (center, scale, weights, bias))
    return Centroids(task, center, scale, weights, bias, name)


def _moments(features: Readable) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (d,) of each feature; 1 for the deviation of a constant one."""
    center = torch.stack([rows.sum(0) for _, rows in blocks(features)]).sum(0) / len(features)
    squares = torch.stack([(rows - center).square().sum(0) for _, rows in blocks(features)]).sum(0)
    scale = (squares / len(features)).sqrt()
    return center, torch.where(scale > 10 * np.finfo(np.float64).eps * center.abs(), scale, 1)


def _against_origin(sums: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """How much nearer to a mean than to the origin a row is, as weights (k, d) and bias (k,); -inf of no rows."""
    width = sums.shape[1]
    means = sums / counts.clamp_min(1)[:, None]
    return means / width, torch.where(counts > 0, -means.square().sum(1) / (2 * width), -torch.inf)
