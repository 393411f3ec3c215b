"""`Task`: what labels are, what a network says of them, and how that is judged."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from probe.base.array_types import Answers, Labels, Probabilities, RowWeights
from probe.base.errors import ProbeError
from probe.base.lookup import unknown
from probe.metrics import METRICS, Scores
from probe.records.metric_facts import Metric

if TYPE_CHECKING:
    from torch import Tensor

NO_ORDER = "{} takes one class per image, in order; these data are multi-label"


class Task(ABC):
    """What a data set asks of an image. `names` are the k classes or labels; a network has a logit for each.

    Shapes: labels are (n,) or (n, k) whole numbers, as `encode` makes them. A probe solves t problems of `vectors`
    / t weight vectors each. Two tasks are equal when they are of one kind and have the same names.
    """

    column: ClassVar[str]  # of a table, that holds the labels in words
    least: ClassVar[int]  # names without which there is nothing to tell apart
    independent: ClassVar[bool]  # whether each name is a question of its own; else they exclude each other
    has_unknown: ClassVar[bool]  # whether an image may have no stated answer for a name

    def __init__(self, names: Sequence[str] | int) -> None:
        """`names`, or how many there are, which are then called by their numbers."""
        self.names = tuple(map(str, range(names) if isinstance(names, int) else names))

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Task) and other.names == self.names

    def __hash__(self) -> int:
        return hash((type(self), self.names))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self.names)})"

    def __str__(self) -> str:
        return self.name

    @property
    @abstractmethod
    def name(self) -> str:
        """The word for it in rows and files; `read_task` turns it back."""

    @property
    def outputs(self) -> int:
        """Logits of a network."""
        return len(self.names)

    @property
    def vectors(self) -> int:
        """Weight vectors of a linear probe."""
        return len(self.names)

    def check_names(self) -> None:
        """Raise ProbeError for names that no network can be built for: too few, or one of them twice."""
        if len(self.names) < self.least:
            many = "two classes" if self.least == 2 else "one label"
            raise ProbeError(f"{len(self.names)} classes cannot be told apart: a head takes at least {many}")
        twice = next((name for name in self.names if self.names.count(name) > 1), None)
        if twice is not None:
            raise ProbeError(f"two classes are called '{twice}'; give each a name of its own")

    # labels

    @classmethod
    @abstractmethod
    def coded(cls, labels: NDArray[np.generic]) -> tuple[NDArray[np.generic], NDArray[np.int64]]:
        """What an array of labels names its classes, (k,), and the labels as codes."""

    @abstractmethod
    def encode(self, words: Sequence[str]) -> NDArray[np.int64]:
        """Labels from words, one text per image. Raises ProbeError for a name that there is not."""

    @abstractmethod
    def decode(self, labels: NDArray[np.int64]) -> list[str]:
        """Labels in words, one text per image."""

    @abstractmethod
    def answers(self, labels: Labels) -> Answers:
        """Per row and name 1, 0 or, where nobody has stated it, -1; (n, k)."""

    @abstractmethod
    def questions(self, labels: Labels) -> NDArray[np.int64]:
        """What there is to tell apart, one row (n,) of class numbers for each question; -1 where it is unknown."""

    @abstractmethod
    def targets(self, labels: Labels) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Of a probe's t problems what rows show, (t, vectors / t, n), and where that is known, (t, 1, n)."""

    @abstractmethod
    def learnable(self, present: NDArray[np.bool_], absent: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which vectors training rows can teach, (t, vectors / t), from whether they show each, and show its absence.

        Raises ProbeError when they can teach none.
        """

    @abstractmethod
    def row_classes(self, labels: Labels) -> NDArray[np.int64] | None:
        """The one class of each row, (n,); None where a row may have several or none."""

    @abstractmethod
    def strata(self, labels: Labels) -> NDArray[np.int64]:
        """What a stratified draw keeps in its shares: a number per row, (n,)."""

    @abstractmethod
    def counts(self, labels: Labels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Per name how many rows show it, and of how many that is known; (k,) each."""

    @abstractmethod
    def members(self, labels: Labels) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """The rows (n,) that belong together under one name, for every such name."""

    @abstractmethod
    def one_name(self, labels: Labels, wanted: str = "") -> NDArray[np.str_]:
        """A name per row, (n,), for a drawing that has one colour for each name.

        `wanted` is the label to name rows by where they may have several. Raises ProbeError when there is no such.
        """

    @abstractmethod
    def check_shown(self, labels: NDArray[np.int64], data: str) -> None:
        """Raise ProbeError when labels, of the data set called `data`, leave nothing to tell apart."""

    # predictions

    @abstractmethod
    def prediction(self, logits: "Tensor") -> "Tensor":
        """Probabilities (..., n, k), from a network's logits (..., n, k) or a probe's (..., n, vectors)."""

    @abstractmethod
    def decide(self, probabilities: Probabilities) -> NDArray[np.int64]:
        """Labels, in the form of labels, from probabilities (n, k)."""

    # training

    @abstractmethod
    def loss(
        self, logits: "Tensor", labels: "Tensor", weights: "Tensor | None" = None, smoothing: float = 0.0
    ) -> tuple["Tensor", float]:
        """The sum over rows, from logits (n, k), and its `mass`; the mean loss is their quotient.

        `weights` (k,) are those of classes. So a step taken in parts, or by several processes, is the step taken at
        once, when all sums are divided by the mass of the whole step.
        """

    @abstractmethod
    def mass(self, labels: "Tensor", weights: "Tensor | None" = None) -> float:
        """What the sum of a loss is divided by."""

    @abstractmethod
    def balanced_weights(self, labels: Labels) -> NDArray[np.float32]:
        """Weight of each class in the loss, (k,), as if all were as frequent; 1 where there is nothing to weigh."""

    # scores

    @property
    @abstractmethod
    def metrics(self) -> Mapping[str, Metric]:
        """What predictions can be judged by."""

    @abstractmethod
    def score(
        self,
        labels: Labels,
        probabilities: Probabilities,
        weights: RowWeights,
        *,
        metrics: Collection[str] | None = None,
        ordinal: bool = False,
    ) -> Scores:
        """The metrics, macro, micro and per class, for each of b weightings (b, n) of the rows; (b,) each.

        `metrics` names those wanted; by default all, quadratic kappa only when the classes are `ordinal`. Raises
        ProbeError for an unknown metric, and for labels or probabilities that do not fit.
        """

    def wanted(self, metrics: Collection[str] | None, *, ordinal: bool = False) -> frozenset[str]:
        """The names of some metrics, or of all that apply. Raises ProbeError for one that there is not, or not here."""
        if ordinal and not any(metric.ordered for metric in self.metrics.values()):
            raise ProbeError(NO_ORDER.format("quadratic kappa"))
        if metrics is None:
            return frozenset(name for name, metric in self.metrics.items() if ordinal or not metric.ordered)
        for name in metrics:
            if name not in METRICS:
                raise unknown("metric", name, list(METRICS))
            if name not in self.metrics:
                raise ProbeError(NO_ORDER.format(METRICS[name].label))
        return frozenset(metrics)

    def check_range(self, labels: Labels, low: int, high: int) -> None:
        """Raise ProbeError for labels that lie outside of `low` to `high`."""
        if labels.size and not low <= labels.min() <= labels.max() <= high:
            raise ProbeError(
                f"labels of {self.name} data lie between {low} and {high}, not {labels.min()} and {labels.max()}"
            )
