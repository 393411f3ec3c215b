"""Scores of predicted probabilities, for many weightings of the same rows at once."""

from probe.metrics.names import MACRO, MICRO, Scores
from probe.metrics.ranking import weighted_auroc, weighted_average_precision
from probe.metrics.scores import LOWER_IS_BETTER, METRICS, ones, score, unscored

__all__ = [
    "LOWER_IS_BETTER",
    "MACRO",
    "METRICS",
    "MICRO",
    "Scores",
    "ones",
    "score",
    "unscored",
    "weighted_auroc",
    "weighted_average_precision",
]
