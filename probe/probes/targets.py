"""What training rows show of every class or label, and what they cannot teach."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from probe.base.array_types import Labels
from probe.base.errors import ProbeError
from probe.tasks import Task

T = TypeVar("T")


def about(name: str, make: Callable[[], T]) -> T:
    """What is made of a training set; what is wrong with it is told with its name."""
    try:
        return make()
    except ProbeError as error:
        raise ProbeError(f"{name}: {error}" if name else str(error)) from None


class Target:
    """What a training set shows: `shown` (t, k, n), the rows' `weights` (t, 1, n), and what can be `learnt` (t, k).

    Raises ProbeError for weights that are not, and for rows of a single class.
    """

    def __init__(self, labels: Labels, task: Task, weights: NDArray[np.floating] | None = None) -> None:
        weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
        if not (np.isfinite(weights).all() and (weights >= 0).all()):
            raise ProbeError("the weights of rows must be finite and not negative")
        self.shown, known = task.targets(labels)
        self.weights = weights * known
        counts = self.weights > 0
        self.present: NDArray[np.bool_] = np.any(self.shown & counts, axis=2)
        absent: NDArray[np.bool_] = np.any(~self.shown & counts, axis=2)
        self.learnt = task.learnable(self.present, absent)
        if not self.multinomial:
            self.weights = self.weights * self.learnt[..., None]

    @property
    def multinomial(self) -> bool:
        """Whether the vectors of a problem share a softmax; else each problem is one sigmoid."""
        return len(self.shown[0]) > 1

    @property
    def constant(self) -> NDArray[np.float64]:
        """(t k,) logit that stands for a class which cannot be learnt, 0 for the others."""
        return np.where(self.learnt, 0, np.where(self.present, np.inf, -np.inf)).ravel()
