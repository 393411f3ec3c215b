"""How read-outs are fitted and chosen, and what they are set beside."""

from dataclasses import dataclass

from probe.base.errors import ProbeError
from probe.settings.option import check_choices, check_draws, option
from probe.settings.reading import SPLITS

PROBES = ("linear", "mlp", "knn", "ncm")


@dataclass(frozen=True, kw_only=True)
class ProbeGrid:
    """What read-outs are chosen from, on what, and how sure their scores are."""

    c_grid: tuple[float, ...] = option(
        (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0), "Inverse L2 strengths of linear probes tried."
    )
    k_grid: tuple[int, ...] = option((5, 10, 20, 50), "Numbers of neighbours tried.")
    mlp_hidden: int = option(256, "Hidden units of MLP probes.")
    mlp_dropout: tuple[float, ...] = option((0.0, 0.5), "Dropout of MLP probes tried.")
    mlp_weight_decay: tuple[float, ...] = option((0.01, 1.0), "Weight decay of MLP probes tried.")
    mlp_seeds: int = option(3, "MLP probes per setting, from several starts; their scores are averaged.")
    metric: str = option("auroc", "What settings and taps are chosen by.")
    folds: int = option(0, "Choose by so many folds of the training and validation images; 0: on validation.")
    draws: int = option(1000, "Bootstrap draws behind each interval.", compared=False)
    interval: str = option("percentile", "Kind of bootstrap interval.", choices=("percentile", "bca"))
    delta: float = option(0.01, "Loss of the metric against the best tap that a sufficient tap may have.")
    ordinal: bool = option(False, "Classes have an order, that of their names: adds quadratic kappa.")

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
class Checks:
    """What probes are set beside: controls, smaller training sets, scores that need no training."""

    control: tuple[str, ...] = option(
        (), "What a probe that learnt nothing would score.", choices=("permuted", "noise", "majority"), repeat=True
    )
    n_train: tuple[str, ...] = option(
        (), "Probe again with so many training images, a number or a share such as 10%.", repeat=True
    )
    subsets: int = option(5, "Subsets drawn for each --n-train.")
    permutations: int = option(10, "Random labellings, or matrices of noise, behind a control.")
    transferability: bool = option(False, "Add LogME, H-score, Fisher ratio, RankMe and others of every tap.")

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

    hidden: int = option(256, "Units of the hidden layer.")
    dropout: float = option(0.0, "Share of the hidden units that a training step leaves out.")
    weight_decay: float = option(1e-2, "AdamW's, decoupled from the learning rate's adaptation.")
    learning_rate: float = option(1e-3, "AdamW's learning rate, the same throughout.")
    batch_size: int = option(128, "Training rows per step.")
    epochs: int = option(100, "Passes over the training rows, at most.")
    patience: int = option(10, "Epochs without a lower loss on the held rows after which training stops.")

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
    """How the depth is told at which the prediction for each image settles."""

    readout: str = option(
        "knn", "What reads every tap: the nearest training images, or a linear probe.", choices=("knn", "linear")
    )
    k: int = option(30, "Nearest training images that vote.")
    split: str = option(
        "test",
        "Images whose depth is told; a training image has no vote for itself.",
        choices=(*SPLITS, "all"),
    )
    draws: int = option(1000, "Bootstrap draws behind each interval.", compared=False)

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
