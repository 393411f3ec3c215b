"""Which axis of a tensor holds the channels, read from the layers that consume it.

A convolution fixes axis 1, a linear layer or a layer norm the last; every other operation hands
the answer back from its output to its input. Nothing in a shape tells Swin's channels-last maps
from a ResNet's, and pooled over the wrong axes they would give numbers without an error.
"""

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

_FIRST = frozenset(
    "conv1d conv2d conv3d batch_norm group_norm instance_norm interpolate pixel_shuffle max_pool2d max_pool3d "
    "avg_pool2d avg_pool3d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d".split()
)
_LAST = frozenset(["linear", "layer_norm", "rms_norm"])
_MIXES = frozenset(["matmul", "bmm", "einsum", "__matmul__", "scaled_dot_product_attention"])
_REGROUPS = frozenset(["reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze"])
_SPLITS = frozenset(["chunk", "split"])


class ChannelAxes(TorchFunctionMode):
    """Records the function calls made under it; `axis` then tells where a tensor's channels are."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[_Call] = []  # holds the tensors: their ids stay theirs
        self._axes: dict[int, int] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = (*args, *(kwargs or {}).values())
        self._calls += [_Call(getattr(func, "__name__", ""), given, made) for made in _tensors((result,))]
        return result

    def settle(self) -> None:
        """Ask the consumers, the nearest last so that it has the last word; where none knows, the producers."""
        for call in reversed(self._calls):
            for source in call.sources:
                axis = call.axis_before(source, self._axes.get(id(call.result)))
                if axis is not None:
                    self._axes[id(source)] = axis
        for call in self._calls:
            axis = call.axis_after(self._axes)
            if axis is not None:
                self._axes.setdefault(id(call.result), axis)

    def axis(self, tensor: Tensor) -> int | None:
        """Index of the channel axis, or None when no layer that fixes it could be asked."""
        return self._axes.get(id(tensor))


@dataclass(frozen=True)
class _Call:
    """One function call: what it was given and one tensor that it made."""

    name: str
    args: tuple[Any, ...]
    result: Tensor

    @property
    def sources(self) -> list[Tensor]:
        """The tensors whose channels matter: of a layer, its input and not its weights."""
        return _tensors(self.args)[: 1 if self.name in _FIRST | _LAST else None]

    def axis_before(self, source: Tensor, axis: int | None) -> int | None:
        """Channel axis of `source` when that of the result is `axis`."""
        if self.name in _FIRST:
            return 1
        if self.name in _LAST:
            return source.ndim - 1
        if self.name == "mean":
            return _kept(self.args[1:], source)
        if axis is None or self.name in _MIXES:
            return None
        if self.name == "permute":
            return self._dims(source)[axis]
        if self.name == "transpose":
            return self._swapped(source, axis)
        if self.name in _REGROUPS:
            return _regrouped(source, self.result, axis)
        return axis if self._keeps(source, axis) else None

    def axis_after(self, axes: dict[int, int]) -> int | None:
        """Channel axis of the result when those of the sources are known."""
        if self.name in _FIRST or self.name in _LAST:
            return 1 if self.name in _FIRST else self.result.ndim - 1
        source = next((source for source in self.sources if id(source) in axes), None)
        if source is None or self.name in _MIXES or self.name == "mean":
            return None
        axis = axes[id(source)]
        if self.name == "permute":
            return self._dims(source).index(axis)
        if self.name == "transpose":
            return self._swapped(source, axis)
        if self.name in _REGROUPS:
            return _regrouped(self.result, source, axis)
        return axis if self._keeps(source, axis) else None

    def _dims(self, source: Tensor) -> list[int]:
        dims = self.args[1] if isinstance(self.args[1], list | tuple) else self.args[1:]
        return [int(dim) % source.ndim for dim in dims]

    def _swapped(self, source: Tensor, axis: int) -> int:
        first, second = (int(dim) % source.ndim for dim in self.args[1:3])
        return {first: second, second: first}.get(axis, axis)

    def _keeps(self, source: Tensor, axis: int) -> bool:
        same_size = source.ndim == self.result.ndim and source.shape[axis] == self.result.shape[axis]
        return same_size or (self.name in _SPLITS and source.ndim == self.result.ndim)


def _tensors(args: tuple[Any, ...]) -> list[Tensor]:
    nested = [item for arg in args for item in (arg if isinstance(arg, list | tuple) else [arg])]
    return [item for item in nested if isinstance(item, Tensor)]


def _kept(dims: tuple[Any, ...], source: Tensor) -> int | None:
    """The one axis, besides the batch, that a mean leaves."""
    flat = [item for dim in dims for item in (dim if isinstance(dim, list | tuple) else [dim])]
    reduced = {dim % source.ndim for dim in flat if isinstance(dim, int) and not isinstance(dim, bool)}
    left = set(range(1, source.ndim)) - reduced
    return left.pop() if reduced and len(left) == 1 else None


def _regrouped(source: Tensor, result: Tensor, axis: int) -> int | None:
    """The axis of `source` that a reshape left whole at `axis`: same size, same stride in elements."""
    for candidate, size in enumerate(source.shape):
        before = math.prod(source.shape[:candidate]) == math.prod(result.shape[:axis])
        if before and size == result.shape[axis]:
            return candidate
    return None
