"""Whether maps can be trusted: do they add up, do the pixels matter, do they change with the weights."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Integer
from numpy import ndarray
from scipy.stats import rankdata
from torch import Tensor

from analysis.attribution.methods import Model

STEPS = 28  # in which all pixels are replaced
KINDS = ("deletion", "insertion")


def completeness_gap(
    model: Model,
    images: Float[Tensor, "n c h w"],
    targets: Integer[Tensor, "n"],
    maps: Float[Tensor, "n h w"],
    baseline: Float[Tensor, "n c h w"],
    batch_size: int = 16,
) -> Float[ndarray, "n"]:
    """|sum of the map - (f(x) - f(baseline))| / |f(x) - f(baseline)| of each image; f is the target's logit.

    Integrated gradients would add up exactly with infinitely many steps: Sundararajan et al. 2017 (arXiv:1703.01365),
    section 3. NaN where image and baseline have the same logit.
    """
    there, blank = (_read(model, x, targets, batch_size) for x in (images, baseline))
    change = (there - blank).cpu().double().numpy()
    total = maps.cpu().double().sum((1, 2)).numpy()
    gap = np.full(len(change), np.nan)
    np.divide(np.abs(total - change), np.abs(change), out=gap, where=change != 0)
    return gap


def perturbation_curves(
    probabilities: Model,
    images: Float[Tensor, "n c h w"],
    targets: Integer[Tensor, "n"],
    maps: Float[Tensor, "n h w"],
    filler: Float[Tensor, "n c h w"],
    kind: str,
    *,
    steps: int = STEPS,
    seed: int = 0,
    batch_size: int = 16,
) -> Float[ndarray, "n steps"]:
    """Probability of the target as ever more pixels, the highest of the map first, are replaced; (n, steps + 1).

    `deletion` goes from the image to `filler`, `insertion` from `filler` to the image; equal pixels go in an order
    drawn from `seed`, so that a map of one value gives the curve of chance. The mean of a curve by the trapezoid rule
    is its area: low is good for deletion, high for insertion. Petsiuk et al. 2018 (arXiv:1806.07421), section 4.2.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is '{kind}'; it must be one of {', '.join(KINDS)}")
    ranks = _ranks(maps, seed).to(images.device)
    first, last = (images, filler) if kind == "deletion" else (filler, images)
    curve = []
    for share in np.linspace(0, 1, steps + 1):
        replaced = (ranks < round(share * ranks[0].numel()))[:, None]
        curve.append(_read(probabilities, torch.where(replaced, last, first), targets, batch_size))
    return torch.stack(curve, 1).cpu().double().numpy()


def area(curves: Float[ndarray, "n steps"]) -> Float[ndarray, "n"]:
    """Area under each curve over shares from 0 to 1."""
    found: ndarray = (curves[:, 1:] + curves[:, :-1]).mean(1) / 2
    return found


def agreement(maps: Float[ndarray, "n h w"], others: Float[ndarray, "n h w"]) -> Float[ndarray, "n"]:
    """Spearman's rank correlation over the pixels of two maps of each image; NaN where one is the same everywhere.

    Of a map and of that by random weights it should be near 0: Adebayo et al. 2018 (arXiv:1810.03292), section 3.
    """
    a, b = (rankdata(x.reshape(len(x), -1), axis=1) for x in (maps, others))
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    size = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    found = np.full(len(a), np.nan)
    np.divide((a * b).sum(1), size, out=found, where=size > 0)
    return found


def _ranks(maps: Tensor, seed: int) -> Tensor:
    """The place of each pixel, (n, h, w), 0 being the highest."""
    flat = maps.flatten(1).cpu().numpy()
    generator = np.random.default_rng(seed)
    order = np.stack([np.lexsort((generator.permutation(len(row)), -row)) for row in flat])
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(order.shape[1])[None].repeat(len(order), 0), axis=1)
    return torch.from_numpy(ranks).reshape(maps.shape)


def _read(model: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor, batch_size: int) -> Tensor:
    """The target's column of what the model gives, (n,)."""
    with torch.no_grad():
        found = [
            model(x).gather(1, y[:, None])[:, 0]
            for x, y in zip(images.split(batch_size), targets.split(batch_size), strict=True)
        ]
    return torch.cat(found)
