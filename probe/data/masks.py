"""Where in an image what its label names lies: mask images, or boxes in a table."""

from collections.abc import Container, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from probe.base.errors import ProbeError, reason
from probe.base.files import digest_of
from probe.base.runtime import log
from probe.data.file_hashes import FileHashes
from probe.data.image_sources import images_in, stem
from probe.data.table import Dataset

CORNERS = (("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax"))
FORMS = "a folder of mask images named as the images are, or a .csv of boxes with the columns file,x0,y0,x1,y1"
Boxes = NDArray[np.float64]  # (boxes, 4): left, top, right and bottom in pixels


class Masks:
    """A mask for some of a data set's images; `known` (n,) says which."""

    def __init__(self, data: Dataset, source: Mapping[int, Path | Boxes]) -> None:
        self._data, self._source = data, source
        self.known = np.isin(np.arange(len(data)), list(source))

    def fingerprint(self, files: FileHashes) -> str:
        """Hash of all masks: of the contents of files, or of the corners of boxes."""
        found = {index: source.tolist() for index, source in self._source.items() if not isinstance(source, Path)}
        paths = {index: source for index, source in self._source.items() if isinstance(source, Path)}
        return digest_of(found | dict(zip(paths, files.hash(list(paths.values())), strict=True)))

    def load(self, index: int) -> Image.Image:
        """The mask of an image, of its size: 255 inside, 0 outside. Raises ProbeError for another size."""
        size, source, name = self._data.images.load(index).size, self._source[index], self._data.ids[index]
        if isinstance(source, Path):
            mask = _read(source)
            if mask.size != size:
                raise ProbeError(f"the mask of '{name}' is {_by(mask.size)} pixels, the image {_by(size)}")
            return mask
        mask = Image.new("L", size)
        for left, top, right, bottom in ([round(corner) for corner in box] for box in source.tolist()):
            if not (0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]):
                raise ProbeError(f"a box of '{name}', {left},{top},{right},{bottom}, is not in its {_by(size)} pixels")
            ImageDraw.Draw(mask).rectangle((left, top, right - 1, bottom - 1), fill=255)
        return mask


def find_masks(path: Path, data: Dataset) -> Masks:
    """The masks of a data set: from a folder, all that is neither 0 nor transparent being inside, or boxes from a CSV.

    A mask's name, and `file` in the table, is that of the image, whatever the suffix, or the end of its path. `x1` and
    `y1` are the first column and row outside of the box. Several boxes of one file are taken together. Raises
    ProbeError when there are masks for none of the images, two for one, or one for two. How many have none is logged.
    """
    if path.is_dir():
        found: Mapping[str, Path | Boxes] = {file.relative_to(path).as_posix(): file for file in images_in(path)}
    elif path.is_file() and path.suffix.lower() == ".csv":
        found = _boxes(path)
    else:
        raise ProbeError(f"no masks at '{path}': give {FORMS}")
    matched = _match(path, [str(name) for name in data.ids], list(found))
    if not matched:
        raise ProbeError(f"'{path}' has no mask of an image such as '{data.ids[0]}': give {FORMS}")
    if len(matched) < len(data):
        log.info("%d of %d images have no mask", len(data) - len(matched), len(data))
    return Masks(data, {index: found[name] for index, name in matched.items()})


def _match(path: Path, ids: Sequence[str], names: Sequence[str]) -> dict[int, str]:
    """Per image that has a mask the mask's name. Raises ProbeError where it could be another as well."""
    by_stem: dict[str, list[str]] = {}
    for name in names:
        by_stem.setdefault(_plain(name), []).append(name)
    whole = {_plain(name) for name in ids}
    matched: dict[int, str] = {}
    owner: dict[str, str] = {}
    for index, image in enumerate(ids):
        first, *others = by_stem.get(_nearest(_plain(image), by_stem, whole), [""])
        if not first:
            continue
        if others:
            raise ProbeError(f"'{path}' has two masks of '{image}', '{first}' and '{others[0]}': leave one of them")
        if owner.setdefault(first, image) != image:
            raise ProbeError(
                f"'{first}' in '{path}' fits both '{owner[first]}' and '{image}': name masks by the whole "
                "path of their image, and images by more than their suffix"
            )
        matched[index] = first
    return matched


def _nearest(image: str, masks: Container[str], images: Container[str]) -> str:
    """The longest end of an image's name that is a mask's, unless it is the whole of another image's name."""
    parts = image.split("/")
    ends = ("/".join(parts[at:]) for at in range(len(parts)))
    return next((end for end in ends if end in masks and (end == image or end not in images)), "")


def _plain(name: str) -> str:
    return stem(Path(name).as_posix())


def _boxes(path: Path) -> dict[str, Boxes]:
    try:
        table = pd.read_csv(path, dtype={"file": str}, skip_blank_lines=False).dropna(how="all")
    except Exception as error:  # whatever the first wrong byte leads to
        raise ProbeError(f"'{path}' is not a readable CSV: {reason(error)}") from None
    corners = next((list(names) for names in CORNERS if {"file", *names} <= set(table)), None)
    if corners is None:
        raise ProbeError(f"'{path}' has the columns {', '.join(map(str, table))}: give {FORMS}")
    table[corners] = _numbers(path, table[corners])
    return {str(file): part[corners].to_numpy() for file, part in table.groupby("file")}


def _numbers(path: Path, corners: pd.DataFrame) -> pd.DataFrame:
    """The table's corners as numbers; its index counts the lines below the head. Raises ProbeError for what is none."""
    numbers: pd.DataFrame = corners.apply(pd.to_numeric, errors="coerce").astype(float)
    wrong = np.argwhere(~np.isfinite(numbers.to_numpy()))
    if len(wrong):
        row, column = (int(at) for at in wrong[0])
        empty = corners.isna().to_numpy()[row, column]
        shown = "is empty" if empty else f"is '{corners.to_numpy(object)[row, column]}'"
        line = corners.index[row] + 2
        raise ProbeError(f"a corner in '{path}' is not a number: in line {line} {corners.columns[column]} {shown}")
    return numbers


def _read(file: Path) -> Image.Image:
    try:
        with Image.open(file) as image:
            values, bands = np.atleast_3d(np.asarray(image)), image.getbands()
    except Exception as error:  # a parser of damaged files raises whatever the first wrong byte leads to
        raise ProbeError(f"cannot read mask '{file}': {reason(error)}") from None
    alpha = np.array([band.lower() == "a" for band in bands])
    inside = (values[..., ~alpha] != 0).any(2)
    opaque = (values[..., alpha] != 0).all(2)
    if not opaque.all():
        inside = (inside | ~inside.any()) & opaque  # black painted on nothing is inside as well
    return Image.fromarray(inside.astype(np.uint8) * 255)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
