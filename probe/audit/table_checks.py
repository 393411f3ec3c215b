"""What is found in a table of images: leakage between splits, warnings, notes."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.data import SPLITS, Dataset

LEVELS = ("leakage", "warning", "note")  # the first makes test scores too good
SHOWN = 3  # examples in a text; the sets hold them all


@dataclass(frozen=True)
class Finding:
    """One kind of thing found; `sets` are the ids concerned, those that belong together in one set."""

    level: str
    kind: str
    text: str
    sets: tuple[tuple[str, ...], ...] = ()


def check_table(data: Dataset, content: Sequence[str] | None) -> list[Finding]:
    """What labels, splits, groups and content hashes show, without a look at the pixels.

    `content` holds a hash per image, equal for identical images, or is None when there are none.
    """
    found = [*_torn_groups(data), *_missing_classes(data), *_singletons(data), *_names_against_labels(data)]
    if content is None:
        return found
    copies = sets_of(np.asarray(content))
    return [*check_copies(data, copies, "identical"), *check_labels(data, copies, "identical"), *found]


def sets_of(keys: NDArray[np.generic]) -> list[NDArray[np.intp]]:
    """Rows that share a key, one array per key that at least two rows have."""
    _, numbers, counts = np.unique(keys, return_inverse=True, return_counts=True)
    parts = np.split(np.argsort(numbers, kind="stable"), np.cumsum(counts)[:-1])
    return sorted((rows for rows in parts if len(rows) > 1), key=lambda rows: int(rows[0]))


def check_copies(data: Dataset, copies: Sequence[NDArray[np.intp]], how: str) -> list[Finding]:
    """Sets of copies (`how`: identical or near-identical) across splits, which leak, and within one."""
    across = [rows for rows in copies if len(set(data.splits[rows].tolist())) > 1]
    within = [rows for rows in copies if len(set(data.splits[rows].tolist())) == 1]
    kind, sets = how.replace("-", "_"), f"of {how} images"
    found = []
    if across:
        test = sum(int((data.splits[rows] == "test").sum()) for rows in across)
        text = f"{count(across, 'set')} {sets} in more than one split, {test} of them in test"
        found.append(_finding("leakage", kind, text, data, across))
    if within:
        found.append(_finding("note", f"{kind}_within", f"{count(within, 'set')} {sets} inside a split", data, within))
    return found


def check_labels(data: Dataset, copies: Sequence[NDArray[np.intp]], how: str) -> list[Finding]:
    """Sets of copies whose labels contradict each other; an unknown label contradicts none."""
    columns = data.labels.reshape(len(data), -1)
    torn = [rows for rows in copies if _disagree(columns[rows])]
    text = f"{count(torn, 'set')} of {how} images with different labels"
    return [_finding("warning", f"{how.replace('-', '_')}_labels", text, data, torn, labels=True)] if torn else []


def _disagree(labels: NDArray[np.int64]) -> bool:
    high = labels.max(0)
    return bool((np.where(labels < 0, high, labels).min(0) < high).any())


def _torn_groups(data: Dataset) -> list[Finding]:
    if data.groups is None:
        return []
    torn = [rows for rows in sets_of(data.groups) if len(set(data.splits[rows].tolist())) > 1]
    names = listed([f"'{data.groups[rows[0]]}' ({_spread(data, rows)})" for rows in torn])
    sets = tuple(tuple(data.ids[rows].tolist()) for rows in torn)
    text = f"{count(torn, 'group')} in more than one split: {names}"
    return [Finding("leakage", "torn_groups", text, sets)] if torn else []


def _missing_classes(data: Dataset) -> list[Finding]:
    counts = {split: class_counts(data, split) for split in SPLITS if (data.splits == split).any()}
    empty = [split for split in SPLITS if split not in counts]
    missing = [
        f"'{name}' from {' and '.join(absent)}"
        for i, name in enumerate(data.classes)
        if (absent := [split for split, present in counts.items() if not present[i]])
    ]
    found = [Finding("warning", "empty_split", f"no image in {' and '.join(empty)}")] if empty else []
    if missing:
        what = f"{count(missing, 'class', 'classes')} missing from a split: {listed(missing)}"
        found.append(Finding("warning", "missing_class", what))
    return found


def _singletons(data: Dataset) -> list[Finding]:
    once = [f"'{data.classes[i]}'" for i in np.flatnonzero(class_counts(data) == 1)]
    return [Finding("warning", "single", f"{count(once, 'label')} on one image only: {listed(once)}")] if once else []


def class_counts(data: Dataset, split: str | None = None) -> NDArray[np.int64]:
    """Images that show each class, (classes,), in a split or in all."""
    labels = data.labels if split is None else data.labels[data.splits == split]
    return data.task.counts(labels)[0]


def _names_against_labels(data: Dataset) -> list[Finding]:
    """Files named after one class and labelled with another, as when rows have slipped."""
    known = {_words(name): name for name in data.classes if re.search("[^\\W\\d_]{3}", name)}
    if data.task.row_classes(data.labels) is None or not known:
        return []
    pattern = re.compile("(?<=_)(?:" + "|".join(map(re.escape, sorted(known, key=len, reverse=True))) + ")(?=_)")
    wrong, named = [], 0
    for image, label in zip(data.ids.tolist(), data.label_names(), strict=True):
        said = {known[word] for word in pattern.findall(f"_{_words(image.rpartition('/')[2].rpartition('.')[0])}_")}
        named += len(said) == 1
        if len(said) == 1 and label not in said:
            wrong.append((image, label))
    text = f"{len(wrong)} of {named} files named after a class have the label of another: "
    examples = listed([f"{image} ({label})" for image, label in wrong])
    sets = tuple((image,) for image, _ in wrong)
    return [Finding("warning", "names_against_labels", text + examples, sets)] if wrong else []


def _words(name: str) -> str:
    return "_".join(re.findall(r"[^\W\d_]+|\d+", name.lower()))


def count(items: Sequence[object], one: str, many: str = "") -> str:
    """How many, in words."""
    return f"{len(items)} {one if len(items) == 1 else many or one + 's'}"


def listed(items: Iterable[str]) -> str:
    """The first few of a list in words, and how many more there are."""
    every = list(items)
    more = [f"{len(every) - SHOWN} more"] if len(every) > SHOWN else []
    return "; ".join([*every[:SHOWN], *more])


def _finding(
    level: str, kind: str, text: str, data: Dataset, sets: Sequence[NDArray[np.intp]], labels: bool = False
) -> Finding:
    names = np.asarray(data.label_names()) if labels else data.splits
    examples = listed(" = ".join(f"{data.ids[row]} ({names[row]})" for row in rows[:4]) for rows in sets)
    return Finding(level, kind, f"{text}: {examples}", tuple(tuple(data.ids[rows].tolist()) for rows in sets))


def _spread(data: Dataset, rows: NDArray[np.intp]) -> str:
    return ", ".join(f"{n} {split}" for split in SPLITS if (n := int((data.splits[rows] == split).sum())))
