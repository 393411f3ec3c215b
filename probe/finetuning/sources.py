"""What goes into the part of a network that is trained: pictures, or what a frozen bottom made of them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probe.backbones import Preprocessing
from probe.data import Dataset
from probe.extraction import read_chunks, transform
from probe.finetuning.batches import Changed, Rows
from probe.readers import moments, normalised
from probe.settings import Training


class Source(Protocol):
    """Inputs of stage number `first` and what is above it."""

    first: int

    def batches(self, order: Rows, chunks: Sequence[Rows], seeds: Sequence[int] | None = None) -> Iterator[Tensor]:
        """One tensor per chunk, positions in `order`, which holds row numbers; with `seeds` as they are trained on."""
        ...


class Pictures:
    """Images, read as the model asks; changed at random when there are `seeds`."""

    first = 0

    def __init__(self, data: Dataset, preprocessing: Preprocessing, training: Training, device: str) -> None:
        self.images, self.training, self.device = data.images, training, device
        self.preprocessing = preprocessing
        self.mean, self.std = moments(preprocessing, device)

    def batches(self, order: Rows, chunks: Sequence[Rows], seeds: Sequence[int] | None = None) -> Iterator[Tensor]:
        augment = "none" if seeds is None else self.training.augment
        images = Changed(self.images, order, augment, seeds or ())
        whole = self.preprocessing if augment == "none" else replace(self.preprocessing, crop="squash")
        for batch in read_chunks(images, transform(whole), self.training.num_workers, chunks):
            yield normalised(batch.to(self.device, non_blocking=True), self.mean, self.std)


class Outputs:
    """What frozen stages made of every image: rows (n, width) that are the inputs of stage number `first`."""

    def __init__(self, array: NDArray[np.floating], shape: Sequence[int], first: int, device: str) -> None:
        """`shape` is that of one image's tensor at the boundary."""
        self.array, self.shape, self.first, self.device = array, tuple(shape), first, device

    def batches(self, order: Rows, chunks: Sequence[Rows], seeds: Sequence[int] | None = None) -> Iterator[Tensor]:
        for chunk in chunks:
            rows = torch.from_numpy(np.asarray(self.array[order[chunk]])).to(self.device, non_blocking=True)
            yield rows.reshape(len(chunk), *self.shape)
