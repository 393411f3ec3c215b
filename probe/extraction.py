"""The walk: every tap of a network for a range of images, pooled batch by batch."""

import copy
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from probe.backbones import Backbone, Preprocessing
from probe.data import Dataset
from probe.errors import ProbeError
from probe.pooling import pooled
from probe.settings import Extraction

AHEAD = 2  # batches being read while one is computed


def transform(preprocessing: Preprocessing) -> v2.Compose:
    """From a PIL image to a (3, size, size) tensor of bytes; normalised later, on the device."""
    size = preprocessing.image_size
    interpolation = InterpolationMode(preprocessing.interpolation)
    whole = preprocessing.crop == "squash"
    resize = v2.Resize((size, size) if whole else size, interpolation=interpolation, antialias=True)
    return v2.Compose([resize, *([] if whole else [v2.CenterCrop(size)]), v2.PILToTensor()])


def walk_dataset(
    net: Backbone, data: Dataset, settings: Extraction, device: str, rows: range
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Pooled features of every tap, (batch, width) each, for the images in `rows`, in order.

    The network runs in eval mode as a copy on `device`, so the given one is left as it is.
    Raises ProbeError for an image that cannot be read or when the device's memory does not suffice.
    """
    dtype = getattr(torch, settings.dtype)
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    runner = copy.deepcopy(net).eval().to(device=device).to(memory_format=layout)
    normalise = _Normalise(net.origin.preprocessing, device)
    batches = read_batches(data, transform(net.origin.preprocessing), settings, rows)
    for images in batches:
        x = normalise(images.to(device, non_blocking=True)).contiguous(memory_format=layout)
        try:
            with (
                torch.inference_mode(),
                _full_precision(device),
                torch.autocast(torch.device(device).type, dtype, dtype != torch.float32),
            ):
                vectors = {stage.name: pooled(stage, out, settings.pool).float() for stage, out in runner.walk(x)}
            yield {tap: vector.cpu().numpy() for tap, vector in vectors.items()}
        except torch.OutOfMemoryError:
            raise ProbeError(
                f"{device} ran out of memory with {settings.batch_size} images at a time; take a smaller batch size"
            ) from None


def read_batches(data: Dataset, prepare: v2.Compose, settings: Extraction, indices: Sequence[int]) -> Iterator[Tensor]:
    """Batches of (n, 3, size, size) bytes, in order; the next ones are read while one is used."""
    size = settings.batch_size
    chunks = [indices[i : i + size] for i in range(0, len(indices), size)]

    def load(index: int) -> Tensor:
        tensor: Tensor = prepare(data.images.load(index))
        return tensor

    pool = ThreadPoolExecutor(settings.num_workers, thread_name_prefix="read")
    waiting: deque[list[Future[Tensor]]] = deque()
    try:
        for chunk in chunks:
            waiting.append([pool.submit(load, index) for index in chunk])
            if len(waiting) > AHEAD:
                yield torch.stack([future.result() for future in waiting.popleft()])
        while waiting:
            yield torch.stack([future.result() for future in waiting.popleft()])
    finally:
        pool.shutdown(cancel_futures=True)


def _full_precision(device: str) -> AbstractContextManager[None]:
    """On CUDA, convolutions in the precision asked for (TF32 has 10 bits) and by repeatable algorithms."""
    if not device.startswith("cuda"):
        return nullcontext()
    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return flags


class _Normalise:
    """Bytes to floats of the mean and spread that the weights were trained with."""

    def __init__(self, preprocessing: Preprocessing, device: str) -> None:
        self.mean = torch.tensor(preprocessing.mean, device=device).reshape(-1, 1, 1)
        self.std = torch.tensor(preprocessing.std, device=device).reshape(-1, 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        return (images.float() / 255 - self.mean) / self.std
