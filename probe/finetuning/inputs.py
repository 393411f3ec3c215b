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
from probe.features.network_reader import moments, normalised
from probe.features.walk import read_chunks, transform
from probe.finetuning.batches import Changed, Indices
from probe.settings import Training


class Source(Protocol):
    """Inputs of stage number `first` and what is above it."""

    first: int

    def batches(
        self, order: Indices, chunks: Sequence[Indices], seeds: Sequence[int] | None = None
    ) -> Iterator[Tensor]:
        """One tensor per chunk, positions in `order`, which holds row numbers; as trained on with `seeds`, the run's
        and the epoch.
        """
        ...


def view_of(seeds: Sequence[int], views: int) -> int:
    """Which of a fixed number of views an epoch, counted from 1, shows."""
    return (seeds[1] - 1) % views


class Pictures:
    """Images, read as the model asks; changed at random when there are `seeds`."""

    first = 0

    def __init__(self, data: Dataset, preprocessing: Preprocessing, training: Training, device: str) -> None:
        self.images, self.training, self.device = data.images, training, device
        self.preprocessing = preprocessing
        self.mean, self.std = moments(preprocessing, device)

    def batches(
        self, order: Indices, chunks: Sequence[Indices], seeds: Sequence[int] | None = None
    ) -> Iterator[Tensor]:
        augment = "none" if seeds is None else self.training.augment
        views = self.training.views
        drawn = (seeds[0], view_of(seeds, views)) if seeds and views else seeds
        images = Changed(self.images, order, augment, drawn or (), by_row=views > 0)
        whole = self.preprocessing if augment == "none" else replace(self.preprocessing, crop="squash")
        for batch in read_chunks(images, transform(whole), self.training.num_workers, chunks):
            yield normalised(batch.to(self.device, non_blocking=True), self.mean, self.std)


class Outputs:
    """What frozen stages made of every image: rows (n, width) that are the inputs of stage number `first`.

    `views` are the same of changed images, trained on in turn; `shape` is that of one image's tensor at the boundary.
    """

    def __init__(
        self, array: NDArray[np.floating], shape: Sequence[int], first: int, device: str,
        views: Sequence[NDArray[np.floating]] = (),
    ) -> None:  # fmt: skip
        self.array, self.shape, self.first, self.device = array, tuple(shape), first, device
        self.views = views

    def batches(
        self, order: Indices, chunks: Sequence[Indices], seeds: Sequence[int] | None = None
    ) -> Iterator[Tensor]:
        array = self.views[view_of(seeds, len(self.views))] if seeds and self.views else self.array
        for chunk in chunks:
            rows = torch.from_numpy(np.asarray(array[order[chunk]])).to(self.device, non_blocking=True)
            yield rows.reshape(len(chunk), *self.shape)
