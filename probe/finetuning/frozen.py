"""Frozen stages paid once: what they make of every image, kept in the feature cache."""

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from probe.cache import Walk, keep_arrays
from probe.cache.requests import network_request
from probe.data import Dataset
from probe.finetuning.sources import Outputs, Source
from probe.runtime import log
from probe.settings import Extraction, Training
from probe.truncation import Truncated


def through_frozen(
    model: Truncated, count: int, data: Dataset, training: Training, fabric: Fabric, pictures: Source, cache: Path
) -> Source:
    """The outputs of the first `count` stages for every image, or `pictures` where the disk is too small for them.

    float32 (n, c h w) on the disk; numbers are those of the walk in eval mode, to what another batch size changes.
    """
    bottom = model.trunk.cut(count - 1)
    place = bottom.stage(-1).place
    width = math.prod(place.shape)
    there = next(folder for folder in (cache, *cache.absolute().parents) if folder.is_dir())
    if 4 * width * len(data) > shutil.disk_usage(there).free:
        log.warning(
            "the outputs of frozen stages take %.1f GB, more than is free in '%s'; they are computed every epoch",
            4 * width * len(data) / 1e9, there,
        )  # fmt: skip
        return pictures
    device = str(fabric.device)

    def begin(batch_size: int) -> Walk:
        def walk(rows: range) -> Iterator[dict[str, NDArray[np.float32]]]:
            bottom.eval()
            every = np.arange(len(data))
            chunks = [every[at : min(at + batch_size, rows.stop)] for at in range(rows.start, rows.stop, batch_size)]
            for x in pictures.batches(every, chunks):
                with torch.no_grad(), fabric.autocast():
                    yield {place.name: bottom(x).flatten(1).float().cpu().numpy()}

        return walk

    settings = Extraction(dtype=training.precision, compile="off", channels_last=False)
    request = {
        **network_request(bottom, settings, device), "taps": [place.name], "pool": "whole",
        "widths": {place.name: width},
    }  # fmt: skip
    facts = {"request": request, "origin": bottom.describe(), "taps": bottom.table()[-1:]}
    features = keep_arrays(facts, data, training.batch_size, begin, cache)
    return Outputs(features[place.name], place.shape, count, device)
