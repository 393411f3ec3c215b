"""The top of a network halved in width: what Transfusion keeps below, and a light network drawn at random above.

Raghu et al. 2019 (arXiv:1902.07208), section 5.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.utils.flop_counter import FlopCounterMode

from probe.backbones import Backbone
from probe.backbones.catalog import seeded
from probe.backbones.stages import Stage
from probe.backbones.tracing import BATCHES
from probe.base.errors import ProbeError, reason


def halve_top(trunk: Backbone, count: int, seed: int = 0) -> Backbone:
    """The network with every convolution of its `count` highest stages halved, and these drawn from `seed`.

    Inputs, groups and BatchNorms follow; depthwise convolutions keep one filter per channel, and the first halved
    stage takes all channels of the one below. Weights are He normal (by fan-in), biases 0, BatchNorms as new. The
    stages below are those of `trunk`, and names are kept.

    Raises ProbeError for layers that are neither convolutions nor BatchNorms, and where the full width is asked for:
    by a shortcut around the first halved stage, or by a reshape.
    """
    every = [stage for stage in trunk.stages if isinstance(stage, Stage)]
    start = len(every) - count
    for stage in every[start:]:
        _check_kinds(stage, trunk.origin.arch)
    try:
        made = _halved_from(every, start)
    except Exception as error:  # whatever an operation raises that asks for the full width
        raise ProbeError(
            f"{trunk.origin.arch} cannot be halved from {every[start].name} up: {reason(error)}; "
            + _where_to_begin(every)
        ) from None
    with seeded(seed):
        for stage in made:
            _draw(stage)
    return type(trunk)([*every[:start], *made], None, trunk.origin)


def _halved_from(stages: list[Stage], start: int) -> list[Stage]:
    """Halved copies of the stages from number `start` up, without weights."""
    made: list[Stage] = []
    for stage in stages[start:]:
        shape = made[-1].shape if made else stage.input_shape
        made.append(_halved(stage, shape))
    return made


def _halved(stage: Stage, shape: tuple[int, ...]) -> Stage:
    """A copy of a stage, on the meta device, in which every convolution gives half as many channels."""
    mine = copy.deepcopy(stage).to("meta")
    mine.halved = True
    mine.input_shape = shape
    done: set[int] = set()

    def fit(module: nn.Module, given: tuple[Any, ...]) -> None:
        if id(module) not in done:
            _resize(module, given[0].shape[1])
        done.add(id(module))

    hooks = [module.register_forward_pre_hook(fit) for module in mine.modules() if _is_known(module)]
    with FlopCounterMode(display=False) as counter:
        found = _shape(mine, training=False)
    for hook in hooks:
        hook.remove()
    if found[1:] != stage.shape[1:] or _shape(mine, training=True) != found:
        raise ValueError(f"the output is of shape {found}")
    mine.shape, mine.macs = found, counter.get_total_flops() // (2 * BATCHES[0])
    return mine.train(stage.training)


def _shape(stage: Stage, training: bool) -> tuple[int, ...]:
    images = torch.empty(BATCHES[0], *stage.input_shape, device="meta")
    made: Tensor = stage.train(training)(images)
    return tuple(made.shape[1:])


def _resize(module: nn.Module, channels: int) -> None:
    """Fit a layer to what goes into it; a convolution gives half of what it gave."""

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, device="meta", dtype=torch.get_default_dtype())

    if isinstance(module, _ConvNd):
        depthwise = module.groups == module.in_channels > 1
        out = channels * (module.out_channels // module.in_channels) if depthwise else max(1, module.out_channels // 2)
        groups = channels if depthwise else module.groups
        if channels % groups or out % groups:
            raise ValueError(f"{groups} groups do not part {channels} channels into {out}")
        module.in_channels, module.out_channels, module.groups = channels, out, groups
        module.weight = nn.Parameter(empty(out, channels // groups, *module.kernel_size))
        module.bias = None if module.bias is None else nn.Parameter(empty(out))
    else:
        module.num_features = channels  # type: ignore[assignment]
        for name, _ in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(empty(channels)))
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, empty(channels) if buffer.ndim else buffer)


def _draw(stage: Stage) -> None:
    """Numbers for a stage that has shapes alone, from the random state as it is."""
    stage.to_empty(device="cpu")
    for module in stage.modules():
        if isinstance(module, _BatchNorm):
            module.reset_parameters()
        elif isinstance(module, _ConvNd):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _check_kinds(stage: Stage, arch: str) -> None:
    """Raise ProbeError for a stage that is not made of convolutions and BatchNorms, or is halved already."""
    if stage.halved:
        raise ProbeError(f"{stage.name} of {arch} has been halved already")
    for name, module in stage.named_modules():
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if own and not _is_known(module):
            kind = "a parameter" if type(module) in (nn.Module, Stage) else type(module).__name__
            raise ProbeError(
                f"only networks of convolutions and BatchNorms can be halved, and {arch} has {kind} in "
                f"{name or stage.name}; take another strategy"
            )


def _is_known(module: nn.Module) -> bool:
    names = {name for name, _ in module.named_parameters(recurse=False)}
    plain = isinstance(module, _ConvNd) and not isinstance(module, _ConvTransposeNd)
    return (plain or isinstance(module, _BatchNorm)) and names <= {"weight", "bias"}


def _where_to_begin(stages: list[Stage]) -> str:
    """In words, from which stages up a network can be halved."""
    found = []
    for index, stage in enumerate(stages):
        try:
            _halved_from(stages, index)
        except Exception:  # as above
            continue
        found.append(f"{stage.name} (top_k {len(stages) - index})")
    return f"it can begin at {', '.join(found)}" if found else "take another strategy"
