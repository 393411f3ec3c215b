"""One class per image, of two or more that exclude each other."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from probe.base.array_types import Answers, Labels, Probabilities, RowWeights
from probe.base.errors import ProbeError
from probe.base.lookup import unknown
from probe.metrics import METRICS, Scores, class_scores, one_against_rest
from probe.records.metric_facts import Metric
from probe.tasks.task import Task

if TYPE_CHECKING:
    from torch import Tensor


class Classes(Task):
    """Labels are (n,) numbers of classes. The link is the softmax, and the loss the cross-entropy.

    Two classes are one question: a probe has one vector for the second, and ranking metrics are of the second.
    """

    column, least, independent, has_unknown = "label", 2, False, False

    @property
    def name(self) -> str:
        return "binary" if len(self.names) == 2 else "multiclass"

    @property
    def vectors(self) -> int:
        return 1 if len(self.names) == 2 else len(self.names)

    @classmethod
    def named_in(cls, words: Iterable[str]) -> Self:
        """The classes that words name, in the order of the alphabet."""
        return cls(sorted(set(words)))

    @classmethod
    def coded(cls, labels: NDArray[np.generic]) -> tuple[NDArray[np.generic], NDArray[np.int64]]:
        values, codes = np.unique(labels, return_inverse=True)
        return values, codes.astype(np.int64)

    def encode(self, words: Sequence[str]) -> NDArray[np.int64]:
        number = {name: at for at, name in enumerate(self.names)}
        stranger = next((word for word in words if word not in number), None)
        if stranger is not None:
            raise unknown("class", stranger, self.names)
        return np.array([number[word] for word in words], dtype=np.int64)

    def decode(self, labels: NDArray[np.int64]) -> list[str]:
        return [self.names[label] for label in labels]

    def answers(self, labels: Labels) -> Answers:
        return one_against_rest(labels, len(self.names))

    def questions(self, labels: Labels) -> NDArray[np.int64]:
        return labels[None]

    def targets(self, labels: Labels) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        each = np.arange(len(self.names))[-self.vectors :, None]
        return labels[None, None] == each, np.ones((1, 1, len(labels)), bool)

    def learnable(self, present: NDArray[np.bool_], absent: NDArray[np.bool_]) -> NDArray[np.bool_]:
        learnt = present & absent if self.vectors == 1 else present
        if learnt.sum() < min(2, self.vectors):
            raise ProbeError("the training rows hold a single class; a probe needs two")
        return learnt

    def row_classes(self, labels: Labels) -> NDArray[np.int64]:
        return labels

    def strata(self, labels: Labels) -> NDArray[np.int64]:
        return labels

    def counts(self, labels: Labels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        shown = np.bincount(labels, minlength=len(self.names)).astype(np.int64)
        return shown, np.full(len(self.names), len(labels))

    def members(self, labels: Labels) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        for at, name in enumerate(self.names):
            yield name, labels == at

    def one_name(self, labels: Labels, wanted: str = "") -> NDArray[np.str_]:
        """Its class."""
        if wanted:
            raise ProbeError(f"every image has one label and is coloured by it; '{wanted}' is for data with several")
        return np.array(self.names)[labels]

    def check_shown(self, labels: NDArray[np.int64], data: str) -> None:
        shown, _ = self.counts(labels)
        if np.count_nonzero(shown) < 2:
            what = f"only the class '{self.names[int(shown.argmax())]}'" if shown.any() else "no label at all"
            raise ProbeError(f"{data} has {what}; at least two classes are needed")

    def prediction(self, logits: "Tensor") -> "Tensor":
        if logits.shape[-1] > 1:
            return logits.softmax(-1)
        import torch

        second = logits.sigmoid()
        return torch.cat([1 - second, second], -1)

    def decide(self, probabilities: Probabilities) -> NDArray[np.int64]:
        """The likeliest class."""
        chosen: NDArray[np.int64] = probabilities.argmax(1)
        return chosen

    def loss(
        self, logits: "Tensor", labels: "Tensor", weights: "Tensor | None" = None, smoothing: float = 0.0
    ) -> tuple["Tensor", float]:
        """Cross-entropy; class weights count in sum and mass, as in PyTorch's mean."""
        from torch.nn.functional import cross_entropy

        total = cross_entropy(logits.float(), labels, weights, reduction="sum", label_smoothing=smoothing)
        return total, self.mass(labels, weights)

    def mass(self, labels: "Tensor", weights: "Tensor | None" = None) -> float:
        """Rows, by the weights of their classes."""
        return float(len(labels) if weights is None else weights[labels].sum())

    def balanced_weights(self, labels: Labels) -> NDArray[np.float32]:
        """n / (classes x rows of the class), as scikit-learn has it."""
        shown, known = self.counts(labels)
        weights: NDArray[np.float64] = np.divide(
            known, shown * len(self.names), out=np.ones(len(self.names)), where=shown > 0
        )
        return weights.astype(np.float32)

    @property
    def metrics(self) -> Mapping[str, Metric]:
        count = len(self.names)
        special: dict[str, dict[str, Any]] = {name: {"chance": 1 / count} for name in ("balanced_accuracy", "recall")}
        if count == 2:
            special["brier"] = {"high": 1.0}
        return {name: replace(metric, **special.get(name, {})) for name, metric in METRICS.items()}

    def score(
        self,
        labels: Labels,
        probabilities: Probabilities,
        weights: RowWeights,
        *,
        metrics: Collection[str] | None = None,
        ordinal: bool = False,
    ) -> Scores:
        self.check_range(labels, 0, len(self.names) - 1)
        return class_scores(labels, probabilities, weights, self.names, self.wanted(metrics, ordinal=ordinal))
