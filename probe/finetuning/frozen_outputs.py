"""Frozen stages paid once: what they make of every image, kept in the feature cache."""

import math
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from probe.backbones import Backbone
from probe.base.runtime import log
from probe.cache.requests import network_request
from probe.data import Dataset
from probe.features.extraction import Walk, keep_arrays
from probe.finetuning.inputs import Outputs, Source
from probe.settings import Extraction, Training
from probe.truncation import Truncated


def through_frozen(
    model: Truncated, count: int, data: Dataset, training: Training, fabric: Fabric, pictures: Source, seed: int,
    cache: Path,
) -> Source:  # fmt: skip
    """The outputs of the first `count` stages for every image, or `pictures` where the disk is too small for them.

    float32 (n, c h w) on the disk, and as much for every fixed view; numbers are those of the walk in eval mode, to
    what another batch size changes.
    """
    bottom = model.trunk.cut(count - 1)
    tap = bottom.tap(-1)
    width = math.prod(tap.shape)
    there = next(folder for folder in (cache, *cache.absolute().parents) if folder.is_dir())
    size = 4 * width * len(data) * (1 + training.views)
    if size > shutil.disk_usage(there).free:
        log.warning(
            "the outputs of frozen stages take %.1f GB, more than is free in '%s'; they are computed every epoch",
            size / 1e9, there,
        )  # fmt: skip
        return pictures
    walk = partial(_walk, bottom, len(data), fabric, pictures)
    plain, *views = (
        _kept(bottom, data, training, str(fabric.device), cache, walk, seeds)
        for seeds in (None, *((seed, view + 1) for view in range(training.views)))
    )
    return Outputs(plain, tap.shape, count, str(fabric.device), views)


def _kept(
    bottom: Backbone, data: Dataset, training: Training, device: str, cache: Path, walk: Callable[..., Walk],
    seeds: tuple[int, int] | None,
) -> NDArray[np.floating]:  # fmt: skip
    """The array of all images, or of a view of them, from the cache or made now."""
    tap = bottom.tap(-1)
    settings = Extraction(dtype=training.precision, compile="off", channels_last=False)
    request = {
        **network_request(bottom, settings, device), "taps": [tap.name], "pool": "whole",
        "widths": {tap.name: math.prod(tap.shape)},
    }  # fmt: skip
    if seeds:
        request["view"] = [training.augment, *seeds]
    facts = {"request": request, "origin": bottom.describe(), "taps": [tap.to_dict()]}
    return keep_arrays(facts, data, training.batch_size, partial(walk, seeds), cache)[tap.name]


def _walk(
    bottom: Backbone, count: int, fabric: Fabric, pictures: Source, seeds: tuple[int, int] | None, batch_size: int
) -> Walk:
    """From rows to what the frozen stages make of them, in batches."""
    every, name = np.arange(count), bottom.taps[-1]

    def walk(rows: range) -> Iterator[dict[str, NDArray[np.float32]]]:
        bottom.eval()
        chunks = [every[at : min(at + batch_size, rows.stop)] for at in range(rows.start, rows.stop, batch_size)]
        for x in pictures.batches(every, chunks, seeds):
            with torch.no_grad(), fabric.autocast():
                yield {name: bottom(x).flatten(1).float().cpu().numpy()}

    return walk
