"""Nearest neighbours: no training, one search for every number of neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probe.base.array_types import Labels, Probabilities, ProbabilitiesAt
from probe.base.errors import ProbeError
from probe.probes.readout import Readable, blocks, check_finite, named, shown_and_known
from probe.tasks import Task

TEMPERATURE = 0.07  # of the votes
STEPS = 10**9  # similarities are told apart to a billionth, so that what differs by rounding alone ties
HELD = 2**23  # numbers held at a time per array, about 64 MB


@dataclass(frozen=True)
class Neighbours:
    """Training rows: `directions` (m, d) of length 1, what each has `shown` and `known` (m, classes); and the `ks`."""

    ks: tuple[int, ...]
    directions: Tensor
    shown: Tensor
    known: Tensor
    name: str = ""

    def only(self, which: int) -> "Neighbours":
        """With one of the numbers of neighbours."""
        return replace(self, ks=(self.ks[which],))

    def probabilities(
        self, features: Readable, k: int | slice = slice(None), *, without: NDArray[np.integer] | None = None
    ) -> ProbabilitiesAt:
        """(ks, n, classes) at all `ks`, or (n, classes) at the one in place `k`; float64.

        `without` (n,) names for each row a training row that has no vote: itself, when training rows are
        read out. Raises ProbeError for rows that are not finite, and for more neighbours than are left.
        """
        ks = self.ks[k] if isinstance(k, slice) else (self.ks[k],)
        _check_ks(ks, len(self.directions) - (without is not None), self.name)
        check_finite(features, self.name)
        found = np.empty((len(ks), len(features), self.shown.shape[1]))
        size = max(1, HELD // max(*self.directions.shape, max(ks) * found.shape[2]))
        for place, rows in blocks(features, size):
            out = None if without is None else torch.from_numpy(np.asarray(without[place], np.int64))
            nearest, weights = self._nearest(_directed(rows).to(self.directions), max(ks), out)
            for i, number in enumerate(ks):
                found[i, place] = self._vote(nearest[:, :number], weights[:, :number])
        return found if isinstance(k, slice) else found[0]

    def _nearest(self, rows: Tensor, k: int, without: Tensor | None) -> tuple[Tensor, Tensor]:
        """Training rows (n, k), nearest first, and the weight of each; of equally near ones those that come first.

        Similarity and place are packed into one whole number, so that no two are equal and the order is the
        same however many rows are searched at a time.
        """
        last = len(self.directions) - 1
        keys = ((rows @ self.directions.T) * STEPS).round_().long().add_(STEPS).bitwise_left_shift_(32)
        keys += torch.arange(last, -1, -1, device=keys.device)
        if without is not None:
            keys.scatter_(1, without[:, None].to(keys.device), -1)
        best = keys.topk(k).values
        similarity = ((best >> 32) - STEPS).double() / STEPS
        return last - (best & (2**32 - 1)), (similarity / TEMPERATURE).exp()

    def _vote(self, nearest: Tensor, weights: Tensor) -> Probabilities:
        votes, total = (torch.einsum("nk,nkc->nc", weights, kind[nearest]) for kind in (self.shown, self.known))
        prevalence = self.shown.sum(0) / self.known.sum(0).clamp_min(1)
        return torch.where(total > 0, votes / torch.where(total > 0, total, 1), prevalence).cpu().numpy()


def fit_neighbours(
    features: Readable,
    labels: Labels,
    task: Task,
    ks: Sequence[int],
    *,
    name: str = "",
    device: str = "cpu",
) -> Neighbours:
    """Read-outs by the k training rows (m, d) of largest cosine similarity s, each voting with exp(s / 0.07).

    One for every k of `ks`. The weighted k-NN of Wu et al. 2018 (arXiv:1805.01978, section 3.4), which DINO takes
    over (Caron et al. 2021, arXiv:2104.14294); there the class with most votes is decided for, here a probability
    is its share of the votes. A row of zeros has no direction: its similarity to every row is 0. Labels are (m,)
    classes, or (m, labels) of 1, 0 and -1 for unknown: such a row has no vote for that label, and where none of the
    neighbours has, the probability is the label's share of the training rows, 0 if it is known of none.
    Similarities are float64, whatever the features, for after a ReLU they differ little. O(n m d).

    Raises ProbeError for rows that are not finite and for more neighbours than training rows.
    """
    _check_ks(ks, len(features), name)
    check_finite(features, name)
    directions = torch.cat([_directed(rows) for _, rows in blocks(features)])
    shown, known = shown_and_known(labels, task)
    return Neighbours(tuple(ks), directions.to(device), shown.to(device), known.to(device), name)


def _directed(rows: Tensor) -> Tensor:
    length = rows.norm(dim=1, keepdim=True)
    return rows.div_(torch.where(length > 0, length, 1))


def _check_ks(ks: Sequence[int], rows: int, name: str) -> None:
    wrong = next((k for k in ks if not 1 <= k <= rows), None)
    if wrong is not None or not ks:
        asked = "no number of neighbours was given" if wrong is None else f"{wrong} neighbours were asked for"
        raise ProbeError(named(name, f"{asked}; with so many training rows take 1 to {rows}"))
