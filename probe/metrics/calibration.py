"""Scores of the probabilities themselves: log loss, Brier score, expected calibration error."""

import numpy as np
from numpy.typing import NDArray

from probe.base.array_types import Answers, Counts, Labels, Probabilities
from probe.metrics.score_names import Scores, by_class
from probe.metrics.weighted_sums import add_columns, add_up, ratio
from probe.records.metric_facts import MACRO

BINS = 15  # of equal width, closed on the right; Guo et al. 2017


def probability_scores(labels: Labels, probabilities: Probabilities, counts: Counts) -> Scores:
    """Of rows with one class each, over all classes.

    The Brier score is the squared distance to the right answer summed over classes, in [0, 2]
    (Brier 1950), and of two classes that of the second alone, in [0, 1]. The calibration error is
    of the likeliest class (Guo et al. 2017), and of two classes that of the second (Naeini et al. 2015).
    """
    answers = labels[:, None] == np.arange(probabilities.shape[1])
    surprise = -np.log(_clipped(probabilities[answers]))
    distance = ((probabilities - answers) ** 2).sum(1)
    if probabilities.shape[1] == 2:
        sure, right, distance = probabilities[:, 1], answers[:, 1], distance / 2
    else:
        sure, right = probabilities.max(1), answers[np.arange(len(labels)), probabilities.argmax(1)]
    log_loss, brier = ratio(add_columns(np.stack([surprise, distance], axis=1), counts), counts.sum(0))
    (error,) = calibration_error(right[:, None].astype(np.int64), sure[:, None], counts)
    return {("log_loss", MACRO): log_loss, ("brier", MACRO): brier, ("ece", MACRO): error}


def label_probability_scores(
    answers: Answers, probabilities: Probabilities, counts: Counts, classes: tuple[str, ...]
) -> Scores:
    """Of independent labels, each by itself over the rows where it is known, and their mean."""
    positive, negative = (add_columns(answers == value, counts) for value in (1, 0))
    known, defined = positive + negative, (positive > 0) & (negative > 0)
    surprise = -np.log(_clipped(np.where(answers == 1, probabilities, 1 - probabilities)))
    values = {
        "log_loss": ratio(add_columns(np.where(answers < 0, 0, surprise), counts), known),
        "brier": ratio(add_columns(np.where(answers < 0, 0, (probabilities - answers) ** 2), counts), known),
        "ece": calibration_error(answers, probabilities, counts),
    }
    lines = [by_class(metric, np.where(defined, value, np.nan), classes) for metric, value in values.items()]
    return {key: value for line in lines for key, value in line.items()}


def calibration_error(answers: Answers, sure: Probabilities, counts: Counts) -> NDArray[np.float64]:
    """Expected calibration error of each column, (k, b): how far, on average, the stated probability lies
    from the share of right answers among the rows of its bin. 15 bins of equal width, closed on the right.

    Unknown answers (-1) are left out. Naeini et al. 2015; Guo et al. 2017 (arXiv:1706.04599), equation 3.
    """
    rows, columns = np.nonzero(answers >= 0)
    stated = sure[rows, columns]
    edges = np.arange(1, BINS) / BINS
    bins = columns * BINS + np.searchsorted(edges, stated, side="left")
    size = sure.shape[1] * BINS
    apart = np.abs(add_up(bins, rows, size, counts, answers[rows, columns] - stated))
    known = add_up(columns, rows, sure.shape[1], counts)
    return ratio(apart.reshape(sure.shape[1], BINS, -1).sum(1), known)


def _clipped(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    tiny = np.finfo(np.float64).eps
    return np.clip(probabilities.astype(np.float64), tiny, 1 - tiny)
