"""A strategy applied to a model: what is trained now, the optimiser's groups, and the pull to the start."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from probe.base.errors import ProbeError
from probe.finetuning.strategies import State, Strategy
from probe.settings import Training
from probe.truncation import Truncated


def parts(model: Truncated, strategy: Strategy) -> Iterator[tuple[str, nn.Module, State]]:
    """Every stage with its state, bottom to top, then the head; `trunk.<tap>` and `head` by name."""
    for stage, state in zip(model.trunk.stages, strategy.stages, strict=True):
        yield f"trunk.{stage.name}", stage, state
    yield "head", model.head, strategy.head


def batchnorms(module: nn.Module) -> list[nn.Module]:
    """Every BatchNorm, whatever it is called."""
    return [each for each in module.modules() if isinstance(each, _BatchNorm)]


def chosen(module: nn.Module, state: State) -> dict[str, nn.Parameter]:
    """The parameters of a part that are ever trained, by name. Raises ProbeError when none is what `only` names."""
    named = dict(module.named_parameters())
    if state.rate == 0:
        return {}
    if state.only == "biases":
        return {name: parameter for name, parameter in named.items() if name.endswith("bias")}
    if state.only == "batchnorm":
        inside = {id(parameter) for norm in batchnorms(module) for parameter in norm.parameters()}
        return {name: parameter for name, parameter in named.items() if id(parameter) in inside}
    return named


def check_fits(model: Truncated, strategy: Strategy, training: Training) -> None:
    """Raise ProbeError for a strategy that makes no sense with this network, or in so few epochs."""
    fresh = model.trunk.origin.weights == "scratch" and model.trunk.weights_hash() == model.source_hash
    copies = [state.weights in ("statistics", "slim") or state.pull > 0 for state in strategy.stages]
    if fresh and any(copies):
        raise ProbeError(
            f"{strategy.name} is about the given weights, and this network's are random; take pretrained ones or a file"
        )
    states = [state for state in strategy.stages if state.only != "all"]
    if states and not any(chosen(module, state) for _, module, state in parts(model, strategy) if state.only != "all"):
        raise ProbeError(
            f"{strategy.name} trains the {states[0].only} of the trunk, and {model.trunk.origin.arch} has none up to "
            f"{model.tap}; take another strategy"
        )
    if strategy.settled > training.epochs:
        raise ProbeError(
            f"{strategy.name} unfreezes the last stage in epoch {strategy.settled}, and {training.epochs} were asked "
            "for; take more epochs, or a coarser level"
        )


def set_modes(model: Truncated, strategy: Strategy, epoch: int) -> None:
    """What an epoch trains is in train mode and has gradients; a frozen part is wholly in eval mode, with none.

    Frozen statistics put BatchNorm alone in eval mode: dropout goes on.
    """
    for _, module, state in parts(model, strategy):
        now = state.trained_in(epoch)
        module.train(now)
        module.requires_grad_(False)
        for parameter in chosen(module, state).values():
            parameter.requires_grad_(now)
    if strategy.batchnorm == "frozen":
        for norm in batchnorms(model):
            norm.eval()


def param_groups(model: Truncated, strategy: Strategy, training: Training) -> list[dict[str, Any]]:
    """The optimiser's groups, one per rate and weight decay; adaptive rates take one per tensor.

    Each holds its `rate`, by which `set_rates` sets its `lr`. Biases, norms and what is pulled elsewhere have no
    weight decay.
    """
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    seen: set[int] = set()
    for part, module, state in parts(model, strategy):
        for name, parameter in chosen(module, state).items():
            if id(parameter) in seen:  # one tensor in two stages
                continue
            seen.add(id(parameter))
            rate = state.rate * (state.bias if name.endswith("bias") else 1)
            decay = training.weight_decay if parameter.ndim > 1 and not strategy.pulled else 0.0
            key = (rate, decay, *([part, name] if strategy.adaptive else []))
            group = groups.setdefault(key, {"params": [], "rate": rate, "weight_decay": decay})
            group["params"].append(parameter)
    return list(groups.values())


def set_rates(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The learning rate of every group: its own share of `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["rate"]


def make_optimizer(groups: list[dict[str, Any]], training: Training) -> torch.optim.Optimizer:
    """Adam, AdamW or SGD over groups that state their weight decay."""
    if training.optimizer == "sgd":
        return torch.optim.SGD(groups, training.lr, training.momentum)
    kind = torch.optim.AdamW if training.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, training.lr)


class Pull:
    """The penalty that keeps weights near where they started, over weights of convolutions and linear layers.

    Of a stage alpha |w - w0|_1 or alpha/2 |w - w0|^2, of the head beta/2 |w|^2; biases and norms are free.
    Li et al. 2018 (arXiv:1802.01483), equations 2 to 5.
    """

    def __init__(self, model: Truncated, strategy: Strategy, start: Mapping[str, Tensor]) -> None:
        """`start` are the model's weights, by the names of its state dict, that stages are pulled to."""
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        self._terms = [
            (parameter, None if part == "head" else start[names[id(parameter)]], state)
            for part, module, state in parts(model, strategy)
            for name, parameter in chosen(module, state).items()
            if state.pull and name.endswith("weight") and parameter.ndim > 1
        ]

    def __call__(self) -> Tensor:
        """The penalty, a scalar with its gradient."""
        terms = []
        for parameter, start, state in self._terms:
            gap = parameter if start is None else parameter - start
            terms.append(state.pull * (gap.abs().sum() if state.norm == 1 else gap.square().sum() / 2))
        return torch.stack(terms).sum()


def relative_norms(optimizer: torch.optim.Optimizer) -> list[float | None]:
    """|g| / |w| of every group's one tensor; None where the weights are all 0, which has no relative size."""
    found: list[float | None] = []
    for group in optimizer.param_groups:
        (parameter,) = group["params"]
        size = float(parameter.detach().norm())
        gradient = 0.0 if parameter.grad is None else float(parameter.grad.norm())
        found.append(gradient / size if size else None)
    return found


def relative_rates(batches: list[list[float | None]]) -> list[float]:
    """RGN_l / max RGN, from the relative norms of several batches, (batches, tensors), averaged over them.

    A tensor of zeros, such as a bias at its start, is in no maximum and has rate 1. Lee et al. 2023
    (arXiv:2210.11466), section 4.
    """
    means = [None if None in column else sum(column) / len(column) for column in zip(*batches, strict=True)]
    largest = max((mean for mean in means if mean is not None), default=0.0)
    return [1.0 if mean is None or not largest else mean / largest for mean in means]
