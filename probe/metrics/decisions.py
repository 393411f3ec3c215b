"""Scores of decisions: the likeliest class, or each label whose probability is above .5."""

import numpy as np
from numpy.typing import NDArray

from probe.base.array_types import Answers, Counts, Decisions
from probe.metrics.score_names import Scores, by_class
from probe.metrics.weighted_sums import add_columns, ratio
from probe.records.metric_facts import MACRO, MICRO


def decision_scores(
    answers: Answers, decided: Decisions, counts: Counts, classes: tuple[str, ...], *, one_each: bool
) -> Scores:
    """Accuracy, balanced accuracy, recall and F1.

    When each row has one class (`one_each`), accuracy is the share of rows decided rightly and
    balanced accuracy the mean recall; else both are per label.
    """
    positive, negative = (add_columns(answers == value, counts) for value in (1, 0))
    hits, alarms = (add_columns((answers == value) & decided, counts) for value in (1, 0))
    defined = (positive > 0) & (negative > 0)

    def per_class(metric: str, values: NDArray[np.float64]) -> Scores:
        return by_class(metric, np.where(defined, values, np.nan), classes)

    recall = ratio(hits, positive)
    scores = per_class("recall", recall) | per_class("f1", ratio(2 * hits, hits + alarms + positive))
    scores["f1", MICRO] = ratio(2 * hits.sum(0), (hits + alarms + positive).sum(0))
    if one_each:
        scores["accuracy", MACRO] = ratio(hits.sum(0), positive.sum(0))
        scores["balanced_accuracy", MACRO] = scores["recall", MACRO]
        return scores
    right, known = hits + negative - alarms, positive + negative
    scores["accuracy", MICRO] = ratio(right.sum(0), known.sum(0))
    scores |= per_class("accuracy", ratio(right, known))
    return scores | per_class("balanced_accuracy", (recall + 1 - ratio(alarms, negative)) / 2)


def quadratic_kappa(labels: NDArray[np.int64], decided: NDArray[np.int64], counts: Counts) -> NDArray[np.float64]:
    """Cohen's kappa of classes in order, (b,): 1 less the mean squared error over that of independent decisions.

    NaN where labels and decisions are all the same one class. Cohen 1968, weights (i - j) ** 2.
    """
    moments = np.stack([(labels - decided) ** 2, labels**2, decided**2, labels, decided], axis=1)
    error, square, decided_square, mean, decided_mean = ratio(add_columns(moments, counts), counts.sum(0))
    return 1 - ratio(error, square + decided_square - 2 * mean * decided_mean)
