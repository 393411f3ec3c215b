"""Heads that start from what a linear probe found."""

import torch
from torch import nn

from probe.base.errors import ProbeError
from probe.probes.linear import RegularizationPath
from probe.truncation.truncated import Truncated


def head_from_probe(model: Truncated, path: RegularizationPath) -> None:
    """Set a pooled linear head to a linear probe of the same pooled features: equal probabilities from the start.

    Two classes are one vector w of a probe; the head's logits are then -(w x + b) / 2 and (w x + b) / 2,
    of all pairs with that difference the one of smallest norm. Raises ProbeError for another head and for
    a probe of other features, classes or of several strengths.
    """
    if model.settings.head not in ("gap+linear", "cls+linear"):
        raise ProbeError(f"a linear probe cannot start the head '{model.settings.head}'; take gap+linear or cls+linear")
    linear = model.head.get_submodule("linear")
    assert isinstance(linear, nn.Linear)
    wanted, given = (1, model.task.vectors, linear.in_features), path.coef.shape
    if path.task != model.task or given != wanted:
        raise ProbeError(
            f"the probe ({path.task}, {given[0]} strengths of {given[1]} x {given[2]} weights) is not one of this head "
            f"({model.task}, {wanted[1]} x {wanted[2]})"
        )
    coef, intercept = torch.from_numpy(path.coef[0]), torch.from_numpy(path.intercept[0])
    if model.task.vectors < model.task.outputs:
        coef, intercept = torch.cat([-coef, coef]) / 2, torch.cat([-intercept, intercept]) / 2
    with torch.no_grad():
        linear.weight.copy_(coef)
        linear.bias.copy_(intercept)
