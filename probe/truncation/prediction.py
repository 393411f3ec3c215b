"""Probabilities of images."""

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from probe.base.errors import ProbeError
from probe.base.runtime import pick_device
from probe.data import Images
from probe.features.network_reader import moments, normalised
from probe.features.walk import read_batches, transform
from probe.settings import Batches
from probe.truncation.truncated import Truncated


def predict(model: Truncated, images: Images, settings: Batches | None = None) -> NDArray[np.float32]:
    """Probability of each class, (n, k), read and preprocessed as the model asks; it runs as a copy in eval mode.

    Raises ProbeError for an image that cannot be read or when the device's memory does not suffice.
    """
    settings = settings or Batches()
    device = pick_device(settings.device)
    ready = copy.deepcopy(model).eval().to(device)
    mean, std = moments(model.preprocessing, device)
    batches = read_batches(images, transform(model.preprocessing), settings, range(len(images)))
    found = []
    with tqdm(total=len(images), unit="image", disable=None, leave=False) as bar:
        for batch in batches:
            try:
                with torch.inference_mode():
                    logits = ready(normalised(batch.to(device), mean, std))
                    found.append(model.task.prediction(logits).cpu().numpy())
            except torch.OutOfMemoryError:
                raise ProbeError(
                    f"{device} ran out of memory with {settings.batch_size} images at a time; take a smaller batch size"
                ) from None
            bar.update(len(batch))
    return np.concatenate(found)
