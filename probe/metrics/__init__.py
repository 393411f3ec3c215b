"""Scores of predicted probabilities, for many weightings of the same rows at once."""

from probe.metrics.ranking import weighted_auroc, weighted_average_precision
from probe.metrics.score_names import Scores
from probe.metrics.scores import class_scores, label_scores, one_against_rest, ones, unscored
from probe.records.metric_facts import MACRO, METRICS, MICRO

__all__ = [
    "MACRO",
    "METRICS",
    "MICRO",
    "Scores",
    "class_scores",
    "label_scores",
    "one_against_rest",
    "ones",
    "unscored",
    "weighted_auroc",
    "weighted_average_precision",
]
