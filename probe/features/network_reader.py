"""A network as one function from bytes to the pooled vectors of all its taps, eager or compiled.

The compiled form is one frozen graph of fixed shape: normalisation, stages and pooling together, constants
folded (BatchNorm into the convolutions before it), so that a batch is padded, never smaller.
"""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from probe.backbones import Backbone, Preprocessing
from probe.base.runtime import log
from probe.settings import Extraction

REPAYS = 1e13  # multiply-accumulates of a job that pays for compiling: 2,400 images of ResNet-50 at 224 pixels
REPAYS_BFLOAT16 = REPAYS / 2


class NotCompiledError(Exception):
    """A network could not be compiled; it can still be read as it is."""


def settle(settings: Extraction, macs: float, device: str) -> Extraction:
    """What `auto` means for a job of so many multiply-accumulates, decided before the first image.

    Compiled is a long job on a CPU; compiled in bfloat16 where the CPU gains by it, else in float32.
    """
    quickest = "bfloat16" if device == "cpu" and _gains_by_bfloat16() else "float32"
    compiled, dtype = settings.compile, quickest if settings.dtype == "auto" else settings.dtype
    if compiled == "auto":
        repays = REPAYS_BFLOAT16 if dtype == "bfloat16" else REPAYS
        compiled = "on" if device == "cpu" and macs >= repays else "off"
    if compiled == "off" and settings.dtype == "auto":
        dtype = "float32"
    return replace(settings, compile=compiled, dtype=dtype)


def _gains_by_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 faster than float32; Intel's do so by their matrix units alone."""
    found: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    kinds = {name for name, there in found.items() if there is True and name.endswith("bf16")}
    if str(found.get("cpu_name")).startswith("Intel"):
        kinds &= {"amx_bf16"}
    return bool(kinds)


class Reader:
    """Reads every tap of a network off batches of bytes (n, 3, size, size): float32 vectors (n, width), by tap.

    The network runs in eval mode as a copy on `device`, so the given one is left as it is. `settings` are
    settled. Raises NotCompiledError when it should be compiled and cannot be.
    """

    def __init__(self, net: Backbone, settings: Extraction, device: str) -> None:
        self.taps, self.preprocessing = net.taps, net.origin.preprocessing
        self.device, self.settings = device, settings
        walk = _Walk(net, settings, device)
        self._walk: Callable[[Tensor], tuple[Tensor, ...]] = walk
        self._size = 0  # of a compiled batch
        if settings.compile == "on":
            self._size = settings.batch_size
            self._walk = _compiled(walk, self._blank())

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        count = len(images)
        if self._size:
            images = torch.cat([images, images.new_zeros(self._size - count, *images.shape[1:])])
        with torch.no_grad() if self._size else torch.inference_mode(), full_precision(self.device):
            vectors = self._walk(images.to(self.device, non_blocking=True))
        return {tap: vector[:count] for tap, vector in zip(self.taps, vectors, strict=True)}

    def _blank(self) -> Tensor:
        side = self.preprocessing.image_size
        return torch.zeros(self._size, len(self.preprocessing.mean), side, side, dtype=torch.uint8, device=self.device)


class _Walk(nn.Module):
    """Normalise, run the stages, pool each."""

    def __init__(self, net: Backbone, settings: Extraction, device: str) -> None:
        super().__init__()
        self.layout = torch.channels_last if settings.channels_last else torch.contiguous_format
        self.net = copy.deepcopy(net).eval().to(device)
        for tensor in (*self.net.parameters(), *self.net.buffers()):
            if tensor.ndim == 4:  # `Module.to` would do so to tensors of five axes, which have no such layout
                tensor.data = tensor.data.contiguous(memory_format=self.layout)
        self.taps, self.pool = net.table(), settings.pool
        self.dtype, self.kind = getattr(torch, settings.dtype), torch.device(device).type
        self.mean, self.std = moments(net.origin.preprocessing, device)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = normalised(images, self.mean, self.std).contiguous(memory_format=self.layout)
        vectors = []
        with torch.autocast(self.kind, self.dtype, self.dtype != torch.float32):
            for tap, (_, out) in zip(self.taps, self.net.walk(x), strict=True):
                vectors.append(tap.pool(out, self.pool).float())
        return tuple(vectors)


def _compiled(walk: _Walk, blank: Tensor) -> Callable[[Tensor], tuple[Tensor, ...]]:
    log.info("compiling for %s batches of %d; this takes half a minute or more", walk.kind, len(blank))
    frozen: Callable[[Tensor], tuple[Tensor, ...]] = torch.compile(walk, dynamic=False, options={"freezing": True})
    try:
        with torch.no_grad():
            frozen(blank)
    except Exception as error:  # of the compiler, of a missing C++ toolchain, of an operation it does not know
        raise NotCompiledError((str(error).strip().splitlines() or [type(error).__name__])[0]) from None
    return frozen


def normalised(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """What a network takes, from bytes (n, c, h, w) and the moments it was trained with."""
    return (images.float() / 255 - mean) / std


def moments(preprocessing: Preprocessing, device: str) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the channels, each (c, 1, 1)."""
    mean = torch.tensor(preprocessing.mean, device=device).reshape(-1, 1, 1)
    return mean, torch.tensor(preprocessing.std, device=device).reshape(-1, 1, 1)


def full_precision(device: str) -> AbstractContextManager[None]:
    """On CUDA, convolutions in the precision asked for (TF32 has 10 bits) and by repeatable algorithms."""
    if not device.startswith("cuda"):
        return nullcontext()
    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return flags
