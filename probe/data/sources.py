"""The forms in which data come: a manifest, a folder per class, an `.npz`, the bundled digits."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from probe.data.images import ImageArrays, ImageFiles
from probe.data.splits import SPLITS
from probe.data.table import Dataset, make_dataset
from probe.errors import ProbeError
from probe.names import check_seed

DIGITS_SIZE = 64  # pixels; the 8 x 8 originals hold no more
FORMS = "'digits', a .csv manifest, a folder root/class/*, or an .npz in MedMNIST's layout"


def dataset(source: str | Path = "digits", *, seed: int = 0) -> Dataset:
    """Labelled images from `digits`, a CSV manifest, an image folder or an `.npz` in MedMNIST's layout.

    A manifest has the columns `file` (relative to it), `label` (one name) or `labels` (names joined
    by `|`, empty for none), and optionally `split` and `group`. A folder holds `class/*` or
    `{train,val,test}/class/*`. Splits that are not given are drawn from `seed`, 60/20/20.

    Raises ProbeError when there is nothing to read, or it cannot be probed.
    """
    check_seed(seed)
    if not str(source):
        raise ProbeError(f"no data were named: give {FORMS}")
    path = Path(source)
    if str(source) == "digits" and not path.exists():
        return _digits(seed)
    if path.is_dir():
        return _folder(path, seed)
    if not path.is_file():
        raise ProbeError(f"no data at '{source}': give {FORMS}")
    if path.suffix.lower() == ".csv":
        return _manifest(path, seed)
    if path.suffix.lower() == ".npz":
        return _arrays(path, seed)
    raise ProbeError(f"cannot tell what data '{source}' holds: give {FORMS}")


def _digits(seed: int) -> Dataset:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    ids = [f"digit-{i:04d}" for i in range(len(images))]
    labels = digits.target.astype(np.int64)
    names = [str(name) for name in digits.target_names]
    return make_dataset("digits", ImageArrays([images]), ids, labels, names, seed=seed, image_size=DIGITS_SIZE)


def _manifest(path: Path, seed: int) -> Dataset:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError, OSError) as error:
        raise ProbeError(f"'{path}' is not a readable CSV: {str(error).splitlines()[0]}") from None
    column = next((name for name in ("label", "labels") if name in table), None)
    if "file" not in table or column is None:
        wanted = "'file'" if "file" not in table else "'label' (one name) or 'labels' (names joined by |)"
        raise ProbeError(f"'{path}' has no column {wanted}; it has {', '.join(map(repr, table.columns)) or 'none'}")
    files = [path.parent / file for file in table["file"]]
    missing = next((file for file in files if not _is_there(file)), None)
    if missing is not None:
        raise ProbeError(f"'{path}' names '{missing}', which is not there")
    if "group" in table and table["group"].eq("").any():
        raise ProbeError(f"'{path}' has no group in row {int(table['group'].eq('').to_numpy().argmax()) + 2}")
    labels, classes = _named(table["label"], path) if column == "label" else _several(table["labels"])
    return make_dataset(
        path.parent.name if path.stem == "labels" else path.stem,
        ImageFiles(files),
        table["file"].tolist(),
        labels,
        classes,
        groups=table["group"].tolist() if "group" in table else None,
        splits=table["split"].tolist() if "split" in table else None,
        seed=seed,
    )


def _is_there(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # such as a name longer than any file's
        return False


def _named(column: pd.Series, path: Path) -> tuple[NDArray[np.int64], list[str]]:
    column = column.str.strip()
    if (column == "").any():
        row = int((column == "").to_numpy().argmax())
        raise ProbeError(f"'{path}' has no label in row {row + 2}; several or none per image go in a column 'labels'")
    classes, labels = np.unique(column.to_numpy(dtype=str), return_inverse=True)
    return labels.astype(np.int64), classes.tolist()


def _several(column: pd.Series) -> tuple[NDArray[np.int64], list[str]]:
    names = [[name.strip() for name in cell.split("|") if name.strip()] for cell in column]
    classes = sorted({name for row in names for name in row})
    labels = np.array([[name in row for name in classes] for row in names], dtype=np.int64)
    return labels.reshape(len(names), len(classes)), classes


def _folder(root: Path, seed: int) -> Dataset:
    parts = [split for split in SPLITS if (root / split).is_dir()]
    places = [(split, root / split) for split in parts] or [("", root)]
    found = [(split, folder.name, file) for split, place in places for folder, file in _class_files(place)]
    if not found:
        raise ProbeError(f"'{root}' holds no images in root/class/* or root/{{train,val,test}}/class/*")
    classes, labels = np.unique([name for _, name, _ in found], return_inverse=True)
    files = [file for _, _, file in found]
    return make_dataset(
        root.resolve().name,
        ImageFiles(files),
        [file.relative_to(root).as_posix() for file in files],
        labels.astype(np.int64),
        classes.tolist(),
        splits=[split for split, _, _ in found] if parts else None,
        seed=seed,
    )


def _class_files(place: Path) -> list[tuple[Path, Path]]:
    known = {suffix for suffix, form in Image.registered_extensions().items() if form in Image.OPEN}
    folders = sorted(folder for folder in place.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    return [
        (folder, file)
        for folder in folders
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in known and file.is_file() and not file.name.startswith(".")
    ]


def _arrays(path: Path, seed: int) -> Dataset:
    stored = _read_npz(path)
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
    table = np.concatenate([label[:, None] if label.ndim == 1 else label for label in labels]).astype(np.int64)
    several = table.shape[1] > 1
    count = table.shape[1] if several else int(table.max(initial=0)) + 1
    if not several and count > max(len(table), 2):
        raise ProbeError(f"'{path}' has the class {count - 1} among {len(table)} images; classes count from 0")
    return make_dataset(
        path.stem,
        ImageArrays(images, path),
        [f"{split}-{i:06d}" for split, part in zip(splits, images, strict=True) for i in range(len(part))],
        table if several else table[:, 0],
        [str(i) for i in range(count)],
        splits=[split for split, part in zip(splits, images, strict=True) for _ in range(len(part))],
        seed=seed,
    )


def _read_npz(path: Path) -> dict[str, NDArray[np.generic]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            stored = {name: archive[name] for name in archive.files}
            return {name: array for name, array in stored.items() if isinstance(array, np.ndarray)}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, AttributeError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ProbeError(f"'{path}' is not a readable .npz of plain arrays: {reason}") from None


def _check_arrays(path: Path, images: Sequence[NDArray[np.generic]], labels: Sequence[NDArray[np.generic]]) -> None:
    widths = {label.shape[1:] or (1,) for label in labels}
    for image, label in zip(images, labels, strict=True):
        grey, colour = image.ndim == 3, image.ndim == 4 and image.shape[-1] == 3
        if not (grey or colour) or image.dtype != np.uint8:
            raise ProbeError(
                f"'{path}' holds images of shape {image.shape} and type {image.dtype}; "
                "(n, h, w) or (n, h, w, 3) of uint8 can be read"
            )
        flat = label.ndim in (1, 2) and len(image) == len(label) and len(widths) == 1 and widths != {(0,)}
        if not flat or label.dtype.kind not in "iub" or not _are_codes(label):
            raise ProbeError(
                f"'{path}' has {len(image)} images and {label.size} labels of type {label.dtype}, shape {label.shape}; "
                "(n, 1) classes counted from 0, or (n, labels) of 0 and 1 can be read"
            )


def _are_codes(labels: NDArray[np.generic]) -> bool:
    """Whether labels count classes from 0, or are 0 and 1 when there are several per image."""
    most = 1 if labels.ndim == 2 and labels.shape[1] > 1 else np.iinfo(np.int32).max
    return not labels.size or bool(int(labels.min()) >= 0 and int(labels.max()) <= most)
