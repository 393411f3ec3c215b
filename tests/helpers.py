"""Data, networks and settings of more than one test module."""

from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import probe
from probe.backbones import Backbone
from probe.data import Dataset, make_dataset
from probe.data.image_sources import ImageArrays
from probe.features import Features
from probe.features.network_reader import moments, normalised
from probe.features.walk import read_batches, transform
from probe.finetuning import Finetuned
from probe.settings import Batches, Extraction, Network, Training
from probe.tasks import Classes, Labels
from probe.truncation import Truncated

SMALL = Network(image_size=32)
BY_EIGHT = Extraction(batch_size=8)
FAST = Training(epochs=1, draws=100, batch_size=16)
COUNT, SIZE = 48, 32  # images of `some_data`, pixels
QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 8, "draws": 100, "device": "cpu", "num_workers": 1}


# data


def tiny_data(n: int = 23, size: int = 40) -> Dataset:
    """Noise."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    return make_dataset("tiny", ImageArrays([images]), [f"{i}" for i in range(n)], np.arange(n) % 2, ["a", "b"])


def shapes_data(n: int = 120, task: str = "multiclass", groups: bool = False) -> Dataset:
    """Noisy images whose brightness and left-right balance tell their class."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 3
    images = rng.integers(0, 90, (n, 32, 32, 3))
    images[labels == 1, :, :16] += 60
    images[labels == 2] += 40
    y = (
        np.stack([labels == 1, labels != 0], 1).astype(np.int64)
        if task == "multilabel"
        else labels % (3 - (task == "binary"))
    )
    names = ["left", "bright"] if task == "multilabel" else ["dark", "left", "bright"][: 2 if task == "binary" else 3]
    return make_dataset(
        "shapes", ImageArrays([images.astype(np.uint8)]), [f"{i}" for i in range(n)], y, names,
        groups=[f"patient{i // 2}" for i in range(n)] if groups else None,
    )  # fmt: skip


def some_data(several: bool = False) -> Dataset:
    """Two classes that differ in brightness; or two labels of which some are unknown."""
    rng = np.random.default_rng(0)
    labels = np.arange(COUNT) % 2
    images = (rng.integers(0, 200, (COUNT, SIZE, SIZE, 3)) + 40 * labels[:, None, None, None]).astype(np.uint8)
    if several:
        labels = np.stack([labels, rng.integers(-1, 2, COUNT)], axis=1)
    splits = ["train"] * 26 + ["val"] * 12 + ["test"] * 10
    names = [f"{i}" for i in range(COUNT)]
    return make_dataset("some", ImageArrays([images]), names, labels, ["a", "b"], splits=splits)


def write_npz(path: Path, data: Dataset, splits: Any) -> Path:
    """A data set as a file in the form of MedMNIST, with these splits."""
    images = np.stack([np.asarray(data.images.load(row)) for row in range(len(data))])
    rows = {split: np.flatnonzero(np.asarray(splits) == split) for split in ("train", "val", "test")}
    arrays: dict[str, Any] = {f"{split}_images": images[at] for split, at in rows.items()}
    arrays |= {f"{split}_labels": data.labels[at, None] for split, at in rows.items()}
    np.savez(path, **arrays)
    return path


# features


def tiny_net(arch: str = "resnet10t") -> Backbone:
    return probe.backbone(arch, "scratch", image_size=32)


def files(features: Features) -> dict[str, bytes]:
    """The arrays of features in the cache, byte by byte."""
    return {path.name: path.read_bytes() for path in sorted(features.folder.glob("*.npy"))}


def extract_by_eight(cache: Path, data: Dataset) -> Features:
    return probe.extract(tiny_net("test_resnet"), data, BY_EIGHT, cache=cache)


# training


@cache
def tiny_resnet() -> Backbone:
    """Built once: not to be changed."""
    return probe.backbone("test_resnet", "scratch", image_size=SIZE)


def small(several: bool = False, tap: str | int = -1) -> Truncated:
    """A model whose weights are not those of a fresh network."""
    model = probe.truncate(tiny_resnet(), tap, (Labels if several else Classes)(["a", "b"]))
    with torch.no_grad():
        for parameter in model.trunk.parameters():
            parameter.add_(0.02)
    return model


def tune(model: Truncated, data: Dataset, strategy: str = "ftl", **changes: Any) -> Finetuned:
    extra = {name: changes.pop(name) for name in ("checkpoint", "seed", "tuning", "cache") if name in changes}
    return probe.finetune(model, data, strategy, training=Training(**{**QUICK, **changes}), **extra)


def inputs(model: Truncated, data: Dataset, split: str) -> tuple[Tensor, Tensor]:
    """Normalised images and labels of a split."""
    rows = np.flatnonzero(data.splits == split)
    batches = read_batches(data.images, transform(model.preprocessing), Batches(batch_size=COUNT), rows.tolist())
    return normalised(next(iter(batches)), *moments(model.preprocessing, "cpu")), torch.from_numpy(data.labels[rows])


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# figures


def words(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(mpl.text.Text))
