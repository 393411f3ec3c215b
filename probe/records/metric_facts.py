"""What is known of every metric: its name in print, which direction is better, its unit, chance level and range."""

from dataclasses import dataclass
from typing import Literal

from probe.base.lookup import unknown

MACRO = "macro"  # the mean over classes; where a metric has no value per class, all there is
MICRO = "micro"  # the answers of all classes pooled
AVERAGES = (MACRO, MICRO)  # in the column of results that names the class


@dataclass(frozen=True)
class Metric:
    """Facts about one metric, of one class per image; `Task.metrics` has those of other labels.

    `judges` says what of a prediction is judged: the order of its scores, the decision made from it, or the
    probabilities themselves. `low` and `high` bound the value. `chance` is what a constant prediction scores, None
    where that depends on the data. `per_class` says whether each class has a value, of which macro is the mean.
    `ordered` metrics take classes that have an order.
    """

    name: str
    label: str
    judges: Literal["order", "decisions", "probabilities"]
    better: Literal["higher", "lower"] = "higher"
    unit: str = ""
    low: float = 0.0
    high: float = 1.0
    chance: float | None = None
    per_class: bool = True
    ordered: bool = False

    @property
    def sign(self) -> int:
        """1, or -1 where lower is better: a value times its sign is better when it is higher."""
        return 1 if self.better == "higher" else -1

    @property
    def best(self) -> float:
        """The value of a perfect prediction."""
        return self.high if self.better == "higher" else self.low


_TABLE = (
    Metric("auroc", "AUROC", "order", chance=0.5),
    Metric("auprc", "AUPRC", "order"),
    Metric("sensitivity_at_specificity_90", "sensitivity at specificity 90", "order"),
    Metric("specificity_at_sensitivity_90", "specificity at sensitivity 90", "order"),
    Metric("accuracy", "accuracy", "decisions", per_class=False),
    Metric("balanced_accuracy", "balanced accuracy", "decisions", per_class=False),
    Metric("recall", "recall", "decisions"),
    Metric("f1", "f1", "decisions"),
    Metric("log_loss", "log loss", "probabilities", "lower", "nats", high=float("inf"), per_class=False),
    Metric("brier", "brier", "probabilities", "lower", high=2.0, per_class=False),
    Metric("ece", "ECE", "probabilities", "lower", per_class=False),
    Metric("quadratic_kappa", "quadratic kappa", "decisions", low=-1.0, chance=0.0, per_class=False, ordered=True),
)
METRICS = {metric.name: metric for metric in _TABLE}


def find_metric(name: str) -> Metric:
    """What is known of a metric. Raises ProbeError for a name that no metric has."""
    if name not in METRICS:
        raise unknown("metric", name, list(METRICS))
    return METRICS[name]
