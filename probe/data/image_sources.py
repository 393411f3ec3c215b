"""Pixels from files and from arrays, as RGB."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from probe.base.runtime import log
from probe.data.dicom import SUFFIXES as DICOM
from probe.data.dicom import is_dicom, need_pydicom, read_dicom
from probe.data.file_hashes import FileHashes
from probe.data.nifti import SUFFIXES as NIFTI
from probe.data.nifti import Volumes, is_nifti, need_nibabel, volume_of
from probe.data.pictures import read_picture
from probe.settings import Reading

RULES = 2  # counts up when the same file would give other pixels


def images_in(folder: Path) -> list[Path]:
    """The files below a folder whose names say that they are images, in order; hidden ones left out."""
    known = _picture_suffixes()
    return [
        file
        for file in sorted(folder.rglob("*"))
        if not file.name.startswith(".") and _may_be_file(file)
        if file.suffix.lower() in known or is_nifti(file) or is_dicom(file)
    ]


def stem(name: str) -> str:
    """A name without the suffix that says it is an image's; what else follows a dot, as in a DICOM UID, is the name."""
    known = (*NIFTI, *DICOM, *_picture_suffixes())
    suffix = max((each for each in known if name.lower().endswith(each)), key=len, default="")
    return name[: len(name) - len(suffix)]


def _picture_suffixes() -> set[str]:
    return {suffix for suffix, form in Image.registered_extensions().items() if form in Image.OPEN}


def _may_be_file(path: Path) -> bool:
    """Also when it may not be looked at: that is told when it is asked for."""
    try:
        return path.is_file()
    except OSError:
        return True


class ImageFiles:
    """Images in files, opened when they are asked for: pictures, DICOM, slices of NIfTI volumes."""

    def __init__(self, files: Sequence[Path], settings: Reading | None = None) -> None:
        """Raises ProbeError when the library that a form takes is not installed."""
        self.files, self.settings = files, settings or Reading()
        self.forms = ["nifti" if is_nifti(file) else "dicom" if is_dicom(file) else "picture" for file in files]
        self.reading: dict[str, Any] = {"rules": RULES, "window": self.settings.window}
        if "dicom" in self.forms:
            self.reading["pydicom"] = need_pydicom().__version__
        if "nifti" in self.forms:
            self.reading["nibabel"] = need_nibabel().__version__
        self._volumes = Volumes(self.settings)
        self._told = False

    def __len__(self) -> int:
        return len(self.files)

    def load(self, index: int) -> Image.Image:
        file, form = self.files[index], self.forms[index]
        if form == "nifti":
            image, frames = self._volumes.read(file)
        else:
            image, frames = (read_dicom if form == "dicom" else read_picture)(file, self.settings)
        if frames > 1 and not self._told:
            self._told = True
            log.warning("'%s' holds %d frames; of it and of any other such file the first is read", file, frames)
        return image

    def on_disk(self) -> list[Path]:
        """The file that each image is in."""
        return [volume_of(file) for file in self.files]

    def hashes(self, files: FileHashes) -> Sequence[str]:
        return files.hash(self.on_disk())


class ImageArrays:
    """Images in memory, (n, height, width) grey or (n, height, width, 3), 8 bits."""

    def __init__(self, arrays: Sequence[NDArray[np.generic]], source: Path | None = None) -> None:
        """`source` is the file they came from, whose hash then stands for theirs."""
        self.arrays, self.source = arrays, source
        self.reading: dict[str, Any] = {"rules": RULES}
        self._starts = np.cumsum([0, *map(len, arrays)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def load(self, index: int) -> Image.Image:
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        return Image.fromarray(self.arrays[part][index - self._starts[part]]).convert("RGB")

    def hashes(self, files: FileHashes) -> Sequence[str]:
        if self.source is not None:
            return files.hash([self.source])
        return [hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() for array in self.arrays]
