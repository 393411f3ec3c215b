"""Features of a data set at every tap of a network, as a mapping from tap to memory-mapped array."""

import csv
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.cache.store import Store
from probe.data import Dataset
from probe.names import unknown


class Features(Mapping[str, NDArray[np.float32]]):
    """Tap name to a read-only (n, d) array; rows in the order of `ids`, `labels`, `groups`, `splits`.

    `taps` describes each tap (width, cumulative params and macs, depth), `origin` the network
    they were read from, `request` names the cache entry in `folder` and `details` is all it stands for.
    """

    def __init__(self, store: Store, data: Dataset) -> None:
        self.folder = store.folder
        self.request = store.folder.name
        self.taps: list[dict[str, Any]] = store.manifest["taps"]
        self.origin: dict[str, Any] = store.facts["origin"]  # the name it was asked by now, not at first
        self.details: dict[str, Any] = store.manifest["request"]
        self.data = data
        self._store = store

    def __getitem__(self, tap: str) -> NDArray[np.float32]:
        if tap not in self._store.widths:
            raise KeyError(str(unknown("tap", tap, list(self))))
        array: NDArray[np.float32] = np.load(self._store.arrays[tap].path, mmap_mode="r", allow_pickle=False)
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._store.widths)

    def __len__(self) -> int:
        return len(self._store.widths)

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

    def rows(self) -> Iterator[str]:
        """The lines of `rows.csv`: what the rows of the arrays are, with the labels and splits in use now."""
        table = csv.writer(_Lines(), lineterminator="\n")
        groups = [""] * len(self.ids) if self.groups is None else self.groups
        yield table.writerow(["id", "label", "group", "split"])
        yield from map(table.writerow, zip(self.ids, self.data.label_names(), groups, self.splits, strict=True))


class _Lines:
    """A file for `csv.writer` that hands back what is written, so that no table is ever held as text."""

    def write(self, line: str) -> str:
        return line
