"""Truncated networks whose weights are re-initialised."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from probe.truncation.halved_top import halve_top
from probe.truncation.heads import make_head
from probe.truncation.truncated import Truncated


def drawn_again(model: Truncated, seed: int) -> dict[str, Tensor]:
    """The trunk's tensors as its architecture draws them. Raises ProbeError when it cannot be built anew."""
    net = model.trunk.origin.from_scratch(seed).build()
    return halve_top(net.cut(model.tap), model.halved, seed).weights()


def cascade(model: Truncated) -> Iterator[tuple[str, Truncated]]:
    """A copy of which ever more is re-initialised, from the head down to the stem, and the name of the last part drawn.

    It is the same object each time. From scratch weights others are drawn than those it has. Adebayo et al. 2018
    (arXiv:1810.03292), section 3.1, cascading randomization.
    """
    seed = (model.trunk.origin.seed + 1) % 2**32
    fresh, ready = drawn_again(model, seed), copy.deepcopy(model)
    head = make_head(model.trunk.tap(-1), model.task.outputs, model.settings, seed)
    ready.head.load_state_dict(head.state_dict())
    yield "head", ready
    for tap in reversed(ready.trunk.taps):
        with torch.no_grad():
            for name, tensor in ready.trunk.stage(tap).state_dict().items():
                tensor.copy_(fresh[name])
        yield tap, ready
