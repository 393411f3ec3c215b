"""Several labels per image, or none: each is a question of its own, and may be unknown."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from probe.base.array_types import Answers, Probabilities, RowWeights
from probe.base.array_types import Labels as Array
from probe.base.errors import ProbeError
from probe.base.lookup import unknown
from probe.base.runtime import log
from probe.metrics import METRICS, Scores, label_scores
from probe.records.metric_facts import Metric
from probe.tasks.task import Task

if TYPE_CHECKING:
    from torch import Tensor

UNKNOWN = -1  # a label that nobody has stated
DOUBT = "?"  # before its name in a list of them
JOIN = "|"  # between the names in a list of them
ANY, NONE, NOBODY_KNOWS = "any finding", "no finding", "unknown"  # what an image with several labels is called


class Labels(Task):
    """Labels are (n, k): 1 where an image shows the label, 0 where not, -1 where nobody has stated it.

    The link is the sigmoid and the loss the binary cross-entropy. An unknown label weighs nothing in a loss and counts
    in no score.
    """

    column, least, independent, has_unknown = "labels", 1, True, True

    @property
    def name(self) -> str:
        return "multilabel"

    @classmethod
    def named_in(cls, lists: Sequence[str]) -> Self:
        """The labels that lists of names hold, in the order of the alphabet."""
        return cls(sorted({name.removeprefix(DOUBT) for names in map(_split, lists) for name in names}))

    @classmethod
    def coded(cls, labels: NDArray[np.generic]) -> tuple[NDArray[np.generic], NDArray[np.int64]]:
        return np.arange(labels.shape[1]), labels.astype(np.int64)

    def encode(self, words: Sequence[str]) -> NDArray[np.int64]:
        """From lists of names joined by `|`, empty for none, unknown ones behind a question mark."""
        lists = list(map(_split, words))
        stranger = next((name for names in lists for name in names if name.removeprefix(DOUBT) not in self.names), None)
        if stranger is not None:
            raise unknown("label", stranger, self.names)
        labels = np.array([[name in names for name in self.names] for names in lists], dtype=np.int64)
        doubtful = np.array([[DOUBT + name in names for name in self.names] for names in lists], dtype=bool)
        labels[doubtful] = UNKNOWN
        return labels.reshape(len(lists), len(self.names))

    def decode(self, labels: NDArray[np.int64]) -> list[str]:
        marks = {1: "", UNKNOWN: DOUBT}
        return [
            JOIN.join(marks[value] + name for value, name in zip(row, self.names, strict=True) if value)
            for row in labels.tolist()
        ]

    def answers(self, labels: Array) -> Answers:
        return labels

    def questions(self, labels: Array) -> NDArray[np.int64]:
        return labels.T

    def targets(self, labels: Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        return labels.T[:, None] == 1, labels.T[:, None] >= 0

    def learnable(self, present: NDArray[np.bool_], absent: NDArray[np.bool_]) -> NDArray[np.bool_]:
        learnt = present & absent
        if not learnt.any():
            raise ProbeError("no label of the training rows is both present and absent; a probe needs one that is")
        return learnt

    def row_classes(self, labels: Array) -> None:
        return None

    def strata(self, labels: Array) -> NDArray[np.int64]:
        """The rarest of a row's labels, 0 for the rarest of all; k for a row without any."""
        present = labels == 1  # what is unknown is not
        order = np.argsort(present.sum(0), kind="stable")
        strata: NDArray[np.int64] = np.where(present.any(1), present[:, order].argmax(1), labels.shape[1])
        return strata

    def counts(self, labels: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return (labels == 1).sum(0), (labels >= 0).sum(0)

    def members(self, labels: Array) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """A row may belong to several; rows without any label belong together as well."""
        for at, name in enumerate(self.names):
            yield name, labels[:, at] == 1
        yield "no label", ~(labels == 1).any(1)

    def one_name(self, labels: Array, wanted: str = "") -> NDArray[np.str_]:
        """Whether it has the label `wanted`, or any at all.

        A label that nobody has stated makes an image unknown, unless another shows a finding.
        """
        if wanted and wanted not in self.names:
            raise unknown("label", wanted, self.names)
        shown = labels[:, [self.names.index(wanted)]] if wanted else labels
        names = (wanted, f"not {wanted}") if wanted else (ANY, NONE)
        return np.where((shown == 1).any(1), names[0], np.where((shown < 0).any(1), NOBODY_KNOWS, names[1]))

    def check_shown(self, labels: NDArray[np.int64], data: str) -> None:
        """Labels that no image is known to have are named in the log: nothing can be learnt of them."""
        shown, _ = self.counts(labels)
        if not shown.any():
            raise ProbeError(f"{data} has no label at all; at least two classes are needed")
        absent = ", ".join(repr(self.names[at]) for at in np.flatnonzero(shown == 0).tolist())
        if absent:
            log.warning("%s: no image is known to have %s, so it cannot be learnt", data, absent)

    def prediction(self, logits: "Tensor") -> "Tensor":
        """Rows do not sum to 1."""
        return logits.sigmoid()

    def decide(self, probabilities: Probabilities) -> NDArray[np.int64]:
        """The labels more probable than not."""
        return (probabilities > 0.5).astype(np.int64)

    def loss(
        self, logits: "Tensor", labels: "Tensor", weights: "Tensor | None" = None, smoothing: float = 0.0
    ) -> tuple["Tensor", float]:
        """Binary cross-entropy where labels are known; the weights are those of positives."""
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits

        wanted = labels.clamp(min=0) * (1 - smoothing) + smoothing / 2
        each = binary_cross_entropy_with_logits(logits.float(), wanted, pos_weight=weights, reduction="none")
        return each.where(labels >= 0, torch.zeros_like(each)).sum(), self.mass(labels)

    def mass(self, labels: "Tensor", weights: "Tensor | None" = None) -> float:
        """Known labels."""
        return float((labels >= 0).sum())

    def balanced_weights(self, labels: Array) -> NDArray[np.float32]:
        """Negatives over positives."""
        shown, known = self.counts(labels)
        usable = (shown > 0) & (known > shown)
        weights: NDArray[np.float64] = np.divide(known - shown, shown, out=np.ones(len(self.names)), where=usable)
        return weights.astype(np.float32)

    @property
    def metrics(self) -> Mapping[str, Metric]:
        special: dict[str, dict[str, Any]] = {"balanced_accuracy": {"chance": 0.5}, "brier": {"high": 1.0}}
        return {
            name: replace(metric, per_class=True, **special.get(name, {}))
            for name, metric in METRICS.items()
            if not metric.ordered
        }

    def score(
        self,
        labels: Array,
        probabilities: Probabilities,
        weights: RowWeights,
        *,
        metrics: Collection[str] | None = None,
        ordinal: bool = False,
    ) -> Scores:
        self.check_range(labels, UNKNOWN, 1)
        return label_scores(labels, probabilities, weights, self.names, self.wanted(metrics, ordinal=ordinal))


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(JOIN) if name.strip()]
