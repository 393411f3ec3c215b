"""Published data sets by name, fetched by the packages that publish them: MedMNIST's and torchvision's."""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from probe.base.errors import ProbeError, reason
from probe.base.lookup import unknown
from probe.base.runtime import optional
from probe.data.file_hashes import FileHashes
from probe.data.image_sources import RULES
from probe.data.npz import read_arrays
from probe.data.pictures import as_rgb
from probe.data.table import Dataset, make_dataset
from probe.tasks import Classes

MEDMNIST, TORCHVISION = "medmnist:", "torchvision:"  # before the name, as in --arch torchvision:resnet18

FLAG = {"train": {"train": True}, "test": {"train": False}}
PAIR = {"train": {"split": "train"}, "test": {"split": "test"}}
TRIPLE = {**PAIR, "val": {"split": "val"}}
HELD_OUT = {"train": {"split": "train"}, "test": {"split": "val"}}  # what is official is called val
WHOLE: dict[str, dict[str, Any]] = {"": {}}
TORCHVISION_SETS: dict[str, dict[str, dict[str, Any]]] = {  # our splits, and the arguments that ask for them
    **dict.fromkeys(("CIFAR10", "CIFAR100", "FashionMNIST", "KMNIST", "MNIST", "QMNIST", "USPS"), FLAG),
    **dict.fromkeys(("Food101", "GTSRB", "STL10", "SVHN"), PAIR),
    **dict.fromkeys(("DTD", "FGVCAircraft", "Flowers102", "PCAM", "RenderedSST2"), TRIPLE),
    **dict.fromkeys(("CLEVRClassification", "Imagenette"), HELD_OUT),
    **dict.fromkeys(("Caltech101", "Caltech256", "EuroSAT", "SEMEION", "SUN397"), WHOLE),
    "Country211": {**PAIR, "val": {"split": "valid"}},
    "EMNIST": {split: {"split": "balanced", **flag} for split, flag in FLAG.items()},
    "OxfordIIITPet": {**PAIR, "train": {"split": "trainval"}},
}


def read_medmnist(flag: str, size: int | None, seed: int) -> Dataset:
    """A 2-D data set of MedMNIST with its official splits, `size` pixels a side (28 by default).

    The file is kept where the `medmnist` package keeps it (`~/.medmnist`) and fetched by it when it
    is not there, checksum and all. Yang et al. 2023 (doi:10.1038/s41597-022-01721-8). Raises
    ProbeError for an unknown name or size, and when the file can neither be found nor fetched.
    """
    package = optional("medmnist", "medmnist", f"'{MEDMNIST}{flag}'")
    flat = {name: facts for name, facts in package.INFO.items() if not facts["python_class"].endswith("3D")}
    if flag not in flat:
        raise unknown("MedMNIST data set", flag, list(flat))
    kind, side = getattr(package, flat[flag]["python_class"]), size or 28
    if side not in kind.available_sizes:
        raise ProbeError(f"size is {size}; {flag} comes in {', '.join(map(str, kind.available_sizes))} pixels")
    name = flag if side == 28 else f"{flag}_{side}"
    file = Path(package.info.DEFAULT_ROOT or ".") / f"{name}.npz"
    try:
        with contextlib.redirect_stdout(sys.stderr):  # downloaders talk; stdout is for results
            kind(split="val", size=side, download=True, root=file.parent)  # the smallest; all are in one file
    except (
        Exception
    ) as error:  # whatever a downloader runs into; the package turns most of it into advice of many lines
        raise ProbeError(
            f"'{MEDMNIST}{flag}' is not at '{file}' and cannot be fetched: "
            f"{reason(error.__context__ or error)}; download it where the network is reachable and put it there"
        ) from None
    return read_arrays(file, seed, list(flat[flag]["label"].values()))


def read_torchvision(name: str, seed: int) -> Dataset:
    """A classification data set of torchvision with the official splits that it has; the others are drawn.

    Kept in `datasets/NAME` in torch's home (`$TORCH_HOME`, else `~/.cache/torch`), and fetched by
    torchvision when it is not there. Raises ProbeError for an unknown name, and for data that can
    neither be found nor fetched, or are damaged.
    """
    import torch
    from torchvision import datasets

    if name not in TORCHVISION_SETS:
        raise unknown("torchvision data set", name, list(TORCHVISION_SETS))
    root = Path(torch.hub.get_dir()).parent / "datasets" / name
    root.mkdir(parents=True, exist_ok=True)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            parts = {
                split: getattr(datasets, name)(root, download=True, **arguments)
                for split, arguments in TORCHVISION_SETS[name].items()
            }
            labels = [_labels(part) for part in parts.values()]
    except Exception as error:  # whatever a downloader or a parser runs into
        raise ProbeError(
            f"'{TORCHVISION}{name}' can neither be read from '{root}' nor fetched: {reason(error)}"
        ) from None
    table = np.concatenate(labels)
    splits = [split for split, part in zip(parts, labels, strict=True) for _ in part]
    return make_dataset(
        name,
        ImageSets(list(parts.values()), [len(part) for part in labels], root),
        [f"{split or 'image'}-{i:06d}" for split, part in zip(parts, labels, strict=True) for i in range(len(part))],
        table,
        Classes(_class_names(next(iter(parts.values())), int(table.max()) + 1)),
        splits=splits if set(parts) != {""} else None,
        seed=seed,
    )


class ImageSets:
    """Images of torchvision data sets, one after the other."""

    def __init__(self, parts: Sequence[Any], lengths: Sequence[int], root: Path) -> None:
        """`root` holds the files that all of them come from, and nothing else."""
        self.parts, self.root = parts, root
        self.reading: dict[str, Any] = {"rules": RULES}
        self._starts = np.cumsum([0, *lengths])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def load(self, index: int) -> Image.Image:
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        try:
            return as_rgb(self.parts[part][index - int(self._starts[part])][0])
        except Exception as error:  # as above
            raise ProbeError(f"cannot read image {index} in '{self.root}': {reason(error)}") from None

    def hashes(self, files: FileHashes) -> Sequence[str]:
        return files.hash(sorted(file for file in self.root.rglob("*") if file.is_file()))


def _labels(part: Any) -> NDArray[np.int64]:
    """Class of every image: from the list that most sets keep, under one name or another, else image by image."""
    for name in ("targets", "labels", "_labels", "y"):
        kept = np.asarray(getattr(part, name, ()))
        if kept.shape == (len(part),) and kept.dtype.kind in "iu" and int(kept[-1]) == int(part[len(part) - 1][1]):
            return kept.astype(np.int64)
    pairs = getattr(part, "_samples", None) or (part[i] for i in range(len(part)))
    return np.array([int(pair[1]) for pair in pairs], dtype=np.int64)


def _class_names(part: Any, count: int) -> list[str]:
    """The names that a set gives its classes, or their numbers."""
    names = getattr(part, "classes", None) or getattr(part, "categories", None) or []
    first = [str(name[0] if isinstance(name, tuple) else name) for name in names]  # Imagenette has synonyms
    return first if len(first) >= count else [str(i) for i in range(count)]
