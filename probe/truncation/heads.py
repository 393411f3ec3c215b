"""Heads: from the tensor at a cut to logits, sized from its known shape, so that no image is run to size one."""

import math
from collections import OrderedDict

from torch import Tensor, nn

from probe.backbones.catalog import seeded
from probe.backbones.taps import Tap
from probe.base.lookup import check_seed
from probe.settings import Head

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}


class Pool(nn.Module):
    """One vector per image from the tensor at a cut, whatever its layout; see `Tap.pool`."""

    def __init__(self, tap: Tap, pool: str) -> None:
        """Raises ProbeError when the tensor cannot be pooled so."""
        super().__init__()
        tap.check_pool(pool)
        self.tap, self.pool = tap, pool

    def forward(self, x: Tensor) -> Tensor:
        return self.tap.pool(x, self.pool)

    def extra_repr(self) -> str:
        return f"{self.pool} of {self.tap.layout} {self.tap.shape}"


def make_head(tap: Tap, classes: int, settings: Head, seed: int = 0) -> nn.Sequential:
    """A head for the tensor at a cut: its reduction to a vector, dropout, and layers, the last called `linear`.

    `flatten` keeps every position, class and register tokens included. Weights are PyTorch's default,
    drawn from `seed`; the global random state is left alone. Raises ProbeError for a head that does
    not fit: `cls+linear` where there is no class token.
    """
    check_seed(seed)
    first, width = _reduction(tap, settings.head)
    layers: OrderedDict[str, nn.Module] = OrderedDict(reduce=first)
    if settings.dropout:
        layers["dropout"] = nn.Dropout(settings.dropout)
    with seeded(seed):
        if settings.head == "mlp":
            layers["hidden"] = nn.Linear(width, settings.hidden)
            layers["activation"] = ACTIVATIONS[settings.activation]()
            width = settings.hidden
        layers["linear"] = nn.Linear(width, classes)
    return nn.Sequential(layers)


def _reduction(tap: Tap, kind: str) -> tuple[nn.Module, int]:
    if kind == "flatten+linear":
        return nn.Flatten(), math.prod(tap.shape)
    pool = "cls" if kind == "cls+linear" else "mean"
    return Pool(tap, pool), tap.pooled_width(pool)
