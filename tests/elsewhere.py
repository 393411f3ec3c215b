"""A second device where there is none: tensors in main memory that are not mixed with others, as those of a GPU.

`meta` is the one other device that every build of torch knows. What is asked to be there is intercepted before torch
would make a tensor without numbers of it, and computed on the CPU; a product of a tensor that is there and one that
is not is refused, by the rules of CUDA: a tensor without axes may be anywhere, and so may the places of an index.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = "meta"
aten = torch.ops.aten
CROSSING = (aten._to_copy.default, aten.copy_.default)
INDEXING = (aten.index.Tensor, aten.index_put_.default)


class Far(Tensor):
    """A tensor that says it is elsewhere; `near` holds its numbers."""

    near: Tensor

    @staticmethod
    def __new__(cls, near: Tensor) -> "Far":
        """Of the same shape, strides and kind."""
        far: Far = Tensor._make_wrapper_subclass(
            cls, near.shape, strides=near.stride(), storage_offset=near.storage_offset(), dtype=near.dtype,
            device=torch.device(DEVICE),
        )  # fmt: skip
        far.near = near
        return far

    @classmethod
    def __torch_dispatch__(
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Every operation on it."""
        return _compute(func, args, dict(kwargs or {}))


class _Dispatched(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _compute(func, args, dict(kwargs or {}))


class _Listed(TorchFunctionMode):
    """Lists of numbers become tensors below what is intercepted; so they are made here and sent there."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.tensor and "device" in kwargs:
            device = kwargs.pop("device")
            return torch.tensor(*args, **kwargs).to(device)
        if func is Tensor.new_tensor:
            return torch.tensor(*args[1:], dtype=args[0].dtype, **kwargs).to(args[0].device)
        if func is Tensor.__getitem__ and isinstance(args[1], list):
            args = (args[0], torch.tensor(args[1]))
        return func(*args, **kwargs)


@contextmanager
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The device, with 2 GB; without automatic mixed precision and inference mode, which do not know its like."""
    with monkeypatch.context() as patched, _Listed(), _Dispatched():
        patched.setattr(torch, "autocast", lambda *_: nullcontext())
        patched.setattr(torch, "inference_mode", lambda mode=True: torch.set_grad_enabled(not mode))
        patched.setattr("probe.features.features.free_memory", lambda device: (device == DEVICE) * 2 * 10**9)
        yield DEVICE


def _compute(func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
    far = [each for each in tensors if isinstance(each, Far)]
    assert all(isinstance(each, Far) or not each.is_meta for each in tensors), f"a tensor without numbers in {func}"
    if far and func not in CROSSING:
        free = tree_leaves(args[1]) if func in INDEXING else ()
        if any(each.ndim and not isinstance(each, Far) and all(each is not one for one in free) for each in tensors):
            raise RuntimeError(f"{func} of tensors on several devices")
    there = torch.device(kwargs["device"]).type == DEVICE if kwargs.get("device") else bool(far)
    if func is aten.copy_.default:
        there = isinstance(args[0], Far)
    near_args, near_kwargs = tree_map_only(Far, lambda each: each.near, (args, kwargs))
    if "device" in kwargs:
        near_kwargs["device"] = torch.device("cpu")
    found = func(*near_args, **near_kwargs)
    same = {id(each.near): each for each in far}  # what is written to stays the tensor it is
    return tree_map_only(Tensor, lambda one: same[id(one)] if id(one) in same else Far(one), found) if there else found
