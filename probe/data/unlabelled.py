"""Images of which nobody needs to know the labels: for predictions."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import cache as once
from pathlib import Path

from probe.base.errors import ProbeError
from probe.base.runtime import default_folder
from probe.data.file_hashes import FileHashes
from probe.data.image_sources import ImageFiles, images_in
from probe.data.manifests import SUFFIXES, read_files
from probe.data.nifti import volume_of
from probe.data.open_dataset import dataset
from probe.data.published_sets import MEDMNIST, TORCHVISION
from probe.data.screening import is_there, left_out
from probe.data.table import Images
from probe.settings import Reading

FORMS = "image files, a folder, a .csv or .parquet with a column 'file', or a data set as 'probe layerwise' takes it"


def find_images(
    sources: Sequence[str | Path], reading: Reading | None = None, cache: str | Path | None = None
) -> tuple[list[str], Images]:
    """Names and images, in order, of files, folders (all images below) and manifests, of which labels are ignored.

    A single source may also be a data set that is no file or folder (`digits`, `medmnist:FLAG`) or an `.npz`.
    A name is the file as given, or relative to the one folder that was. Raises ProbeError when there is nothing
    there.
    """
    reading = reading or Reading()
    if len(sources) == 1 and _is_data_set(sources[0]):
        table = dataset(sources[0], cache=cache, **asdict(reading))
        return table.ids.tolist(), table.images
    if reading.size is not None:
        raise ProbeError(f"size is for {MEDMNIST} data sets alone, and '{sources[0]}' is not one; leave it out")
    found = [pair for source in sources for pair in _listed(Path(source), len(sources) == 1, reading)]
    if not found:
        raise ProbeError(f"no images were named: give {FORMS}")
    ids, files = [name for name, _ in found], [file for _, file in found]
    skipped = left_out(
        ImageFiles(files, reading), ids, str(sources[0]), once(lambda: FileHashes(Path(cache or default_folder())))
    )
    kept = [i for i in range(len(ids)) if i not in skipped]
    return [ids[i] for i in kept], ImageFiles([files[i] for i in kept], reading)


def _is_data_set(source: str | Path) -> bool:
    path = Path(source)
    if is_there(path):
        return path.suffix.lower() == ".npz"
    return str(source) == "digits" or str(source).startswith((MEDMNIST, TORCHVISION))


def _listed(path: Path, alone: bool, reading: Reading) -> list[tuple[str, Path]]:
    if is_there(path) and path.suffix.lower() in SUFFIXES:
        table, files = read_files(path, missing_ok=reading.on_error == "skip")
        return list(zip(table["file"] if alone else map(str, files), files, strict=True))
    if is_there(volume_of(path)):
        return [(str(path), path)]
    if not path.is_dir():
        raise ProbeError(f"no images at '{path}': give {FORMS}")
    files = images_in(path)
    if not files:
        raise ProbeError(f"'{path}' holds no images")
    return [(file.relative_to(path).as_posix() if alone else str(file), file) for file in files]
