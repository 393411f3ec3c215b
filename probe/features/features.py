"""Features of a data set at every tap of a network, as a mapping from tap to memory-mapped array."""

import copy
import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from probe.backbones.taps import Tap
from probe.base.lookup import unknown
from probe.base.runtime import free_memory, log
from probe.cache.store import Store
from probe.data import Dataset

if TYPE_CHECKING:
    from torch import Tensor


class Features(Mapping[str, NDArray[np.floating]]):
    """Tap name to a read-only (n, d) array; rows in the order of `ids`, `labels`, `groups`, `splits`.

    `taps` describes each tap, bottom to top, `origin` the network they were read from, `request`
    names the cache entry in `folder` and `details` is all it stands for.
    """

    def __init__(
        self,
        arrays: Mapping[str, Path | NDArray[np.floating]],
        data: Dataset,
        folder: Path,
        taps: Sequence[Tap],
        origin: dict[str, Any],
        details: dict[str, Any],
    ) -> None:
        """`arrays` hold the features of each tap, or name the files that do."""
        self.data, self.folder, self.request = data, folder, folder.name
        self.taps, self.origin, self.details = list(taps), origin, details
        self._arrays = dict(arrays)
        self._kept: dict[str, Tensor] = {}

    @classmethod
    def of(cls, store: Store, data: Dataset) -> Self:
        """What a complete store holds."""
        paths = {tap: store.arrays[tap].path for tap in store.widths}
        origin = store.facts["origin"]  # the name it was asked by now, not at first
        taps = map(Tap.from_dict, store.manifest["taps"])
        return cls(paths, data, store.folder, list(taps), origin, store.manifest["request"])

    def __getitem__(self, tap: str) -> NDArray[np.floating]:
        if tap not in self._arrays:
            raise KeyError(str(unknown("tap", tap, list(self))))
        found = self._arrays[tap]
        return np.load(found, mmap_mode="r", allow_pickle=False) if isinstance(found, Path) else found

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    @property
    def ids(self) -> NDArray[np.str_]:
        """Name of each image."""
        return self.data.ids

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) class indices or (n, classes) zeros and ones."""
        return self.data.labels

    @property
    def groups(self) -> NDArray[np.str_] | None:
        """What must not be torn apart, or None."""
        return self.data.groups

    @property
    def splits(self) -> NDArray[np.str_]:
        """train, val or test."""
        return self.data.splits

    def only(self, taps: Sequence[str]) -> Self:
        """The features of some taps. Raises KeyError, in words, for one that there is not."""
        return type(self)(
            {tap: self[tap] for tap in taps}, self.data, self.folder,
            [tap for tap in self.taps if tap.name in taps], self.origin, self.details,
        )  # fmt: skip

    def on(self, device: str) -> Self:
        """The same features, kept on a GPU as well: of the taps, in order, all that fit into half of what is free."""
        import torch

        room, kept = free_memory(device) // 2, copy.copy(self)
        kept._kept = {}
        for tap, array in self.items():
            if array.nbytes <= room:
                kept._kept[tap] = torch.from_numpy(np.array(array)).to(device)
                room -= array.nbytes
        if kept._kept:
            log.info("%d of %d taps are kept on %s", len(kept._kept), len(self), device)
        return kept

    def nearest(self, tap: str) -> "NDArray[np.floating] | Tensor":
        """What probes read, (n, d): the tensor that is kept on their device, or else the array."""
        return self._kept[tap] if tap in self._kept else self[tap]

    def rows(self) -> Iterator[str]:
        """The lines of `rows.csv`: what the rows of the arrays are, with the labels and splits in use now."""
        table = csv.writer(_Lines(), lineterminator="\n")
        groups = [""] * len(self.ids) if self.groups is None else self.groups
        yield table.writerow(["id", self.data.task.column, "group", "split"])
        yield from map(table.writerow, zip(self.ids, self.data.label_names(), groups, self.splits, strict=True))


class _Lines:
    """A file for `csv.writer` that hands back what is written, so that no table is ever held as text."""

    def write(self, line: str) -> str:
        return line
