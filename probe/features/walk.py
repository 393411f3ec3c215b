"""The walk: every tap of a network for a range of images, pooled batch by batch."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from probe.backbones import Preprocessing
from probe.base.errors import ProbeError
from probe.data import Dataset, Images
from probe.features.network_reader import Reader
from probe.settings import Batches

AHEAD = 2  # batches being read while one is computed


class Loads(Protocol):
    """Whatever gives an image for a number."""

    def load(self, index: int) -> Image.Image: ...


def transform(preprocessing: Preprocessing) -> v2.Compose:
    """From a PIL image to a (3, size, size) tensor of bytes; normalised later, on the device."""
    size = preprocessing.image_size
    interpolation = InterpolationMode(preprocessing.interpolation)
    whole = preprocessing.crop == "squash"
    resize = v2.Resize((size, size) if whole else size, interpolation=interpolation, antialias=True)
    return v2.Compose([resize, *([] if whole else [v2.CenterCrop(size)]), v2.PILToTensor()])


def walk_dataset(read: Reader, data: Dataset, rows: range) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Pooled features of every tap, (batch, width) each, for the images in `rows`, in order.

    Raises ProbeError for an image that cannot be read or when the device's memory does not suffice.
    """
    settings = read.settings
    for images in read_batches(data.images, transform(read.preprocessing), settings, rows):
        try:
            yield {tap: vector.cpu().numpy() for tap, vector in read(images).items()}
        except torch.OutOfMemoryError:
            raise ProbeError(
                f"{read.device} ran out of memory with {settings.batch_size} images at a time; "
                "take a smaller batch size"
            ) from None


def read_batches(source: Images, prepare: v2.Compose, settings: Batches, indices: Sequence[int]) -> Iterator[Tensor]:
    """Batches of (n, 3, size, size) bytes, in order; see `read_chunks`."""
    size = settings.batch_size
    return read_chunks(
        source, prepare, settings.num_workers, [indices[i : i + size] for i in range(0, len(indices), size)]
    )


def read_chunks(
    source: Loads, prepare: v2.Compose, workers: int, chunks: Iterable[Sequence[int] | NDArray[np.int64]]
) -> Iterator[Tensor]:
    """Bytes (n, 3, size, size) of the images with the numbers in each chunk; the next are read while one is used."""

    def load(index: int) -> Tensor:
        tensor: Tensor = prepare(source.load(index))
        return tensor

    pool = ThreadPoolExecutor(workers, thread_name_prefix="read")
    waiting: deque[list[Future[Tensor]]] = deque()
    try:
        for chunk in chunks:
            waiting.append([pool.submit(load, int(index)) for index in chunk])
            if len(waiting) > AHEAD:
                yield torch.stack([future.result() for future in waiting.popleft()])
        while waiting:
            yield torch.stack([future.result() for future in waiting.popleft()])
    finally:
        pool.shutdown(cancel_futures=True)
