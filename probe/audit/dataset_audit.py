"""All checks of a data set, in two depths.

`quick_audit` needs no pixel and goes with every `probe layerwise`; `audit_dataset` looks at every
image once.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.audit.copies import near_sets
from probe.audit.misaligned_labels import Relation, check_relations, label_relation
from probe.audit.pixels import Look, check_looks, count_forms, look_at
from probe.audit.table_checks import LEVELS, Finding, check_copies, check_labels, check_table, class_counts, sets_of
from probe.data import SPLITS, Dataset, FileHashes
from probe.data.image_sources import ImageFiles


@dataclass(frozen=True)
class Audit:
    """What a data set holds and what was found in it, the worst first.

    `images` has a row per image: id, label, group, split, width and height in pixels, mode, error
    (why it cannot be read) and `copies`, the id of the first image of the set of near-identical ones.
    `sizes` ("WIDTHxHEIGHT", in pixels) and `modes` count images, the commonest first.
    `relations` says per split how far labels agree between images that look alike.
    """

    data: Dataset
    findings: list[Finding]
    images: pd.DataFrame = field(repr=False)
    sizes: dict[str, int]
    modes: dict[str, int]
    relations: dict[str, Relation]

    @property
    def leaks(self) -> bool:
        """Whether anything makes scores on test too good."""
        return any(finding.level == "leakage" for finding in self.findings)

    @property
    def readable(self) -> NDArray[np.bool_]:
        """Which images can be read, (n,)."""
        return self.images["error"].eq("").to_numpy()

    def counts(self) -> dict[str, dict[str, int]]:
        """Images per class and split, and of several labels those that are unknown."""
        columns = {split: class_counts(self.data, split) for split in SPLITS}
        if self.data.task.has_unknown:
            columns["unknown"] = len(self.data) - self.data.task.counts(self.data.labels)[1]
        return {name: {of: int(n[i]) for of, n in columns.items()} for i, name in enumerate(self.data.classes)}

    def to_dict(self) -> dict[str, Any]:
        """All of it as nested plain data, but the table of images."""
        return {
            "name": self.data.name,
            "images": len(self.data),
            "task": self.data.task.name,
            "splits": self.data.counts(),
            "drawn_splits": list(self.data.drawn),
            "groups": None if self.data.groups is None else len(set(self.data.groups.tolist())),
            "classes": self.counts(),
            "sizes": self.sizes,
            "modes": self.modes,
            "relations": {split: asdict(relation) for split, relation in self.relations.items()},
            "leakage": self.leaks,
            "findings": [asdict(finding) for finding in self.findings],
        }


def quick_audit(data: Dataset, files: FileHashes) -> list[Finding]:
    """What labels, splits, groups and the hashes of files show; a file that `files` knows is not opened.

    Identical images are looked for where every image is a file of its own.
    """
    images = data.images
    alone = isinstance(images, ImageFiles) and all(file.is_file() for file in images.files)
    return _worst_first(check_table(data, images.hashes(files) if alone else None))


def audit_dataset(data: Dataset, seed: int = 0) -> Audit:
    """Look at every image once, and at all that the table says. `seed` is of the permutation test.

    Images that cannot be read are findings, not errors.
    """
    looks = look_at(data)
    copies = _number_copies(looks)
    near = [rows for rows in sets_of(copies) if len({looks[row].content for row in rows}) > 1]
    content = [look.content or f"unread {row}" for row, look in enumerate(looks)]
    relations = _relations(data, looks, seed)
    found = [
        *check_table(data, content),
        *check_copies(data, near, "near-identical"),
        *check_labels(data, near, "near-identical"),
        *check_looks(data, looks),
        *check_relations(relations),
    ]
    return Audit(data, _worst_first(found), _image_table(data, looks, copies), *count_forms(looks), relations)


def _number_copies(looks: list[Look]) -> NDArray[np.int64]:
    """A number per image that near-identical ones share; one colour and unreadable ones are like no other."""
    numbers = np.arange(len(looks))
    rows = np.array([row for row, look in enumerate(looks) if look.likeness is not None], dtype=np.int64)
    if len(rows):
        sets = near_sets(np.stack([look.likeness for look in looks if look.likeness is not None]))
        _, first, number = np.unique(sets, return_index=True, return_inverse=True)
        numbers[rows] = rows[first[number]]
    return numbers


def _relations(data: Dataset, looks: list[Look], seed: int) -> dict[str, Relation]:
    found = {}
    for split in SPLITS:
        rows = [row for row in np.flatnonzero(data.splits == split) if looks[row].thumbnail is not None]
        if rows:
            thumbnails = np.stack([thumbnail for row in rows if (thumbnail := looks[row].thumbnail) is not None])
            groups = None if data.groups is None else data.groups[rows]
            relation = label_relation(
                thumbnails, data.task.answers(data.labels[rows]), groups, np.random.default_rng(seed)
            )
            if relation is not None:
                found[split] = relation
    return found


def _image_table(data: Dataset, looks: list[Look], copies: NDArray[np.int64]) -> pd.DataFrame:
    alone = np.bincount(copies, minlength=len(copies))[copies] == 1
    return pd.DataFrame(
        {
            "id": data.ids,
            "label": data.label_names(),
            "group": "" if data.groups is None else data.groups,
            "split": data.splits,
            "width": [look.size[0] for look in looks],
            "height": [look.size[1] for look in looks],
            "mode": [look.mode for look in looks],
            "error": [look.error for look in looks],
            "copies": np.where(alone, "", data.ids[copies]),
        }
    )


def _worst_first(findings: list[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))
