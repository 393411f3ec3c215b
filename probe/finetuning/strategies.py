"""Fine-tuning strategies as data: per stage, and for the head, its weights and its training.

Names follow Davila, Colan and Hasegawa 2024 (arXiv:2406.10050) and Peng et al. 2023 (arXiv:2106.05152).
Numbers that neither states are our choice.
"""

from collections.abc import Callable
from dataclasses import dataclass

from probe.base.errors import ProbeError
from probe.base.lookup import unknown
from probe.settings import Tuning

PARTS = ("all", "batchnorm", "biases")


@dataclass(frozen=True, kw_only=True)
class State:
    """How one stage, or the head, starts and is trained.

    `weights`: "given", those of the model; "random", drawn as the architecture draws its own; "statistics",
    normal with the given mean and variance of each tensor; "slim", halved in width and re-initialised, which can
    only be the stages up to the cut, and takes a new head; of the head also "probe". Its learning rate is
    `rate` times that of the run (0: frozen), of biases `bias` times more; `only` names what of it is trained.
    It is frozen before epoch `start`, the first being 1. `pull` is the strength of its pull to where it
    started (the head's to zero), by the norm of order `norm`; see `penalty`.
    """

    weights: str = "given"
    rate: float = 1.0
    bias: float = 1.0
    only: str = "all"
    start: int = 1
    pull: float = 0.0
    norm: int = 2

    def trained_in(self, epoch: int) -> bool:
        """Whether anything of it is trained in an epoch."""
        return self.rate > 0 and epoch >= self.start


FROZEN = State(rate=0)


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """The states of all stages, bottom to top, and of the head.

    `batchnorm` "frozen" keeps the statistics of BatchNorm in trained stages too. `adaptive` sets every
    tensor's rate by its relative gradient norm before each epoch; see `relative_rates`.
    """

    name: str
    stages: tuple[State, ...]
    head: State = State()
    batchnorm: str = "train"
    adaptive: bool = False

    @property
    def frozen_bottom(self) -> int:
        """How many stages, from the bottom, are never trained."""
        tuned = (index for index, state in enumerate(self.stages) if state.rate > 0)
        return next(tuned, len(self.stages))

    @property
    def settled(self) -> int:
        """The epoch from which on all that is ever trained is."""
        return max(state.start for state in (*self.stages, self.head))

    @property
    def pulled(self) -> bool:
        """Whether the loss has a penalty."""
        return any(state.pull for state in (*self.stages, self.head))


Parts = tuple[tuple[State, ...], State, bool]  # stages, head, adaptive
STRATEGIES: dict[str, Callable[[int, Tuning], Parts]] = {}


def find_strategy(name: str, depth: int, tuning: Tuning) -> Strategy:
    """A strategy for a trunk of `depth` stages. Raises ProbeError for an unknown name or settings that do not fit."""
    if name not in STRATEGIES:
        raise unknown("strategy", name, list(STRATEGIES))
    stages, head, adaptive = STRATEGIES[name](depth, tuning)
    return Strategy(name=name, stages=stages, head=head, adaptive=adaptive, batchnorm=tuning.batchnorm)


def _named(name: str) -> Callable[[Callable[[int, Tuning], Parts]], Callable[[int, Tuning], Parts]]:
    def enter(make: Callable[[int, Tuning], Parts]) -> Callable[[int, Tuning], Parts]:
        STRATEGIES[name] = make
        return make

    return enter


def _top(depth: int, tuning: Tuning, above: State, below: State = FROZEN) -> tuple[State, ...]:
    if tuning.top_k > depth:
        raise ProbeError(f"top_k is {tuning.top_k}, but the trunk has {depth} stages")
    return (below,) * (depth - tuning.top_k) + (above,) * tuning.top_k


@_named("ftl")
def full(depth: int, _: Tuning) -> Parts:
    """Full fine-tuning: everything, at one learning rate."""
    return (State(),) * depth, State(), False


@_named("lp")
def linear_probing(depth: int, _: Tuning) -> Parts:
    """The head alone, on a frozen trunk, by gradient descent at ten times the run's rate, for nothing else moves.

    The ten is our choice.
    """
    return (FROZEN,) * depth, State(rate=10), False


@_named("lp-ft")
def probe_then_full(depth: int, _: Tuning) -> Parts:
    """Full fine-tuning from the solution of a linear probe. Kumar et al. 2022 (arXiv:2202.10054).

    The rate is a tenth of the run's; the tenth is our choice.
    """
    return (State(rate=0.1),) * depth, State(weights="probe", rate=0.1), False


@_named("scratch")
def from_scratch(depth: int, _: Tuning) -> Parts:
    """Everything trained from weights that the architecture draws for itself."""
    return (State(weights="random"),) * depth, State(), False


@_named("g-lf")
def gradual_from_the_top(depth: int, tuning: Tuning) -> Parts:
    """Gradual unfreezing, last to first: the head, then a stage more every `unfreeze` epochs.

    Howard and Ruder 2018 (arXiv:1801.06146).
    """
    return tuple(State(start=1 + (depth - i) * tuning.unfreeze) for i in range(depth)), State(), False


@_named("g-fl")
def gradual_from_the_bottom(depth: int, tuning: Tuning) -> Parts:
    """Gradual unfreezing, first to last: the head and the bottom stage, then a stage more every `unfreeze` epochs."""
    return tuple(State(start=1 + i * tuning.unfreeze) for i in range(depth)), State(), False


@_named("l1-sp")
def pulled_by_l1(depth: int, tuning: Tuning) -> Parts:
    """Loss + alpha |w - w0|_1 over the trunk + beta/2 |w|^2 over the head. Li et al. 2018 (arXiv:1802.01483)."""
    return (State(pull=tuning.alpha, norm=1),) * depth, State(pull=tuning.beta), False


@_named("l2-sp")
def pulled_by_l2(depth: int, tuning: Tuning) -> Parts:
    """Loss + alpha/2 |w - w0|^2 over the trunk + beta/2 |w|^2 over the head. Li et al. 2018 (arXiv:1802.01483).

    alpha .1 and beta .01, and weights of convolutions and linear layers only, as in the authors' code.
    """
    return (State(pull=tuning.alpha),) * depth, State(pull=tuning.beta), False


@_named("auto-rgn")
def by_relative_gradient(depth: int, _: Tuning) -> Parts:
    """Every tensor's rate is its relative gradient norm over the largest. Lee et al. 2023 (arXiv:2210.11466)."""
    return (State(),) * depth, State(), True


@_named("top-k")
def top_stages(depth: int, tuning: Tuning) -> Parts:
    """The `top_k` highest stages and the head. Kandel and Castelli 2020 (Applied Sciences 10(10) 3359)."""
    return _top(depth, tuning, State()), State(), False


@_named("layer-wise")
def rate_by_stage(depth: int, tuning: Tuning) -> Parts:
    """A learning rate for every stage, 0 being frozen. Tajbakhsh et al. 2016 (arXiv:1706.00712), section III.

    As there, a stage that is tuned has a tenth of the new head's rate, and biases twice that of their weights.
    """
    rates = tuning.rates * depth if len(tuning.rates) == 1 else tuning.rates
    if len(rates) != depth:
        raise ProbeError(f"{len(rates)} rates were given for the {depth} stages of the trunk; give one for each")
    return tuple(State(rate=rate, bias=2) for rate in rates), State(bias=2), False


@_named("lwft")
def light_top(depth: int, tuning: Tuning) -> Parts:
    """The bottom frozen, `top_k` stages at a tenth of the head's rate. Peng et al. 2023 (arXiv:2106.05152)."""
    return _top(depth, tuning, State(rate=0.1)), State(), False


@_named("wt-st")
def top_from_statistics(depth: int, tuning: Tuning) -> Parts:
    """The `top_k` highest stages re-initialised, normal with the mean and variance of each given tensor; all trained.

    Raghu et al. 2019 (arXiv:1902.07208), "Mean Var" initialisation.
    """
    return _top(depth, tuning, State(weights="statistics"), State()), State(), False


@_named("tf")
def halved_top(depth: int, tuning: Tuning) -> Parts:
    """Transfusion: the `top_k` highest stages halved in width and re-initialised, the others as given; all trained.

    Raghu et al. 2019 (arXiv:1902.07208), section 5. For convolutional networks; see `halve_top`.
    """
    return _top(depth, tuning, State(weights="slim"), State()), State(), False


@_named("llrd")
def decayed_by_depth(depth: int, tuning: Tuning) -> Parts:
    """Layer-wise decay: stage i of n, from the bottom, has rate decay^(n - i); the head 1.

    Bao et al. 2022 (arXiv:2106.08254); the default decay is our choice.
    """
    return tuple(State(rate=tuning.decay ** (depth - i)) for i in range(depth)), State(), False


@_named("bn-only")
def norms_only(depth: int, _: Tuning) -> Parts:
    """Scales and shifts of BatchNorm, and the head. Frankle et al. 2021 (arXiv:2003.00152)."""
    return (State(only="batchnorm"),) * depth, State(), False


@_named("bitfit")
def biases_only(depth: int, _: Tuning) -> Parts:
    """Biases, those of norms too, and the head. Ben Zaken et al. 2022 (arXiv:2106.10199)."""
    return (State(only="biases"),) * depth, State(), False
