"""The forms in which data come, behind one entrance."""

from functools import cache as once
from pathlib import Path

import numpy as np

from probe.base.errors import ProbeError
from probe.base.lookup import check_seed
from probe.base.runtime import default_folder
from probe.data.file_hashes import FileHashes
from probe.data.image_sources import ImageArrays, images_in
from probe.data.manifests import SUFFIXES, read_manifest
from probe.data.npz import read_arrays
from probe.data.published_sets import MEDMNIST, TORCHVISION, read_medmnist, read_torchvision
from probe.data.screening import Listed, screened
from probe.data.table import Dataset, make_dataset
from probe.settings import Reading
from probe.settings.image_reading import SPLITS
from probe.tasks import Classes

DIGITS_SIZE = 64  # pixels; the 8 x 8 originals hold no more
FORMS = (
    "'digits', a .csv or .parquet manifest, a folder root/class/*, an .npz in MedMNIST's layout, "
    "medmnist:FLAG or torchvision:NAME"
)


def dataset(
    source: str | Path = "digits",
    *,
    seed: int = 0,
    window: str = "auto",
    size: int | None = None,
    on_error: str = "fail",
    cache: str | Path | None = None,
) -> Dataset:
    """Labelled images from `digits`, a manifest, an image folder, an `.npz` or a published data set.

    A manifest (.csv, .parquet) has the columns `file` (relative to it), `label` (one name), `labels`
    (names joined by `|`, empty for none) or columns of 0 and 1 (empty or -1 for unknown), and
    optionally `split` and `group`. A folder holds `class/*` or `{train,val,test}/class/*`. Files are
    whatever Pillow opens, DICOM, or NIfTI, of which `scan.nii.gz#axis=2&slice=40` is one slice and
    `scan.nii.gz` the middle axial one. Without a column `group`, the patient of a DICOM file and the
    volume of a NIfTI slice is its group. `medmnist:FLAG` (`size` pixels a side) and
    `torchvision:NAME` are fetched if need be. Splits that are not given are drawn from `seed`, 60/20/20.

    `window` says how more than 8 bits become 8 (see `Reading`). `on_error="skip"` leaves out files
    that cannot be decoded, found before anything else is done and listed in `.skipped`; what is
    found out about files is remembered in the folder `cache`.

    Raises ProbeError when there is nothing to read, or it cannot be probed.
    """
    check_seed(seed)
    reading = Reading(window=window, size=size, on_error=on_error)
    name = str(source)
    if not name:
        raise ProbeError(f"no data were named: give {FORMS}")
    if size is not None and not name.startswith(MEDMNIST):
        raise ProbeError(f"size is for {MEDMNIST} data sets alone, and '{name}' is not one; leave it out")
    path = Path(source)
    if not _exists(path) and (name == "digits" or name.startswith((MEDMNIST, TORCHVISION))):
        return _named(name, size, seed)
    if path.is_file() and path.suffix.lower() == ".npz":
        return read_arrays(path, seed)
    return screened(_listed(path, reading), reading, seed, once(lambda: FileHashes(Path(cache or default_folder()))))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # a name longer than any file's, a folder that may not be entered
        raise ProbeError(f"cannot look for data at '{path}': {error.strerror}; give {FORMS}") from None


def _named(name: str, size: int | None, seed: int) -> Dataset:
    if name == "digits":
        return _digits(seed)
    kind, _, rest = name.partition(":")
    return read_medmnist(rest, size, seed) if f"{kind}:" == MEDMNIST else read_torchvision(rest, seed)


def _listed(path: Path, reading: Reading) -> Listed:
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise ProbeError(f"no data at '{path}': give {FORMS}")
    if path.suffix.lower() not in SUFFIXES:
        raise ProbeError(f"cannot tell what data '{path}' holds: give {FORMS}")
    return read_manifest(path, missing_ok=reading.on_error == "skip")


def _digits(seed: int) -> Dataset:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    ids = [f"digit-{i:04d}" for i in range(len(images))]
    labels = digits.target.astype(np.int64)
    task = Classes([str(name) for name in digits.target_names])
    return make_dataset("digits", ImageArrays([images]), ids, labels, task, seed=seed, image_size=DIGITS_SIZE)


def _folder(root: Path) -> Listed:
    parts = [split for split in SPLITS if (root / split).is_dir()]
    places = [(split, root / split) for split in parts] or [("", root)]
    found = [(split, folder.name, file) for split, place in places for folder, file in _class_files(place)]
    if not found:
        raise ProbeError(f"'{root}' holds no images in root/class/* or root/{{train,val,test}}/class/*")
    names = [name for _, name, _ in found]
    task = Classes.named_in(names)
    table = min((file for file in root.iterdir() if file.suffix.lower() in SUFFIXES), default=None)
    if len(task.names) == 1 and table:
        raise ProbeError(f"'{root}' holds a single folder of images, '{names[0]}'; give its table, '{table}'")
    files = [file for _, _, file in found]
    return Listed(
        name=root.resolve().name,
        files=files,
        ids=[file.relative_to(root).as_posix() for file in files],
        labels=task.encode(names),
        task=task,
        splits=[split for split, _, _ in found] if parts else None,
    )


def _class_files(place: Path) -> list[tuple[Path, Path]]:
    folders = sorted(folder for folder in place.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    return [(folder, file) for folder in folders for file in images_in(folder)]
