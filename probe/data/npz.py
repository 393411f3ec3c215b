"""Images in an `.npz`, in MedMNIST's layout."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.base.errors import ProbeError, reason
from probe.data.image_sources import ImageArrays
from probe.data.table import Dataset, make_dataset
from probe.settings.image_reading import SPLITS
from probe.tasks import Classes, Labels


def read_arrays(path: Path, seed: int, classes: Sequence[str] = ()) -> Dataset:
    """The arrays `{train,val,test}_images` and `..._labels`; `classes` names the labels, which are numbers without it.

    Images are (n, h, w) or (n, h, w, 3) of uint8, labels (n, 1) classes counted from 0 or (n, labels)
    of 0 and 1. Raises ProbeError for a file that does not hold them.
    """
    stored = read_npz(path)
    splits = [split for split in SPLITS if f"{split}_images" in stored]
    lacking = [f"{split}_labels" for split in splits if f"{split}_labels" not in stored]
    if not splits or lacking:
        raise ProbeError(
            f"'{path}' is not in MedMNIST's layout: it lacks {lacking[0] if lacking else 'train_images'} "
            f"and has {', '.join(sorted(stored)) or 'nothing'}"
        )
    images = [stored[f"{split}_images"] for split in splits]
    labels = [stored[f"{split}_labels"] for split in splits]
    _check_arrays(path, images, labels)
    table = np.concatenate([label.reshape(len(label), *(label.shape[1:] or (1,))) for label in labels]).astype(np.int64)
    several = table.shape[1] > 1
    count = table.shape[1] if several else max(int(table.max(initial=0)) + 1, len(classes))
    if not several and count > max(len(table), 2):
        raise ProbeError(f"'{path}' has the class {count - 1} among {len(table)} images; classes count from 0")
    return make_dataset(
        path.stem,
        ImageArrays(images, path),
        [f"{split}-{i:06d}" for split, part in zip(splits, images, strict=True) for i in range(len(part))],
        table if several else table[:, 0],
        (Labels if several else Classes)(classes if len(classes) == count else count),
        splits=[split for split, part in zip(splits, images, strict=True) for _ in range(len(part))],
        seed=seed,
    )


def read_npz(path: Path) -> dict[str, NDArray[np.generic]]:
    """The arrays of an `.npz`, none of which may hold objects. Raises ProbeError when it cannot be read."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            stored = {name: archive[name] for name in archive.files}
            return {name: array for name, array in stored.items() if isinstance(array, np.ndarray)}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, AttributeError, TypeError) as error:
        raise ProbeError(f"'{path}' is not a readable .npz of plain arrays: {reason(error)}") from None


def _check_arrays(path: Path, images: Sequence[NDArray[np.generic]], labels: Sequence[NDArray[np.generic]]) -> None:
    widths = {label.shape[1:] or (1,) for label in labels}
    for image, label in zip(images, labels, strict=True):
        grey, colour = image.ndim == 3, image.ndim == 4 and image.shape[-1] == 3
        if not (grey or colour) or image.dtype != np.uint8:
            raise ProbeError(
                f"'{path}' holds images of shape {image.shape} and type {image.dtype}; "
                "(n, h, w) or (n, h, w, 3) of uint8 can be read"
            )
        flat = len(label.shape) in (1, 2) and len(image) == len(label) and len(widths) == 1 and widths != {(0,)}
        if not flat or label.dtype.kind not in "iub" or not _are_codes(label):
            raise ProbeError(
                f"'{path}' has {len(image)} images and {label.size} labels of type {label.dtype}, shape {label.shape}; "
                "(n, 1) classes counted from 0, or (n, labels) of 0 and 1 can be read"
            )


def _are_codes(labels: NDArray[np.generic]) -> bool:
    """Whether labels count classes from 0, or are 0 and 1 when there are several per image."""
    most = 1 if labels.shape[1:] > (1,) else np.iinfo(np.int32).max
    return not labels.size or bool(int(labels.min()) >= 0 and int(labels.max()) <= most)
