"""Taps: the places where a network is read, and the layout of the tensor at each.

Nothing here loads torch, so that features in the cache are described without a network.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from einops import rearrange, reduce

from probe.base.errors import ProbeError
from probe.base.lookup import unknown
from probe.settings.networks import POOLS

if TYPE_CHECKING:
    from torch import Tensor

AXES = {  # of each layout, as einops writes them: n images, c channels, t tokens, z h w the directions of a map
    "nd": "n c",
    "ntd": "n t c",
    "nchw": "n c h w",
    "nhwc": "n h w c",
    "ncdhw": "n c z h w",
    "ndhwc": "n z h w c",
}


@dataclass(frozen=True)
class Layout:
    """Which axis of a tensor, batch first, holds what; `name` is one of `AXES`.

    `prefix` counts the tokens before the image's own (class, distillation, registers); `cls` says whether the first
    of them is a class token.
    """

    name: str
    prefix: int = 0
    cls: bool = False

    def __post_init__(self) -> None:
        if self.name not in AXES:
            raise unknown("layout", self.name, list(AXES))

    def __str__(self) -> str:
        return self.name

    @property
    def axes(self) -> list[str]:
        """The letter of each axis."""
        return AXES[self.name].split()

    @property
    def has_tokens(self) -> bool:
        """Whether positions stand in a row, as a transformer has them."""
        return "t" in self.axes

    def width(self, shape: Sequence[int]) -> int:
        """Number of channels of one image's tensor."""
        return shape[self.axes.index("c") - 1]

    def resolution(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The lengths over which one image's tensor is pooled: the sides of a map, or the number of its own tokens."""
        lengths = [length for axis, length in zip(self.axes[1:], shape, strict=True) if axis != "c"]
        return (lengths[0] - self.prefix,) if self.has_tokens else tuple(lengths)

    def positions(self, shape: Sequence[int]) -> int:
        """Over how many positions one image's tensor is pooled; 1 for a vector."""
        return math.prod(self.resolution(shape))

    def pool(self, x: "Tensor", how: str) -> "Tensor":
        """One vector per image, (n, d).

        `mean` and `max` go over the image's own positions, other tokens left out; `cls` is the class token; `cls+mean`
        puts the two in a row.
        """
        parts = [self._pooled(x, part) for part in how.split("+")]
        return parts[0] if len(parts) == 1 else rearrange(parts, "part n c -> n (part c)")

    def _pooled(self, x: "Tensor", how: str) -> "Tensor":
        if how == "cls":
            return x[:, 0].clone()  # a view would keep all the tokens alive
        own = x[:, self.prefix :] if self.has_tokens else x
        result: Tensor = reduce(own, f"{AXES[self.name]} -> n c", how)
        return result

    def maps(self, x: "Tensor") -> "Tensor":
        """One map per channel: (n, c, rows, columns), of a volume (n, c, slices, rows, columns).

        The image's own tokens are a square, row by row. Raises ProbeError where there are no rows and columns.
        """
        if not self.has_tokens:
            space = [axis for axis in self.axes if axis not in ("n", "c")]
            if not space:
                raise ProbeError("one vector per image has no rows and columns")
            return rearrange(x, f"{AXES[self.name]} -> n c {' '.join(space)}")
        tokens = x[:, self.prefix :]
        side = math.isqrt(tokens.shape[1])
        if side * side != tokens.shape[1]:
            raise ProbeError(f"{tokens.shape[1]} tokens are no square")
        return rearrange(tokens, "n (h w) c -> n c h w", h=side)


LAYOUTS = tuple(map(Layout, AXES))
VECTOR = Layout("nd")


def find_layout(dimensions: int, channels: int | None) -> Layout | None:
    """The layout of a tensor of so many axes, batch first, whose axis number `channels` holds the channels.

    None where there is no such layout, or the axis is not known.
    """
    wanted = 1 if dimensions == 2 else channels
    fitting = (layout for layout in LAYOUTS if len(layout.axes) == dimensions and layout.axes.index("c") == wanted)
    return next(fitting, None)


@dataclass(frozen=True, kw_only=True)
class Tap:
    """A place where a network is read: the output of one of its stages.

    `depth` is the share of the stages that have run, `shape` that of one image's tensor; `params` and `macs` are
    those of the network up to there, multiply-accumulates of one image. Features made elsewhere do not know the
    last four.
    """

    name: str
    index: int
    depth: float
    layout: Layout | None = None
    shape: tuple[int, ...] = ()
    params: int | None = None
    macs: int | None = None

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Self:
        """The tap that `to_dict` gave. Raises ProbeError for a layout that does not exist."""
        layout = None
        if "layout" in facts:
            layout = Layout(facts["layout"], facts.get("prefix", 0), facts.get("cls", False))
        return cls(
            name=facts["tap"], index=facts["index"], depth=facts["depth"], layout=layout,
            shape=tuple(facts.get("shape", ())), params=facts.get("params"), macs=facts.get("macs"),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """What is known, as plain data: the form in manifests and in JSON."""
        known: dict[str, Any] = {"index": self.index, "tap": self.name}
        if self.layout is not None:
            known |= {"layout": self.layout.name, "shape": list(self.shape), "width": self.width}
            known |= {"prefix": self.layout.prefix, "cls": self.layout.cls}
        return known | self.costs() | {"depth": self.depth}

    def costs(self) -> dict[str, int]:
        """Parameters and MACs up to the tap, where they are known."""
        known = {"params": self.params, "macs": self.macs}
        return {name: cost for name, cost in known.items() if cost is not None}

    @property
    def width(self) -> int:
        """Number of channels."""
        return self._known().width(self.shape)

    @property
    def resolution(self) -> tuple[int, ...]:
        """The sides of its maps, or the number of the image's own tokens."""
        return self._known().resolution(self.shape)

    def check_pool(self, how: str) -> None:
        """Raise ProbeError when the tensor cannot be pooled so."""
        layout = self._known()
        if how not in POOLS:
            raise unknown("pool", how, POOLS)
        if "cls" in how and not layout.cls:
            raise ProbeError(f"no class token at '{self.name}' ({layout}); pool by 'mean' or 'max'")

    def pooled_width(self, how: str) -> int:
        """Length of the vector that `pool` gives."""
        return self.width * len(how.split("+"))

    def pool(self, x: "Tensor", how: str) -> "Tensor":
        """One vector per image, (n, d), of the tensor there; see `Layout.pool`. Raises ProbeError as `check_pool`."""
        self.check_pool(how)
        return self._known().pool(x, how)

    def maps(self, x: "Tensor") -> "Tensor":
        """The tensor there as one map per channel; see `Layout.maps`. Raises ProbeError where there is none."""
        try:
            return self._known().maps(x)
        except ProbeError as error:
            raise ProbeError(f"there are no maps at '{self.name}', for {error}; take an earlier tap") from None

    def _known(self) -> Layout:
        if self.layout is None:
            raise ProbeError(f"the tensor at '{self.name}' is not known, for its features were made elsewhere")
        return self.layout
