"""Probes: how they are fitted and chosen, and which controls they are compared with."""

from dataclasses import dataclass

from probe.base.errors import ProbeError
from probe.settings.image_reading import SPLITS
from probe.settings.option import check_choices, check_draws, option

PROBES = ("linear", "mlp", "knn", "ncm")


@dataclass(frozen=True, kw_only=True)
class ProbeGrid:
    """The hyperparameters tried for each kind of probe, how they are chosen, and the statistics of scores."""

    c_grid: tuple[float, ...] = option(
        (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0),
        "Values of C tried for linear probes: the inverse of the L2 penalty's strength.",
    )
    k_grid: tuple[int, ...] = option((5, 10, 20, 50), "Numbers of neighbours tried for knn probes.")
    mlp_hidden: int = option(256, "Number of hidden units of MLP probes.")
    mlp_dropout: tuple[float, ...] = option((0.0, 0.5), "Dropout probabilities tried for MLP probes.")
    mlp_weight_decay: tuple[float, ...] = option((0.01, 1.0), "Weight decays tried for MLP probes.")
    mlp_seeds: int = option(3, "Random initialisations of each MLP probe; their scores are averaged.")
    metric: str = option("auroc", "Metric by which hyperparameters and taps are chosen.")
    folds: int = option(
        0, "Choose by cross-validation with this many folds of train and val together; 0 chooses on val."
    )
    draws: int = option(1000, "Number of bootstrap draws for each interval.", compared=False, group="Statistics")
    interval: str = option(
        "percentile", "Kind of bootstrap confidence interval.", group="Statistics", choices=("percentile", "bca")
    )
    delta: float = option(
        0.01, "How much worse than the best tap a sufficient tap may be, in units of the metric.", group="Statistics"
    )
    ordinal: bool = option(False, "The classes are ordered, by name; adds quadratic kappa.", group="Statistics")

    def __post_init__(self) -> None:
        if not self.c_grid or not all(0 < strength < float("inf") for strength in self.c_grid):
            raise ProbeError(f"strengths must be positive numbers, not {self.c_grid}")
        if not self.k_grid or not all(k >= 1 and k == int(k) for k in self.k_grid):
            raise ProbeError(f"numbers of neighbours must be whole and positive, not {self.k_grid}")
        if self.mlp_seeds < 1:
            raise ProbeError(f"mlp_seeds is {self.mlp_seeds}; it must be at least 1")
        if self.folds < 0 or self.folds == 1:
            raise ProbeError(f"folds is {self.folds}; give at least 2, or 0 to choose on validation")
        check_draws(self.draws)
        if not 0 < self.delta < 1:
            raise ProbeError(f"delta is {self.delta}; it must lie between 0 and 1")
        check_choices(self)


@dataclass(frozen=True, kw_only=True)
class Controls:
    """What probes are compared with: controls, smaller training sets, scores that need no training."""

    control: tuple[str, ...] = option(
        (), "Add the score of a probe that has learnt nothing.", choices=("permuted", "noise", "majority"), repeat=True
    )
    n_train: tuple[str, ...] = option(
        (), "Also fit probes to fewer training images: a number such as 50, or a share such as 10%.", repeat=True
    )
    subsets: int = option(5, "Random subsets for each --n-train.")
    permutations: int = option(10, "Permutations of the labels, or matrices of noise, for each control.")
    transferability: bool = option(
        False, "Add transferability scores of every tap: LogME, H-score, Fisher ratio, RankMe and others."
    )

    def __post_init__(self) -> None:
        for name in ("subsets", "permutations"):
            if getattr(self, name) < 1:
                raise ProbeError(f"{name} is {getattr(self, name)}; it must be at least 1")
        self.shares()
        check_choices(self)

    def shares(self) -> tuple[int | float, ...]:
        """Training sizes as numbers of images (int) and as shares of them (float). Raises ProbeError for neither."""
        found: list[int | float] = []
        for size in self.n_train:
            try:
                number = float(size[:-1]) / 100 if size.endswith("%") else int(size)
            except ValueError:
                number = 0
            if not 0 < number <= (1 if size.endswith("%") else float("inf")):
                raise ProbeError(f"n_train is '{size}'; give a number of images such as 50, or a share such as 10%")
            found.append(number)
        return tuple(found)


@dataclass(frozen=True, kw_only=True)
class MLPSetting:
    """How one MLP probe is trained; many are trained at once."""

    hidden: int = option(256, "Number of units of the hidden layer.")
    dropout: float = option(0.0, "Dropout probability of the hidden units.")
    weight_decay: float = option(1e-2, "Decoupled weight decay of AdamW.")
    learning_rate: float = option(1e-3, "Constant learning rate of AdamW.")
    batch_size: int = option(128, "Training rows per step.")
    epochs: int = option(100, "Largest number of passes over the training rows.")
    patience: int = option(10, "Early stopping: epochs without a lower loss on the hold-out rows.")

    def __post_init__(self) -> None:
        for name in ("hidden", "batch_size", "epochs", "patience"):
            if getattr(self, name) < 1:
                raise ProbeError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ProbeError(f"dropout is {self.dropout}; it must be at least 0 and less than 1")
        if not 0 < self.learning_rate < float("inf"):
            raise ProbeError(f"learning_rate is {self.learning_rate}; it must be a positive number")
        if not 0 <= self.weight_decay < float("inf"):
            raise ProbeError(f"weight_decay is {self.weight_decay}; it must be a number, and not negative")


@dataclass(frozen=True, kw_only=True)
class Depths:
    """Prediction depth: how it is measured from which tap on the prediction for an image stays the same."""

    readout: str = option(
        "knn", "Probe at every tap: k nearest neighbours, or a linear probe.", choices=("knn", "linear")
    )
    k: int = option(30, "Number of nearest training images that vote.")
    split: str = option(
        "test",
        "Split whose images get a prediction depth; a training image has no vote for itself.",
        choices=(*SPLITS, "all"),
    )
    draws: int = option(1000, "Number of bootstrap draws for each interval.", compared=False, group="Statistics")

    def __post_init__(self) -> None:
        check_choices(self)
        if self.k < 1:
            raise ProbeError(f"k is {self.k}; at least 1 neighbour must vote")
        if self.readout == "linear" and self.split in ("train", "all"):
            raise ProbeError(
                f"a linear probe has learnt the labels of its training images, so it cannot tell their depth; "
                f"take the read-out knn in place of linear, or the split val or test in place of {self.split}"
            )
        check_draws(self.draws)
