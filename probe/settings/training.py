"""Training: its loop, and the settings of fine-tuning strategies."""

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

    batch_size: int = option(32, "Images per training step, over all processes together.")
    accumulate: int = option(
        1, "Gradient accumulation: parts in which a step is computed, to save memory.", group="Computation"
    )
    epochs: int = option(20, "Largest number of passes over the training images.")
    patience: int = option(10, "Early stopping: epochs without a better validation score.")
    metric: str = option("auroc", "Metric on validation by which the epoch is chosen.")
    optimizer: str = option("adamw", "Optimiser.", choices=("adamw", "adam", "sgd"))
    lr: float = option(1e-3, "Learning rate; a strategy may give parts of the network a share of it.")
    weight_decay: float = option(0.01, "Weight decay of weights; biases and normalisation layers have none.")
    momentum: float = option(0.9, "Momentum of sgd.")
    schedule: str = option(
        "cosine",
        "Schedule of the learning rate. cosine: falls to 0. plateau: is halved after 5 epochs without a lower "
        "validation loss. exponential: times 0.95 per epoch. none: stays.",
        choices=("cosine", "plateau", "exponential", "none"),
    )
    warmup: int = option(0, "Warm-up: epochs over which the learning rate rises from 0.")
    class_weights: str = option(
        "none",
        "Class weights of the loss. balanced: as if all classes were equally frequent.",
        choices=("none", "balanced"),
    )
    sampling: str = option(
        "plain", "plain: every image once per epoch. balanced: images drawn with equal class frequency.",
        choices=("plain", "balanced"),
    )  # fmt: skip
    label_smoothing: float = option(0.0, "Label smoothing: share of a label that is spread over all classes.")
    grad_clip: float = option(0.0, "Gradient clipping: largest norm of the gradient; 0 for no limit.")
    augment: str = option(
        "none",
        "Random augmentation of training images: mirror and crop to at least 80% (light) or 8% (crops) of the area.",
        choices=AUGMENTS,
    )
    views: int = option(
        0, "Number of fixed augmented views of each image, one per epoch in turn; 0 for a new view every epoch."
    )
    precision: str = option(
        "float32",
        "Mixed precision: the precision of products; weights stay float32.",
        group="Computation",
        choices=PRECISIONS,
    )
    reuse: bool = option(
        True,
        "Compute the output of frozen stages once per image and cache it, unless images change every epoch.",
        group="Computation",
        decides=False,
    )
    draws: int = option(1000, "Number of bootstrap draws for each interval.", compared=False, group="Statistics")

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
    """The settings of fine-tuning strategies; each strategy reads those that concern it."""

    top_k: int = option(
        1, "Number of stages, counted down from the cut, that top-k and lwft train, wt-st re-initialises, tf halves."
    )
    rates: tuple[float, ...] = option(
        (0.1,), "Strategy layer-wise: the learning rate of each stage as a share of --lr, input first; or one for all."
    )
    decay: float = option(0.75, "Strategy llrd: learning rate of a stage as a share of the rate one stage higher.")
    alpha: float = option(
        0.1, "Strategies l1-sp and l2-sp: strength of the penalty that pulls weights to their initial values."
    )
    beta: float = option(0.01, "Strategies l1-sp and l2-sp: strength of the penalty that pulls the new head to zero.")
    unfreeze: int = option(1, "Strategies g-lf and g-fl: epochs before the next stage is unfrozen.")
    batchnorm: str = option(
        "train", "BatchNorm of trained stages: train uses and updates batch statistics, frozen keeps the stored ones.",
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
