"""What a network costs to run up to each tap: parameters, multiply-accumulates, time and memory.

Time is taken on a walk: the moment at which each tap is reached. A network cut there runs the same
stages in the same order, so that is its time, for all taps in as many passes as for one.
"""

import copy
import time
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from probe.backbones import Backbone
from probe.base.errors import ProbeError
from probe.base.runtime import hardware, pick_device

WARM_UP = 2  # passes before the first that counts


def tap_costs(net: Backbone, batch_size: int = 8, device: str = "auto", repeats: int = 10) -> list[dict[str, Any]]:
    """Per tap, as plain data, what `net.table()` tells and what was measured for a network cut there, without a head.

    `latency_ms` is the time of an image, the median of `repeats` passes of `batch_size` images in float32,
    `latency_ms_low` and `latency_ms_high` the quartiles. `memory_mb` (10^6 bytes) is what such a pass
    needs at its peak: weights, input, and tensors alive at once; on CUDA also the working space of the
    kernels, as its allocator counts it. `net` is left as it is.

    Raises ProbeError when the device's memory does not suffice.
    """
    chosen = pick_device(device)
    try:
        trunk = copy.deepcopy(net.cut(-1)).eval().to(chosen)
        images = blank_images(net, batch_size, chosen)
        times = np.array([_times(trunk, images) for _ in range(WARM_UP + repeats)])[WARM_UP:]
        peaks = _peaks(trunk, images)
    except torch.OutOfMemoryError:
        raise ProbeError(f"{chosen} ran out of memory with {batch_size} images; take a smaller batch size") from None
    low, median, high = np.percentile(times / batch_size * 1e3, (25, 50, 75), axis=0)
    measured = zip(median, low, high, peaks, strict=True)
    return [
        {
            **tap.to_dict(),
            "latency_ms": float(m),
            "latency_ms_low": float(a),
            "latency_ms_high": float(b),
            "memory_mb": peak / 1e6,
        }
        for tap, (m, a, b, peak) in zip(net.table(), measured, strict=True)
    ]


def latency(run: Callable[[Tensor], Tensor], images: Tensor, repeats: int = 5) -> dict[str, Any]:
    """Milliseconds that `run` takes for an image, the median of several passes, and on what it was measured."""
    device = str(images.device)
    times = []
    for _ in range(WARM_UP + repeats):
        start = _now(device)
        run(images)
        times.append(_now(device) - start)
    seconds = float(np.median(times[WARM_UP:]))
    return {"ms_per_image": seconds / len(images) * 1e3, "batch_size": len(images), **hardware(device)}


def blank_images(net: Backbone, count: int, device: str) -> Tensor:
    """Preprocessed images without content, of the size that a network takes."""
    size = net.origin.preprocessing.image_size
    return torch.zeros(count, len(net.origin.preprocessing.mean), size, size, device=device)


@torch.inference_mode()
def _times(trunk: Backbone, images: Tensor) -> list[float]:
    """Seconds from the start of a pass until each tap is reached."""
    device = str(images.device)
    start = _now(device)
    return [_now(device) - start for _ in trunk.walk(images)]


def _now(device: str) -> float:
    """The time at which all that was asked of a device is done."""
    if device != "cpu":
        getattr(torch, torch.device(device).type).synchronize()
    return time.perf_counter()


@torch.no_grad()
def _peaks(trunk: Backbone, images: Tensor) -> list[int]:
    """Bytes needed up to each tap: the weights up to there, and the most that was alive at once beside them."""
    held, weights = [], []
    seen: dict[int, int] = {}
    for stage in trunk.stages:
        seen |= {tensor.data_ptr(): tensor.nbytes for tensor in (*stage.parameters(), *stage.buffers())}
        weights.append(sum(seen.values()))
    if images.is_cuda:
        torch.cuda.reset_peak_memory_stats(images.device)
        before = torch.cuda.memory_allocated(images.device) - images.nbytes
        held = [torch.cuda.max_memory_allocated(images.device) - before for _ in trunk.walk(images)]
    else:
        with Alive(trunk, images) as alive:
            held = [alive.peak for _ in trunk.walk(images)]
    return [a + b for a, b in zip(weights, held, strict=True)]


class Alive(TorchDispatchMode):
    """Counts the bytes of the tensors that operations made and that are still alive, and their `peak`.

    The weights of `network` do not count, `images` do. What a kernel needs within itself is not seen. Not for
    inference mode, where a view does not keep its base.
    """

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._others = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
        self._holders: Counter[int] = Counter()  # tensors that share a storage, by its address
        self.now = self.peak = 0
        self._note(images)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for made in tree_leaves(result):
            if isinstance(made, Tensor):
                self._note(made)
        return result

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        if address in self._others:
            return
        if not self._holders[address]:
            self.now += size
            self.peak = max(self.peak, self.now)
        self._holders[address] += 1
        weakref.finalize(tensor, self._release, address, size)

    def _release(self, address: int, size: int) -> None:
        self._holders[address] -= 1
        if not self._holders[address]:
            self.now -= size
