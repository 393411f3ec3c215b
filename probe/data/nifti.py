"""Slices of NIfTI volumes through nibabel."""

from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from probe.base.errors import ProbeError, reason
from probe.base.runtime import optional
from probe.data.intensity import limits, to_bytes
from probe.settings import Reading

SUFFIXES = (".nii", ".nii.gz")
AXIAL = 2


def is_nifti(file: Path) -> bool:
    """Known by its suffix, with or without a slice behind it."""
    return volume_of(file).name.lower().endswith(SUFFIXES)


def volume_of(place: Path) -> Path:
    """The file in which a slice such as `scan.nii.gz#axis=2&slice=40` lies; any other file is itself."""
    name, mark, _ = str(place).rpartition("#")
    return Path(name) if mark and name.lower().endswith(SUFFIXES) else place


def need_nibabel() -> Any:
    """The nibabel package. Raises ProbeError when it is not installed."""
    return optional("nibabel", "nifti", "reading NIfTI")


@dataclass(frozen=True)
class _Volume:
    file: Path
    values: NDArray[np.float32]
    window: tuple[float, float]
    times: int


class Volumes:
    """Slices of volumes; the last volume is kept, for its slices are asked for one after the other."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self._lock = Lock()
        self._held: _Volume | None = None

    def read(self, place: Path) -> tuple[Image.Image, int]:
        """One slice as RGB, and how many time points the volume has, the first of which is taken.

        A volume is turned to the nearest axes that run right, anterior, superior: axis 0 cuts it
        sagittally, 1 coronally, 2 axially. `#axis=A&slice=I` behind the file's name picks a slice,
        counted from 0; left out, the axis is 2 and the slice the middle one (n // 2). Of the two
        remaining axes the first points right and the second up. Black and white are those of the
        volume. Raises ProbeError when the file cannot be read or has no such slice.
        """
        axis, wanted = _wanted(place)
        volume = self._volume(volume_of(place))
        count = volume.values.shape[axis]
        index = count // 2 if wanted is None else wanted
        if index >= count:
            raise ProbeError(f"there is no '{place}': axis {axis} has the slices 0 to {count - 1}")
        plane = np.rot90(volume.values.take(index, axis))
        return Image.fromarray(to_bytes(plane, *volume.window)).convert("RGB"), volume.times

    def _volume(self, file: Path) -> _Volume:
        with self._lock:
            if self._held is None or self._held.file != file:
                self._held = None  # before the next is read: one at a time in memory
                self._held = _load(file, self.reading)
            return self._held


def _load(file: Path, reading: Reading) -> _Volume:
    nibabel = need_nibabel()
    try:
        image = nibabel.load(file)
        times = int(np.prod(image.shape[3:], dtype=np.int64))
        while len(image.shape) > 3:
            image = image.slicer[..., 0]
        values = nibabel.as_closest_canonical(image).get_fdata(dtype=np.float32, caching="unchanged")
        values = values.reshape(*values.shape, *[1] * (3 - values.ndim))
        return _Volume(file, values, limits(values, reading), times)
    except Exception as error:  # a parser of damaged files raises whatever the first wrong byte leads to
        raise ProbeError(f"cannot read NIfTI '{file}': {reason(error)}") from None


def _wanted(place: Path) -> tuple[int, int | None]:
    """Axis and slice, the slice None for the middle one."""
    _, mark, words = str(place).rpartition("#") if volume_of(place) != place else ("", "", "")
    try:
        given = {name: int(number) for name, number in parse_qsl(words, strict_parsing=bool(mark))}
        axis, index = given.pop("axis", AXIAL), given.pop("slice", None)
        if given or axis not in (0, 1, 2) or (index is not None and index < 0):
            raise ValueError
    except ValueError:
        raise ProbeError(
            f"'{place}' does not name a slice; write axis (0, 1, 2) and slice (0, 1, ...) as in #axis=2&slice=40"
        ) from None
    return axis, index
