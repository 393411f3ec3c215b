"""From named files to a data set: those that cannot be read left out if asked, and groups from what the files say."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import PIL
from numpy.typing import NDArray

from probe.base.errors import ProbeError
from probe.base.runtime import log
from probe.data.dicom import read_patient
from probe.data.file_hashes import FileHashes
from probe.data.image_sources import ImageFiles
from probe.data.nifti import volume_of
from probe.data.table import Dataset, make_dataset
from probe.settings import Reading
from probe.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Listed:
    """Files with their names, labels, groups and splits, before any of them is opened."""

    name: str
    files: Sequence[Path]
    ids: Sequence[str]
    labels: NDArray[np.int64]
    task: Task
    groups: Sequence[str] | None = None
    splits: Sequence[str] | None = None

    def take(self, rows: Sequence[int]) -> Self:
        """Some of the rows."""
        return replace(
            self,
            files=[self.files[i] for i in rows],
            ids=[self.ids[i] for i in rows],
            labels=self.labels[list(rows)],
            groups=self.groups and [self.groups[i] for i in rows],
            splits=self.splits and [self.splits[i] for i in rows],
        )


def screened(listed: Listed, reading: Reading, seed: int, memory: Callable[[], FileHashes]) -> Dataset:
    """The data set of listed files, without those that cannot be read when `reading` says to skip them.

    `memory` opens the notebook of what is known of files; it is asked for only when a file must be
    looked into. Groups that are not given are the patients of DICOM files and the volumes of NIfTI
    slices. Raises ProbeError when nothing is left.
    """
    skipped = left_out(ImageFiles(listed.files, reading), listed.ids, listed.name, memory)
    kept = listed.take([i for i in range(len(listed.files)) if i not in skipped])
    images = ImageFiles(kept.files, reading)
    return make_dataset(
        kept.name,
        images,
        kept.ids,
        kept.labels,
        kept.task,
        groups=default_groups(images, kept.ids, memory) if kept.groups is None else kept.groups,
        splits=kept.splits,
        seed=seed,
        skipped=[(listed.ids[i], reason) for i, reason in skipped.items()],
    )


def left_out(images: ImageFiles, ids: Sequence[str], name: str, memory: Callable[[], FileHashes]) -> dict[int, str]:
    """Why an image is skipped, by its position, where the settings say that those that cannot be read are; logged.

    Raises ProbeError when that is every one of them.
    """
    skipped = unreadable(images, memory()) if images.settings.on_error == "skip" else {}
    if skipped:
        _tell(skipped, ids, name)
    return skipped


def unreadable(images: ImageFiles, memory: FileHashes) -> dict[int, str]:
    """Why an image cannot be read, by its position; each is decoded once, and the outcome remembered."""

    def outcome(row: int) -> str:
        try:
            images.load(row)
        except ProbeError as error:
            return str(error)
        return ""

    files = images.on_disk()
    there = [i for i, file in enumerate(files) if is_there(file)]
    question = json.dumps({**images.reading, "pillow": PIL.__version__}, sort_keys=True)
    facts = [f"decodes {question} {str(images.files[i])[len(str(files[i])) :]}" for i in there]
    found = memory.remember([files[i] for i in there], facts, lambda k: outcome(there[k]))
    gone = {i: f"'{file}' is not there" for i, file in enumerate(files) if not is_there(file)}
    reasons = gone | {i: reason for i, reason in zip(there, found, strict=True) if reason}
    return dict(sorted(reasons.items()))


def is_there(file: Path) -> bool:
    """Whether there is such a file; a name that no file can have has none."""
    try:
        return file.is_file()
    except (OSError, ValueError):  # too long, or with a zero byte
        return False


def _tell(skipped: dict[int, str], ids: Sequence[str], name: str) -> None:
    first = next(iter(skipped))
    if len(skipped) == len(ids):
        raise ProbeError(f"none of the {len(skipped)} images of {name} can be read; the first: {skipped[first]}")
    names = ", ".join(repr(str(ids[i])) for i in list(skipped)[:3]) + (", ..." if len(skipped) > 3 else "")
    log.warning("SKIPPED %d of %d images that cannot be read: %s", len(skipped), len(ids), names)


def default_groups(images: ImageFiles, ids: Sequence[str], memory: Callable[[], FileHashes]) -> list[str] | None:
    """The patient of a DICOM file and the volume of a NIfTI slice; None for pictures, which say nothing.

    A file without PatientID, and a picture among the others, stands alone. One PatientID in all
    files, as some anonymisers leave it, tells nobody apart and gives no groups. Both are logged.
    """
    if set(images.forms) <= {"picture"}:
        return None
    groups = [volume_of(Path(name)).as_posix() for name in ids]
    rows = [i for i, form in enumerate(images.forms) if form == "dicom"]
    if not rows:
        return groups
    files = [images.files[i] for i in rows]
    patients = memory().remember(files, ["patient"] * len(files), lambda k: read_patient(files[k]))
    if len(rows) > 1 and len(set(patients)) == 1 and patients[0]:
        log.warning("all DICOM files have the PatientID '%s': each is taken for a patient of its own", patients[0])
        return groups if "nifti" in images.forms else None
    lacking = [i for i, patient in zip(rows, patients, strict=True) if not patient]
    if lacking:
        log.warning("%d DICOM files have no PatientID and stand alone, '%s' for one", len(lacking), ids[lacking[0]])
    for row, patient in zip(rows, patients, strict=True):
        groups[row] = patient or groups[row]
    return groups
