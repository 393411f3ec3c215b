"""Features made ready for the solver: standardised, and turned to the eigenbasis of their covariance.

The turn changes no answer, for the penalty is a sphere; it makes a diagonal of what would be the Hessian
if every row had the same curvature, and it leaves no more columns than there are rows: for d > n the
solution lies in the row space.

Columns are float32, means, spreads and the eigenbasis float64. Padding to a common size fills a batch:
padded rows are zero and weigh nothing, padded columns are zero.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probe.base.errors import ProbeError
from probe.probes.readout import CHUNK, Readable, rows_of

IN_MEMORY = 2 << 30  # bytes of columns; larger designs are read from the features again for every product

Raw = tuple[NDArray[np.float64], NDArray[np.float64]]


class StandardisedRows:
    """Some rows (n, d) of features, read chunk by chunk, with their means and spreads.

    Raises ProbeError for rows that are not finite.
    """

    def __init__(self, features: Readable, rows: NDArray[np.integer] | None = None) -> None:
        self.features = features
        self.rows = np.arange(len(features)) if rows is None else np.asarray(rows)
        self.center, self.scale = self._moments()

    def __len__(self) -> int:
        return len(self.rows)

    def _read(self) -> Iterator[Tensor]:
        for start in range(0, len(self), CHUNK):
            yield rows_of(self.features, self.rows[start : start + CHUNK])

    def _moments(self) -> tuple[Tensor, Tensor]:
        sums, bad = [], []
        for block in self._read():
            sums.append(block.sum(0))
            bad.append(~block.isfinite().all(1))
        broken = self.rows[torch.cat(bad).cpu().numpy()]
        if len(broken):
            raise ProbeError(f"{len(broken)} rows of features are not finite, the first of them row {broken[0]}")
        center = torch.stack(sums).sum(0) / len(self)
        spread = (torch.stack([(block - center).square().sum(0) for block in self._read()]).sum(0) / len(self)).sqrt()
        constant = spread <= 10 * torch.finfo(torch.float64).eps * center.abs()
        return center, spread.masked_fill(constant, 1)

    def standardised(self, by: "StandardisedRows | None" = None) -> Iterator[Tensor]:
        """Chunk by chunk, by their own means and spreads or by those of other rows, float64."""
        center, scale = (by or self).center, (by or self).scale
        for block in self._read():
            yield (block - center) / scale


class Design(StandardisedRows):
    """Standardised rows in the eigenbasis of their covariance."""

    def __init__(self, features: Readable, rows: NDArray[np.integer] | None = None, device: str = "cpu") -> None:
        super().__init__(features, rows)
        self.device = device
        self.wide = features.shape[1] > len(self.rows)
        self.streamed = len(self.rows) * min(len(self.rows), features.shape[1]) * 4 > IN_MEMORY and not self.wide
        values, vectors = torch.linalg.eigh(self._gram())
        keep = values > values[-1].clamp_min(0) * len(values) * torch.finfo(values.dtype).eps
        self.values, self.vectors = values[keep], vectors[:, keep]

    @property
    def rank(self) -> int:
        """Directions in which the features vary."""
        return len(self.values)

    def chunks(self) -> Iterator[Tensor]:
        """Standardised rows, float64."""
        for block in self.standardised():
            yield block.to(self.device)

    def columns(self) -> Tensor:
        """(n, rank) coordinates in the eigenbasis, float32."""
        if self.wide:
            coordinates: Tensor = self.vectors * self.values.sqrt()
            return coordinates.float()
        return torch.cat([(block @ self.vectors).float() for block in self.chunks()])

    def from_eigenbasis(self, weights: Tensor) -> Tensor:
        """(..., rank) weights in the eigenbasis as (..., d) weights of the standardised features."""
        turned: Tensor = weights.to(self.vectors) @ self._rotation.T
        return turned @ torch.cat(list(self.chunks())) if self.wide else turned

    def to_eigenbasis(self, raw: Raw) -> Tensor:
        """Weights (..., rank + 1) in the eigenbasis from coefficients (..., d) and intercepts (...) in raw units."""
        coef, intercept = raw
        weights = torch.from_numpy(coef * self.scale.cpu().numpy()).to(self.vectors)
        if self.wide:
            weights = weights @ torch.cat(list(self.chunks())).T
        shift = torch.from_numpy(intercept + coef @ self.center.cpu().numpy()).to(self.vectors)
        return torch.cat([weights @ self._rotation, shift[..., None]], -1)

    def raw(self, weights: Tensor) -> Raw:
        """Coefficients (..., d) and what they add to the intercept (...), in raw feature units, float64."""
        coef = (self.from_eigenbasis(weights).cpu() / self.scale.cpu()).numpy()
        return coef, -coef @ self.center.cpu().numpy()

    @property
    def _rotation(self) -> Tensor:
        """(d, rank) from standardised features to the eigenbasis; of a wide design (n, rank), from their kernel."""
        turn: Tensor = self.vectors / self.values.sqrt() if self.wide else self.vectors
        return turn

    def _gram(self) -> Tensor:
        """The smaller of the two Gram matrices; of a streamed design in float32 within a chunk, for it only turns."""
        if self.wide:
            every = torch.cat(list(self.chunks()))
            gram: Tensor = every @ every.T
            return gram
        size = self.features.shape[1]
        gram = torch.zeros(size, size, dtype=torch.float64, device=self.device)
        for block in self.chunks():
            part = block.float() if self.streamed else block
            gram += part.T @ part
        return gram


class Products(ABC):
    """What the solver needs of f designs: n rows (padded), r columns and one of ones for the intercept."""

    spread: Tensor  # (f, r + 1) mean square of each column

    @abstractmethod
    def logits(self, weights: Tensor) -> Tensor:
        """(f, q, k, n) from weights (f, q, k, r + 1)."""

    @abstractmethod
    def weighted_sums(self, residual: Tensor) -> Tensor:
        """(f, q, k, r + 1) from residuals (f, q, k, n): the columns' sums weighted by them."""


class Stack(Products):
    """Designs side by side in one tensor; a product with all of them is one batched matrix product."""

    def __init__(self, designs: Sequence[Design]) -> None:
        rows, rank = max(map(len, designs)), max(design.rank for design in designs)
        self.columns = torch.zeros(len(designs), rows, rank + 1, device=designs[0].device)
        for slot, design in zip(self.columns, designs, strict=True):
            slot[: len(design), : design.rank] = design.columns()
            slot[: len(design), -1] = 1
        lengths = torch.tensor([len(design) for design in designs], device=self.columns.device)
        self.spread = self.columns.square().sum(1) / lengths[:, None]

    def logits(self, weights: Tensor) -> Tensor:
        flat = torch.bmm(weights.flatten(1, 2), self.columns.mT)
        return flat.view(*weights.shape[:3], -1)

    def weighted_sums(self, residual: Tensor) -> Tensor:
        return torch.bmm(residual.flatten(1, 2), self.columns).view(*residual.shape[:3], -1)


class Stream(Products):
    """One design that does not fit into memory: every product reads the features again, and turns the weights."""

    def __init__(self, design: Design) -> None:
        self.design = design
        self.rotation = design.vectors.float()
        ones = design.values.new_tensor([len(design)])
        self.spread = (torch.cat([design.values, ones]) / len(design))[None].float()

    def logits(self, weights: Tensor) -> Tensor:
        turned = weights[0, ..., :-1] @ self.rotation.T
        flat = torch.cat([turned.flatten(0, 1) @ block.float().T for block in self.design.chunks()], dim=1)
        return flat.view(*weights.shape[:3], -1) + weights[..., -1:]

    def weighted_sums(self, residual: Tensor) -> Tensor:
        flat = residual[0].flatten(0, 1)
        total, start = flat.new_zeros(len(flat), len(self.rotation)), 0
        for block in self.design.chunks():
            total += flat[:, start : start + len(block)] @ block.float()
            start += len(block)
        return torch.cat([total @ self.rotation, flat.sum(1, keepdim=True)], 1).view(*residual.shape[:3], -1)
