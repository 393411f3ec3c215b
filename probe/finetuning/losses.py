"""What is minimised, on logits, as a sum over images and what that sum is divided by."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from probe.base.shapes import Labels


class Objective:
    """Cross-entropy of one class per image; of several labels, binary cross-entropy where they are known.

    It is `total(logits, labels) / mass(labels)`, so that a step taken in parts, or by several processes, is the
    step taken at once. Class weights count in both, as PyTorch's mean does; those of labels weigh positives.
    """

    def __init__(self, task: str, weights: Tensor | None = None) -> None:
        self.several, self.weights = task == "multilabel", weights

    def total(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """The sum over images, from logits (n, k) and labels (n,) or (n, k); -1 is unknown."""
        logits = logits.float()
        if not self.several:
            return functional.cross_entropy(logits, labels, self.weights, reduction="sum", label_smoothing=smoothing)
        known = labels >= 0
        wanted = labels.clamp(min=0) * (1 - smoothing) + smoothing / 2
        each = functional.binary_cross_entropy_with_logits(logits, wanted, pos_weight=self.weights, reduction="none")
        return each.where(known, torch.zeros_like(each)).sum()

    def mass(self, labels: Tensor) -> float:
        """What the sum is divided by: images, by the weights of their classes, or known labels."""
        if self.several:
            return float((labels >= 0).sum())
        return float(len(labels) if self.weights is None else self.weights[labels].sum())


def balanced_weights(labels: Labels, task: str, classes: int) -> NDArray[np.float32]:
    """Weight of each class, n / (classes x its images) as scikit-learn has it; of labels negatives over positives.

    1 where there is nothing to weigh.
    """
    if task == "multilabel":
        above, below = (labels == 0).sum(0), (labels == 1).sum(0)
    else:
        below = np.bincount(labels, minlength=classes) * classes
        above = np.full(classes, len(labels))
    usable = (above > 0) & (below > 0)
    weights: NDArray[np.float64] = np.divide(above, below, out=np.ones(classes), where=usable)
    return weights.astype(np.float32)
