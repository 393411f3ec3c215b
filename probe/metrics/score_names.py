"""What scores are called: by metric and class, one value per weighting."""

import numpy as np
from numpy.typing import NDArray

from probe.metrics.weighted_sums import mean_of_defined
from probe.records.metric_facts import MACRO

Scores = dict[tuple[str, str], NDArray[np.float64]]


def by_class(metric: str, values: NDArray[np.float64], classes: tuple[str, ...]) -> Scores:
    """The values (k, b) of each class, and their mean over the classes for which they are defined."""
    scores = {(metric, name): line for name, line in zip(classes, values, strict=True)}
    return scores | {(metric, MACRO): mean_of_defined(values)}
