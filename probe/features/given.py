"""Features that were made elsewhere: a folder of `.npy`, or an `.npz`."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.taps import Tap
from probe.base.errors import ProbeError, reason
from probe.cache.manifest import NAME, read_loosely
from probe.cache.store import ROWS
from probe.data import Dataset, make_dataset, read_labels, read_npz
from probe.features.features import Features
from probe.settings.networks import STEM
from probe.tasks import Task, kind_of

ABOUT = ("labels", "classes", "ids", "groups", "splits")  # arrays of an .npz that are no features


def read_features(source: str | Path, seed: int = 0) -> Features:
    """Features of the taps of a network, with the labels of their rows; splits that are not given are drawn.

    A folder holds `TAP.npy` (n, d) per tap and `rows.csv` with a line per row: `label` (or `labels`, or columns of
    0 and 1; see `dataset`), and optionally `id`, `split` and `group`. An entry of the feature cache is such a folder.
    An `.npz` holds an array per tap, `labels` (n,) or (n, classes), and optionally `classes`, `ids`, `groups` and
    `splits`. Taps are in the order of an entry's manifest or of the arrays in an `.npz`; else of their names, `stem`
    first and numbers by their value.
    Raises ProbeError when there are no features, or they do not fit the rows.
    """
    path = Path(source)
    if path.is_dir():
        return _from_folder(path, seed)
    if path.is_file() and path.suffix.lower() == ".npz":
        return _from_npz(path, seed)
    raise ProbeError(f"no features at '{source}': give a folder of .npy with {ROWS}, or an .npz")


def _from_folder(folder: Path, seed: int) -> Features:
    paths = {file.stem: file for file in sorted(folder.glob("*.npy"), key=lambda file: _natural(file.stem))}
    manifest = read_loosely(folder / NAME)
    described = {tap.name: tap for tap in map(Tap.from_dict, manifest.get("taps", []))}
    paths = {tap: paths[tap] for tap in described if tap in paths} | paths
    if not (folder / ROWS).is_file():
        raise ProbeError(f"'{folder}' has no {ROWS} that says what the rows of its arrays are")
    labels, task, about = read_labels(folder / ROWS)
    data = _table(folder.name, labels, task, seed, about)
    origin = {"arch": folder.name, "weights": "given", "seed": seed} | manifest.get("origin", {})
    return _checked(folder, paths, data, described, origin)


def make_features(
    arrays: Mapping[str, NDArray[Any]],
    labels: NDArray[Any],
    *,
    classes: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    seed: int = 0,
    name: str = "features",
) -> Features:
    """Features in memory: an array (n, d) per tap, bottom to top, and the labels of their rows.

    `labels` are (n,) numbers or names, or (n, classes) of 1, 0 and -1 for unknown. Splits that are not given are
    drawn from `seed`, groups whole. Raises ProbeError when the parts do not fit.
    """
    if labels.dtype.kind not in "iubU" or not labels.size:
        raise ProbeError(f"{name} has labels of shape {labels.shape} and type {labels.dtype}; (n,) or (n, classes)")
    kind = kind_of(labels)
    names, codes = kind.coded(labels)
    called = [str(each) for each in (names if classes is None else classes)]
    if len(called) != len(names):
        raise ProbeError(f"{name} names {len(called)} classes for {len(names)} of its labels")
    columns = {"ids": ids, "groups": groups, "splits": splits}
    about = {column: list(map(str, cells)) for column, cells in columns.items() if cells is not None}
    data = _table(name, codes, kind(called), seed, about)
    return _checked(Path(name), arrays, data, {}, {"arch": name, "weights": "given", "seed": seed})


def _from_npz(path: Path, seed: int) -> Features:
    stored = read_npz(path)
    if "labels" not in stored:
        raise ProbeError(f"'{path}' has no array 'labels' that says what the rows of its features are")
    taps = {name: array for name, array in stored.items() if name not in ABOUT}
    about: dict[str, Any] = {name: stored[name].tolist() for name in ABOUT[1:] if name in stored}
    return make_features(taps, stored["labels"], **about, seed=seed, name=path.stem)


class _NoImages:
    """In the place of images that nobody has."""

    def __init__(self, rows: int) -> None:
        self.rows, self.reading = rows, dict[str, Any]()

    def __len__(self) -> int:
        return self.rows

    def load(self, index: int) -> Any:
        raise ProbeError("these features came without their images")

    def hashes(self, files: Any) -> Sequence[str]:
        raise ProbeError("these features came without their images")


def _table(name: str, labels: NDArray[np.int64], task: Task, seed: int, about: dict[str, list[str]]) -> Dataset:
    for column, values in about.items():
        if len(values) != len(labels):
            raise ProbeError(f"{name} has {len(labels)} labels and {len(values)} {column}")
    return make_dataset(
        name,
        _NoImages(len(labels)),
        about.get("ids") or [str(row) for row in range(len(labels))],
        labels,
        task,
        groups=about.get("groups"),
        splits=about.get("splits"),
        seed=seed,
    )


def _checked(
    place: Path,
    arrays: Mapping[str, Path | NDArray[Any]],
    data: Dataset,
    described: Mapping[str, Tap],
    origin: dict[str, Any],
) -> Features:
    if not arrays:
        raise ProbeError(f"'{place}' holds no features")
    taps = [
        described.get(name) or Tap(name=name, index=i, depth=(i + 1) / len(arrays)) for i, name in enumerate(arrays)
    ]
    features = Features(arrays, data, place, taps, origin, {"source": str(place)})
    for tap in features:
        try:
            found = features[tap]
        except (ValueError, OSError, EOFError) as error:
            raise ProbeError(f"'{tap}' of '{place}' is not a readable .npy: {reason(error)}") from None
        if found.ndim != 2 or found.dtype.kind not in "fiu" or not found.shape[1]:
            raise ProbeError(
                f"'{tap}' of '{place}' is {found.shape} of {found.dtype}; features are (rows, width) numbers"
            )
        if len(found) != len(data):
            raise ProbeError(f"'{tap}' of '{place}' has {len(found)} rows, but there are {len(data)} labels")
    return features


def _natural(name: str) -> tuple[bool, list[tuple[int, str]]]:
    """stem before layer2 before layer10."""
    parts = re.split(r"(\d+)", name)
    return name != STEM, [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
