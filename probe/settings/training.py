"""How networks are trained, and what fine-tuning strategies can be told."""

from dataclasses import dataclass
from math import isfinite

from probe.base.errors import ProbeError
from probe.settings.networks import Batches
from probe.settings.option import check_choices, check_draws, option

STRATEGIES = (
    "ftl", "lp", "lp-ft", "scratch", "g-lf", "g-fl", "l1-sp", "l2-sp", "auto-rgn", "top-k", "layer-wise", "lwft",
    "wt-st", "tf", "llrd", "bn-only", "bitfit",
)  # fmt: skip
READ = {  # by strategy the fields of Tuning that it reads, besides `batchnorm`
    **dict.fromkeys(("top-k", "lwft", "wt-st", "tf"), ("top_k",)),
    **dict.fromkeys(("g-lf", "g-fl"), ("unfreeze",)),
    **dict.fromkeys(("l1-sp", "l2-sp"), ("alpha", "beta")),
    "layer-wise": ("rates",),
    "llrd": ("decay",),
}
SEARCHES = ("none", "two-stage")  # ways to find the taps that are trained
AUGMENTS = ("none", "light", "crops")
PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class Training(Batches):
    """How a network is trained, and which of its epochs is kept.

    A step is of `batch_size` images, whatever number of processes share it and in however many parts
    (`accumulate`) each of them computes its own; the gradient is that of the whole step.
    """

    batch_size: int = option(32, "Images per step, of all processes together.")
    accumulate: int = option(1, "Parts that a step is computed in, to save memory.")
    epochs: int = option(20, "Passes over the training images, at most.")
    patience: int = option(10, "Epochs without a better validation score after which training stops.")
    metric: str = option("auroc", "What the epoch is chosen by, on validation.")
    optimizer: str = option("adamw", "Optimiser.", choices=("adamw", "adam", "sgd"))
    lr: float = option(1e-3, "Learning rate; a strategy may give parts of the network a share of it.")
    weight_decay: float = option(0.01, "Weight decay; of weights, not of biases and norms.")
    momentum: float = option(0.9, "Momentum of sgd.")
    schedule: str = option(
        "cosine",
        "What becomes of the learning rate: down to 0, halved when the validation loss has not fallen for 5 epochs, "
        "times .95 after every epoch, or nothing.",
        choices=("cosine", "plateau", "exponential", "none"),
    )
    warmup: int = option(0, "Epochs over which the learning rate rises from 0.")
    class_weights: str = option(
        "none", "Weigh the loss by class; balanced: as if all were as frequent.", choices=("none", "balanced")
    )
    sampling: str = option(
        "plain", "Every image once an epoch, or as many draws in which classes are as likely.",
        choices=("plain", "balanced"),
    )  # fmt: skip
    label_smoothing: float = option(0.0, "Share of a label spread over all classes.")
    grad_clip: float = option(0.0, "Largest norm of the gradient; 0: any.")
    augment: str = option(
        "none",
        "Change training images at random: mirrored, and a part of at least 80% (light) or 8% (crops) of them.",
        choices=AUGMENTS,
    )
    views: int = option(
        0, "Fixed ways in which each image is changed, in turn from epoch to epoch; 0: another way every epoch."
    )
    precision: str = option("float32", "Precision of the products; weights are float32.", choices=PRECISIONS)
    reuse: bool = option(
        True,
        "Compute what frozen stages make of each image once, kept in the feature cache, unless it changes every epoch.",
        decides=False,
    )
    draws: int = option(1000, "Bootstrap draws behind each interval.", compared=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("accumulate", "epochs", "patience"):
            if getattr(self, name) < 1:
                raise ProbeError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not (self.lr > 0 and isfinite(self.lr)):
            raise ProbeError(f"lr is {self.lr}; it must be a positive number")
        for name in ("weight_decay", "grad_clip"):
            if not (getattr(self, name) >= 0 and isfinite(getattr(self, name))):
                raise ProbeError(f"{name} is {getattr(self, name)}; it must be a number, and not negative")
        for name in ("momentum", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ProbeError(f"{name} is {getattr(self, name)}; it must be at least 0 and below 1")
        if self.views < 0 or (self.views and self.augment == "none"):
            raise ProbeError(f"views is {self.views} with augment {self.augment}; it counts ways of light or crops")
        if not 0 <= self.warmup < self.epochs:
            raise ProbeError(f"warmup is {self.warmup} of {self.epochs} epochs; it must be fewer than all")
        check_draws(self.draws)


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What strategies can be told; each reads what concerns it."""

    top_k: int = option(1, "Stages that top-k and lwft train, wt-st draws anew and tf halves, counted from the cut.")
    rates: tuple[float, ...] = option(
        (0.1,), "Shares of the learning rate in layer-wise: for every stage, bottom to top, or one for all."
    )
    decay: float = option(0.75, "Learning rate of a stage as a share of that of the next one up, in llrd.")
    alpha: float = option(0.1, "Strength of the pull to the start in l1-sp and l2-sp.")
    beta: float = option(0.01, "Strength of the new head's pull to zero in l1-sp and l2-sp.")
    unfreeze: int = option(1, "Epochs from one stage's unfreezing to the next one's, in g-lf and g-fl.")
    batchnorm: str = option(
        "train", "Whether BatchNorm of trained stages uses and updates the batch's statistics.",
        choices=("train", "frozen"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.top_k < 0:
            raise ProbeError(f"top_k is {self.top_k}; it must be at least 0")
        if self.unfreeze < 1:
            raise ProbeError(f"unfreeze is {self.unfreeze}; it must be at least 1")
        if not self.rates or not all(rate >= 0 and isfinite(rate) for rate in self.rates):
            raise ProbeError(f"rates must be numbers that are not negative, not {self.rates}")
        if not 0 < self.decay <= 1:
            raise ProbeError(f"decay is {self.decay}; it must lie above 0 and be at most 1")
        for name in ("alpha", "beta"):
            if not (getattr(self, name) >= 0 and isfinite(getattr(self, name))):
                raise ProbeError(f"{name} is {getattr(self, name)}; it must be a number, and not negative")
        check_choices(self)


def reads(strategy: str) -> tuple[str, ...]:
    """The fields of `Tuning` that change what a strategy does."""
    return (*READ.get(strategy, ()), "batchnorm")
