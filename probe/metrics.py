"""Scores of predicted probabilities, for many weightings of the same rows at once.

A bootstrap draw is a weighting: how often each row was drawn. The plain score is the one with
every weight 1, so a score and its interval come from the same code.
"""

import numpy as np
from numpy.typing import NDArray

from probe.errors import ProbeError
from probe.shapes import Labels, Probabilities, RowWeights

MACRO = "macro"

Scores = dict[tuple[str, str], NDArray[np.float64]]  # by metric and class; one value per weighting


def score(
    task: str, labels: Labels, probabilities: Probabilities, weights: RowWeights, classes: tuple[str, ...]
) -> Scores:
    """Every metric, macro and per class, for each of the b weightings; shape (b,) each.

    `task` is binary, multiclass or multilabel. Binary data are scored for the second class. AUROC
    and AUPRC (average precision, no interpolation) are one against the rest; macro is the plain
    mean over the classes that have both positive and negative rows in the weighting, NaN if none
    has. Accuracies of multi-label data are per label at a probability of .5, then averaged.
    """
    if not np.isfinite(probabilities).all():
        raise ProbeError("a probe gave probabilities that are not finite")
    truth, scored, names = _one_against_rest(task, labels, probabilities, classes)
    counts = [_by_threshold(truth[:, k], scored[:, k], weights) for k in range(len(names))]
    scores: Scores = {}
    for metric, function in {"auroc": _auroc, "auprc": _average_precision}.items():
        columns = [function(*count) for count in counts]
        scores |= {(metric, name): column for name, column in zip(names, columns, strict=True)}
        scores[metric, MACRO] = _mean_of_defined(np.array(columns))
    single = _labelwise if task == "multilabel" else _classwise
    return scores | single(labels, probabilities, weights)


def ones(rows: int) -> RowWeights:
    """The weighting of the plain score."""
    return np.ones((1, rows))


def weighted_auroc(truth: NDArray[np.bool_], scores: NDArray[np.floating], weights: RowWeights) -> NDArray[np.float64]:
    """Area under the ROC curve: the chance that a positive row scores above a negative, ties half.

    NaN where a weighting has no positive or no negative row. Hanley and McNeil 1982.
    """
    return _auroc(*_by_threshold(truth, scores, weights))


def _auroc(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> NDArray[np.float64]:
    below = np.cumsum(negative, axis=1) - negative / 2
    return _ratio((positive * below).sum(1), positive.sum(1) * negative.sum(1))


def weighted_average_precision(
    truth: NDArray[np.bool_], scores: NDArray[np.floating], weights: RowWeights
) -> NDArray[np.float64]:
    """Average precision: the sum over thresholds of the gain in recall times the precision there.

    NaN where a weighting has no positive or no negative row.
    """
    return _average_precision(*_by_threshold(truth, scores, weights))


def _average_precision(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> NDArray[np.float64]:
    positive, negative = positive[:, ::-1], negative[:, ::-1]
    found, all_found = np.cumsum(positive, axis=1), np.cumsum(positive + negative, axis=1)
    precision = np.divide(found, all_found, out=np.zeros_like(found), where=all_found > 0)
    total = positive.sum(1)
    defined = np.where(negative.sum(1) > 0, total, 0)
    return _ratio((positive * precision).sum(1), defined)


def _by_threshold(
    truth: NDArray[np.bool_], scores: NDArray[np.floating], weights: RowWeights
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weight of the positive and the negative rows at each distinct score, ascending; (b, scores) each."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
    ordered = weights[:, order]
    positive = np.add.reduceat(ordered * truth[order], starts, axis=1)
    return positive, np.add.reduceat(ordered, starts, axis=1) - positive


def _one_against_rest(
    task: str, labels: Labels, probabilities: Probabilities, classes: tuple[str, ...]
) -> tuple[NDArray[np.bool_], NDArray[np.floating], tuple[str, ...]]:
    if task == "multilabel":
        return labels == 1, probabilities, classes
    truth = labels[:, None] == np.arange(len(classes))
    return (truth[:, 1:], probabilities[:, 1:], classes[1:]) if task == "binary" else (truth, probabilities, classes)


def _classwise(labels: Labels, probabilities: Probabilities, weights: RowWeights) -> Scores:
    total = weights.sum(1)
    correct = (probabilities.argmax(1) == labels).astype(float)
    surprise = -np.log(_clipped(probabilities[np.arange(len(labels)), labels]))
    member = (labels[:, None] == np.arange(probabilities.shape[1])).astype(float)
    recall = _ratio(weights @ (member * correct[:, None]), weights @ member)
    return {
        ("accuracy", MACRO): _ratio(weights @ correct, total),
        ("balanced_accuracy", MACRO): _mean_of_defined(recall.T),
        ("log_loss", MACRO): _ratio(weights @ surprise, total),
    }


def _labelwise(labels: Labels, probabilities: Probabilities, weights: RowWeights) -> Scores:
    total = weights.sum(1)[:, None]
    correct = ((probabilities > 0.5) == labels).astype(float)
    surprise = -np.log(_clipped(np.where(labels == 1, probabilities, 1 - probabilities)))
    recalls = [_ratio(weights @ (correct * (labels == value)), weights @ (labels == value)) for value in (0, 1)]
    return {
        ("accuracy", MACRO): _ratio(weights @ correct, total).mean(1),
        ("balanced_accuracy", MACRO): _mean_of_defined(((recalls[0] + recalls[1]) / 2).T),
        ("log_loss", MACRO): _ratio(weights @ surprise, total).mean(1),
    }


def _clipped(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    tiny = np.finfo(np.float64).eps
    return np.clip(probabilities.astype(np.float64), tiny, 1 - tiny)


def _ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    undefined: NDArray[np.float64] = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)


def _mean_of_defined(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the first axis of what is not NaN; NaN where nothing is."""
    defined = ~np.isnan(columns)
    return _ratio(np.where(defined, columns, 0).sum(0), defined.sum(0).astype(float))
