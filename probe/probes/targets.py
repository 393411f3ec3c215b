"""What training rows show of every class or label, what they cannot teach, and logits as probabilities."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probe.base.errors import ProbeError
from probe.base.shapes import Labels

T = TypeVar("T")


def about(name: str, make: Callable[[], T]) -> T:
    """What is made of a training set; what is wrong with it is told with its name."""
    try:
        return make()
    except ProbeError as error:
        raise ProbeError(f"{name}: {error}" if name else str(error)) from None


def answers(labels: Labels, task: str, classes: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of t problems with k classes each, what rows show, (t, k, n), and where that is known, (t, 1, n)."""
    if task == "multilabel":
        return labels.T[:, None] == 1, labels.T[:, None] >= 0
    each = np.array([[1]]) if task == "binary" else np.arange(classes)[:, None]
    return labels[None, None] == each, np.ones((1, 1, len(labels)), bool)


class Target:
    """What a training set shows: `shown` (t, k, n), the rows' `weights` (t, 1, n), and what can be `learnt` (t, k).

    Raises ProbeError for weights that are not, and for rows of a single class.
    """

    def __init__(self, labels: Labels, task: str, classes: int, weights: NDArray[np.floating] | None = None) -> None:
        weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
        if not (np.isfinite(weights).all() and (weights >= 0).all()):
            raise ProbeError("the weights of rows must be finite and not negative")
        self.shown, known = answers(labels, task, classes)
        self.weights = weights * known
        counts = self.weights > 0
        self.present: NDArray[np.bool_] = np.any(self.shown & counts, axis=2)
        absent: NDArray[np.bool_] = np.any(~self.shown & counts, axis=2)
        self.learnt = self.present if task == "multiclass" else self.present & absent
        if task == "multilabel":
            self.weights = self.weights * self.learnt[..., None]
            if not self.learnt.any():
                raise ProbeError("no label of the training rows is both present and absent; a probe needs one that is")
        elif self.learnt.sum() < (2 if task == "multiclass" else 1):
            raise ProbeError("the training rows hold a single class; a probe needs two")

    @property
    def constant(self) -> NDArray[np.float64]:
        """(t k,) logit that stands for a class which cannot be learnt, 0 for the others."""
        return np.where(self.learnt, 0, np.where(self.present, np.inf, -np.inf)).ravel()


def as_probabilities(logits: Tensor, task: str) -> NDArray[np.float64]:
    """(..., n, classes) from logits (..., n, k): k is 1 for two classes; rows of labels do not sum to 1."""
    if task == "multiclass":
        return logits.softmax(-1).cpu().numpy()
    positive = logits.sigmoid()
    return (positive if task == "multilabel" else torch.cat([1 - positive, positive], -1)).cpu().numpy()
