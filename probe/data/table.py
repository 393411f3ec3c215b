"""A data set as one table: an image, its labels, its group and its split per row."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from probe.base.errors import ProbeError
from probe.data.file_hashes import FileHashes
from probe.data.splits import draw_splits
from probe.records.metric_facts import AVERAGES
from probe.settings.image_reading import SPLITS
from probe.tasks import Task, kind_of


class Images(Protocol):
    """Where the pixels are; read one at a time.

    `reading` states the rules by which files become RGB; with the hashes it decides every pixel.
    """

    reading: dict[str, Any]

    def __len__(self) -> int: ...

    def load(self, index: int) -> Image.Image:
        """One image as RGB; ProbeError when it cannot be read."""
        ...

    def hashes(self, files: FileHashes) -> Sequence[str]:
        """One content hash per image, or a single one for all of them."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset:
    """Labelled images, one per row.

    `task` says what `labels` are: (n,) class indices of `Classes`, or (n, classes) of `Labels`, with 0, 1 and -1
    where a label is unknown, which is neither.
    `groups` names what must not be torn apart (patient, lesion); `splits` holds train, val or
    test; `drawn` says which of them were not given but drawn from `seed`. `image_size` in pixels
    is what suits the images, or None to leave it to the weights. `skipped` lists the images that
    were left out because they cannot be read, with the reason.
    """

    name: str
    images: Images
    ids: NDArray[np.str_]
    labels: NDArray[np.int64]
    task: Task
    groups: NDArray[np.str_] | None
    splits: NDArray[np.str_]
    drawn: tuple[str, ...] = ()
    seed: int = 0
    image_size: int | None = None
    skipped: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the task."""
        return self.task.names

    def counts(self) -> dict[str, int]:
        """Number of images per split."""
        return {split: int((self.splits == split).sum()) for split in SPLITS}

    def facts(self) -> dict[str, Any]:
        """What a run records of its data."""
        return {
            "name": self.name,
            "images": len(self),
            "splits": self.counts(),
            "drawn_splits": list(self.drawn),
            "grouped": self.groups is not None,
            "classes": list(self.classes),
            "task": self.task.name,
            "reading": self.images.reading,
            "skipped": self.skipped,
        }

    def label_names(self) -> list[str]:
        """The labels in words; several of one image joined by `|`, unknown ones behind a question mark."""
        return self.task.decode(self.labels)

    def strata(self, rows: NDArray[np.integer]) -> NDArray[np.int64]:
        """What a stratified draw of some rows keeps in its shares: a number for each of them."""
        return self.task.strata(self.labels[rows])

    def redraw(self, seed: int) -> Self:
        """The same images with the splits that were not given drawn from another seed."""
        if not self.drawn or seed == self.seed:
            return self
        given = np.where(np.isin(self.splits, self.drawn), "", self.splits)
        if "train" not in self.drawn:
            given = np.where(given == "", "train", given)
        splits = draw_splits(given, self.strata, self.groups, self.drawn, seed)
        return replace(self, splits=splits, seed=seed)


class TornGroups(ProbeError):
    """Groups lie in more than one split; `data` is the table as it stands, for the audit to look at."""

    def __init__(self, message: str, data: Dataset) -> None:
        super().__init__(message)
        self.data = data


def make_dataset(
    name: str,
    images: Images,
    ids: Sequence[str],
    labels: NDArray[np.int64],
    task: Task | Sequence[str],
    *,
    groups: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    seed: int = 0,
    image_size: int | None = None,
    skipped: Sequence[tuple[str, str]] = (),
) -> Dataset:
    """Check the columns of a table, draw the splits that are missing (60/20/20) and put them together.

    Names in place of a `task` leave it to the form of the labels: (n,) `Classes` or (n, k) `Labels`. Raises ProbeError
    for data that cannot be probed: nothing there, a single class, one called as an average is, an unknown split, a
    group in two splits.
    """
    if not len(ids):
        raise ProbeError(f"{name} holds no images")
    nameless = next((image for image in ids if not str(image).isprintable()), None)
    if nameless is not None:  # such as bytes that are not UTF-8
        raise ProbeError(f"{name} has an image whose name is not text: {nameless!r}; rename it")
    task = task if isinstance(task, Task) else kind_of(labels)(task)
    _check_labels(name, labels, task)
    given = np.array([""] * len(ids) if splits is None else [_split_name(split, name) for split in splits])
    drawn = tuple(split for split in SPLITS if split not in given)
    data = Dataset(
        name=name,
        images=images,
        ids=np.array(ids, dtype=str),
        labels=labels,
        task=task,
        groups=None if groups is None else np.array(groups, dtype=str),
        splits=given,
        drawn=drawn,
        seed=seed,
        image_size=image_size,
        skipped=tuple(skipped),
    )
    if drawn or "" in given:
        data = replace(data, splits=draw_splits(given, data.strata, data.groups, drawn, seed))
    _check_groups(data)
    return data


def _check_labels(name: str, labels: NDArray[np.int64], task: Task) -> None:
    taken = next((each for each in task.names if each in AVERAGES), None)
    if taken is not None:
        raise ProbeError(
            f"{name} has a class '{taken}', but that is the name of an average over classes; rename the class"
        )
    task.check_shown(labels, name)


def _split_name(given: str, name: str) -> str:
    known = {"": "", "training": "train", "valid": "val", "validation": "val", "dev": "val", "testing": "test"}
    split = known.get(given.strip().lower(), given.strip().lower())
    if split not in ("", *SPLITS):
        raise ProbeError(f"{name} has an unknown split '{given}'; choose from {', '.join(SPLITS)}")
    return split


def _check_groups(data: Dataset) -> None:
    if data.groups is None:
        return
    pairs = np.unique(np.stack([data.groups, data.splits]), axis=1)
    names, counts = np.unique(pairs[0], return_counts=True)
    torn = names[counts > 1]
    if len(torn):
        raise TornGroups(
            f"{data.name}: {len(torn)} groups lie in more than one split ('{torn[0]}' for one), so scores would be "
            "too good; correct the splits, or leave them out: then they are drawn by group",
            data,
        )
