"""The methods by name: Grad-CAM, and captum's that read the network from outside."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from captum.attr import IntegratedGradients, Occlusion, Saliency
from jaxtyping import Float, Integer
from torch import Tensor
from tqdm import tqdm

from analysis.attribution.gradcam import AtTap, differentiable, grad_cam
from probe.base.errors import ProbeError
from probe.base.lookup import unknown

Model = Callable[[Tensor], Tensor]
PATCHES = 8  # of an image's side: the default size of what occlusion hides


@dataclass(frozen=True)
class Job:
    """A batch of images with a target and a baseline each, the first of them being image `first` of all.

    `references` (m, c, h, w) are drawn from by GradientSHAP, `samples` of them by `seed`; integrated gradients take
    `steps`, occlusion hides `patch` pixels a side. `batch_size` is of passes through the network.
    """

    images: Tensor
    targets: Tensor
    baseline: Tensor
    first: int
    references: Tensor
    steps: int
    samples: int
    patch: int
    seed: int
    batch_size: int


def _grad_cam(model: Model, job: Job) -> Tensor:
    if not isinstance(model, AtTap):
        raise ProbeError("Grad-CAM reads the tensor at a tap: give the network as AtTap(below, above, maps)")
    return grad_cam(model, job.images, job.targets)


def _saliency(model: Model, job: Job) -> Tensor:
    found: Tensor = Saliency(model).attribute(job.images.requires_grad_(), target=job.targets, abs=True)
    return found.amax(1)


def _integrated_gradients(model: Model, job: Job) -> Tensor:
    found: Tensor = IntegratedGradients(model).attribute(
        job.images.requires_grad_(), job.baseline, job.targets, n_steps=job.steps, internal_batch_size=job.batch_size
    )
    return found.float().sum(1)


def _occlusion(model: Model, job: Job) -> Tensor:
    channels, stride = job.images.shape[1], max(1, job.patch // 2)
    window, strides = (channels, job.patch, job.patch), (channels, stride, stride)
    with torch.no_grad():
        found: Tensor = Occlusion(model).attribute(job.images, window, strides, job.baseline, job.targets)
    return found.float().mean(1)


def _gradient_shap(model: Model, job: Job) -> Tensor:
    """captum's own draws, made beforehand: it takes all samples in one pass, and draws others when they are split."""
    maps = []
    for i, one in enumerate(job.images):  # each from a seed of its own, so that batches change nothing
        seed = int(np.random.SeedSequence([job.seed, job.first + i]).generate_state(1)[0])
        drawn = np.random.RandomState(seed)
        picked = torch.from_numpy(drawn.choice(len(job.references), job.samples)).to(one.device)
        places = torch.tensor(drawn.uniform(size=job.samples), dtype=one.dtype, device=one.device).reshape(-1, 1, 1, 1)
        total = torch.zeros_like(one)
        for rows, place in zip(picked.split(job.batch_size), places.split(job.batch_size), strict=True):
            base = job.references[rows]
            between = torch.lerp(base, one.expand_as(base), place).requires_grad_()
            slopes: Tensor = Saliency(model).attribute(between, target=int(job.targets[i]), abs=False)
            total += ((one - base) * slopes).sum(0)
        maps.append(total.float().sum(0) / job.samples)
    return torch.stack(maps)


@dataclass(frozen=True)
class Method:
    """A method with what its numbers are: their name in print, their unit, and whether they have a sign."""

    maps: Callable[[Model, Job], Tensor]
    title: str
    unit: str
    signed: bool


METHODS = {
    "gradcam": Method(_grad_cam, "Grad-CAM", "logits", signed=False),
    "integrated-gradients": Method(_integrated_gradients, "integrated gradients", "logits per pixel", signed=True),
    "saliency": Method(_saliency, "saliency", "logits per standard deviation of a pixel", signed=False),
    "occlusion": Method(_occlusion, "occlusion", "logits lost when hidden", signed=True),
    "gradient-shap": Method(_gradient_shap, "GradientSHAP", "logits per pixel", signed=True),
}


def attribute(
    model: Model,
    images: Float[Tensor, "n c h w"],
    targets: Integer[Tensor, "targets"],
    method: str = "gradcam",
    *,
    baseline: Float[Tensor, "n c h w"] | None = None,
    references: Float[Tensor, "m c h w"] | None = None,
    steps: int = 50,
    samples: int = 20,
    patch: int | None = None,
    seed: int = 0,
    batch_size: int = 16,
) -> Float[Tensor, "n h w"]:
    """Which pixels of each image the logit of its target rests on; float32, on the images' device.

    `gradcam`: Selvaraju et al. 2017; the model must be an `AtTap`. `integrated-gradients`: Sundararajan et al. 2017
    (arXiv:1703.01365), from `baseline` (default: zeros, the mean colour of normalised images) in `steps`; channels
    summed. `saliency`: Simonyan et al. 2014, the largest |gradient| of the channels. `occlusion`: Zeiler and Fergus
    2014, the logit lost when a square of `patch` pixels (default: an eighth of the side) becomes the baseline, mean
    over the squares that hide a pixel. `gradient-shap`: Lundberg and Lee 2017, mean over `samples` baselines drawn
    from `references` (default: the baseline). The model should be in eval mode. Inference mode is left for the while.

    Raises ProbeError for an unknown method, targets that are no class, a tap without spatial extent, maps that are not
    finite, and maps that are the same everywhere in every image because the logit does not depend on what they show.
    Grad-CAM may well be 0 everywhere: then nothing at the tap speaks for the target.
    """
    maps = raw_maps(
        model, images, targets, method, baseline=baseline, references=references, patch=patch, batch_size=batch_size,
        steps=steps, samples=samples, seed=seed,
    )  # fmt: skip
    title = METHODS[method].title + (f" at '{model.name}'" if isinstance(model, AtTap) else "")
    if not maps.isfinite().all():
        raise ProbeError(f"{title} is not finite: the network gives values that float32 does not hold")
    if _even(maps) and not (method == "gradcam" and _speaks_against(model, images, targets)):
        raise ProbeError(
            f"{title} is the same everywhere in all {len(maps)} images: the logit does not depend there on what an "
            "image shows (a dead tap, or a head that reads the class token alone)"
        )
    return maps


def _even(maps: Tensor) -> bool:
    return bool((maps.flatten(1).amax(1) == maps.flatten(1).amin(1)).all())


def _speaks_against(model: Model, images: Tensor, targets: Tensor) -> bool:
    """Whether Grad-CAM is 0 because what there is at the tap lowers the logits: that is an answer."""
    assert isinstance(model, AtTap)
    pairs = zip(images.split(1), targets.split(1), strict=True)
    return not all(_even(grad_cam(model, x, y, rectified=False)) for x, y in pairs)


@torch.inference_mode(False)
def raw_maps(
    model: Model, images: Tensor, targets: Tensor, method: str, *, baseline: Tensor | None = None,
    references: Tensor | None = None, patch: int | None = None, batch_size: int = 16, **numbers: int,
) -> Float[Tensor, "n h w"]:  # fmt: skip
    """The maps of `attribute`, whatever they show: weights drawn at random may well give a dead network."""
    if method not in METHODS:
        raise unknown("method", method, list(METHODS))
    images, targets = differentiable(images), differentiable(targets)
    _check(model, images, targets)
    blank = torch.zeros_like(images) if baseline is None else differentiable(baseline).expand_as(images)
    side = patch or max(1, images.shape[-1] // PATCHES)
    if side > min(images.shape[-2:]):
        raise ProbeError(f"a patch of {side} pixels is larger than the image; take fewer")
    drawn_from = blank[:1] if references is None else differentiable(references)
    fixed: dict[str, Any] = {"references": drawn_from, "patch": side, **numbers}
    parts = zip(*(x.split(batch_size) for x in (images.detach(), targets, blank)), strict=True)
    maps: list[Tensor] = []
    with tqdm(total=len(images), unit="image", desc=method, disable=None, leave=False) as bar:
        for number, (batch, asked, nothing) in enumerate(parts):
            job = Job(batch, asked, nothing, number * batch_size, batch_size=batch_size, **fixed)
            maps.append(METHODS[method].maps(model, job).detach().float())
            bar.update(len(batch))
    return torch.cat(maps)


def _check(model: Model, images: Tensor, targets: Tensor) -> None:
    if not len(images) or len(targets) != len(images):
        raise ProbeError(f"{len(images)} images and {len(targets)} targets: give a target for each of at least 1 image")
    with torch.no_grad():
        classes = model(images[:1]).shape[1]
    wrong = next((int(target) for target in targets if not 0 <= target < classes), None)
    if wrong is not None:
        raise ProbeError(f"target {wrong} is none of the {classes} classes, 0 to {classes - 1}")
