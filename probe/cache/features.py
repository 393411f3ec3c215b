"""Features of a data set at every tap of a network, as a mapping from tap to memory-mapped array."""

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.cache.store import Store, replace_text
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
        array: NDArray[np.float32] = np.load(self._store.path(tap), mmap_mode="r", allow_pickle=False)
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

    def write_rows(self) -> None:
        """State the rows of the arrays in `rows.csv`, with the labels and splits in use now."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["id", "label", "group", "split"])
        groups = [""] * len(self.ids) if self.groups is None else self.groups
        table.writerows(zip(self.ids, self.data.label_names(), groups, self.splits, strict=True))
        path = self.folder / "rows.csv"
        if not path.is_file() or path.read_text() != text.getvalue():
            replace_text(path, text.getvalue())
