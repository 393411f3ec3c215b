"""CKA of what is too large to keep, such as whole feature maps: the unbiased minibatch estimator, in one pass."""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from numpy.typing import NDArray
from torch import Tensor

from analysis.similarity.bands import Estimate, band, half_samples
from analysis.similarity.centred import Matrix
from analysis.similarity.cka import LEAST, hsic, normalised
from probe.base.errors import ProbeError
from probe.scoring.statistics import LEVEL

COLUMNS = 2**14  # of flattened maps, multiplied at once: 32 images of them stay in a core's cache
FEWEST = LEAST[True]
HALVED = 8  # batches whose halves tell a band


class MinibatchCKA:
    """An estimate of linear CKA between all taps from batches of images, whose features need not be kept.

    The unbiased HSIC of a batch estimates that of all images; its mean over batches, weighted by their rows, replaces
    it in CKA. Nguyen et al. 2021 (arXiv:2010.15327), section 2. An estimate, neither clamped nor the CKA of all rows:
    only images that share a batch are compared, so batches must be drawn at random, not class by class. A batch of
    fewer than four has no unbiased HSIC; it is left out and counted in `left_out`. A batch costs O(b^2 d) per tap and
    O(b^2 t^2) for all pairs; b^2 numbers are held per tap, and one map at a time. Maps are read once, where they are:
    centred and multiplied in blocks of float32 (float64 stays), summed in float64. `permutations` of the images of each
    batch, drawn from `seed`, give the null of `estimate`.
    """

    def __init__(self, permutations: int = 0, seed: int = 0) -> None:
        self.taps: list[str] = []
        self.images = self.left_out = 0
        self._found: list[Matrix] = []
        self._null: list[Matrix] = [np.zeros((0, 0))] * permutations
        self._generator = np.random.default_rng(seed)

    @property
    def batches(self) -> int:
        """How many have been added."""
        return len(self._found)

    def update(self, maps: Iterable[tuple[str, Tensor | NDArray[np.floating]]]) -> "MinibatchCKA":
        """Add a batch: the name and the maps (b, ...) of each tap, which are read one after the other.

        Raises ProbeError when taps differ in their rows, or from those of the batches before.
        """
        names, kernels = [], []
        for name, batch in maps:
            names.append(name)
            kernels.append(_kernel(name, torch.as_tensor(batch)))
            if len(batch) != len(kernels[0]):
                raise ProbeError(f"a batch has {len(kernels[0])} rows at '{names[0]}' and {len(batch)} at '{name}'")
        if not names or (self.taps and names != self.taps):
            raise ProbeError(f"a batch has the taps {', '.join(names) or 'none'}; before there were {self.taps}")
        self.taps = names
        rows = len(kernels[0])
        if rows < FEWEST:
            self.left_out += rows
            return self
        every = np.stack(kernels)
        for at, before in enumerate(self._null):
            order = self._generator.permutation(rows)
            crossed = rows * _hsic(np.concatenate([every, every[:, order][:, :, order]]))[: len(every), len(every) :]
            self._null[at] = before + crossed if self.batches else crossed
        self._found.append(rows * _hsic(every))
        self.images += rows
        return self

    def matrix(self) -> Float[ndarray, "t t"]:
        """The estimate between every two of `taps`. Raises ProbeError before there is one."""
        if not self.batches:
            raise ProbeError(f"no batch had {FEWEST} images or more, so there is no estimate; make batches larger")
        return normalised(np.sum(self._found, axis=0) / self.images, self.taps)

    def estimate(self, draws: int = 0) -> Estimate:
        """The same with a band from `draws` random halves of the batches, and the null.

        See `bands.estimate`; images of a group may be in different batches. There is no band from fewer than eight
        batches. Raises ProbeError before there is an estimate, and where it is not defined for a half.
        """
        value = self.matrix()
        chosen = half_samples(self.batches, None, draws if self.batches >= HALVED else 0, self._generator)
        halves = [normalised(np.sum(np.array(self._found)[half], axis=0), self.taps) for half in chosen]
        scale = np.sqrt(np.diag(np.sum(self._found, axis=0)))
        null = [found / np.outer(scale, scale) for found in self._null]
        none = np.full_like(value, np.nan)
        return Estimate(value, *band(value, np.array(halves)), np.quantile(null, LEVEL, axis=0) if null else none)


def _hsic(kernels: Float[ndarray, "t b b"]) -> Matrix:
    """The unbiased HSIC of every two kernels of a batch."""
    own = np.diagonal(kernels, axis1=1, axis2=2)
    flat = kernels.reshape(len(kernels), -1)
    return hsic(flat @ flat.T - own @ own.T, own, unbiased=True)


def _kernel(name: str, maps: Tensor) -> Matrix:
    """The linear kernel (b, b) of a batch: of differences to the first image, in which no digits are lost, centred."""
    flat = _flat(maps)
    kernel = torch.zeros(len(flat), len(flat), dtype=torch.float64, device=flat.device)
    for start in range(0, flat.shape[1], COLUMNS):
        part = flat[:, start : start + COLUMNS]
        part = part if part.dtype == torch.float64 else part.float()
        part = part - part[:1]
        kernel += part @ part.T
    if not kernel.isfinite().all():
        raise ProbeError(f"'{name}' has values that are not finite")
    means = kernel.mean(0)
    return (kernel - means - means[:, None] + means.mean()).cpu().numpy()


def _flat(maps: Tensor) -> Tensor:
    """An image's values in a row, in the order of the memory, for which a kernel has no preference."""
    order = sorted(range(1, maps.ndim), key=maps.stride, reverse=True)
    return maps.permute(0, *order).reshape(len(maps), -1)
