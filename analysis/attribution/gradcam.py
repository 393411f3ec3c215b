"""Grad-CAM on the tensor at a tap, whatever its layout.

captum's LayerGradCam reads the layer by a hook and averages over all axes but the second, which is right for nchw
alone. A network in two parts needs no hook, and the tests compare the two where both are right.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn.functional import interpolate

from probe.base.errors import ProbeError


@dataclass(frozen=True)
class AtTap:
    """A network with a tap between its two parts: `below` takes images to the tensor there, `above` that to logits.

    `layout` names the tensor's axes (nchw, nhwc, ntd, nd); the first `prefix` tokens are not the image's, and the
    others are a square, row by row.
    """

    below: Callable[[Tensor], Tensor]
    above: Callable[[Tensor], Tensor]
    layout: str
    prefix: int = 0
    name: str = "the tap"

    def __call__(self, images: Tensor) -> Tensor:
        return self.above(self.below(images))


def differentiable(x: Tensor) -> Tensor:
    """A copy of what was made in inference mode, with which gradients cannot be had; all else itself."""
    return x.clone() if x.is_inference() else x


@torch.inference_mode(False)
def grad_cam(
    model: AtTap, images: Float[Tensor, "n c h w"], targets: Integer[Tensor, "n"], *, rectified: bool = True
) -> Float[Tensor, "n h w"]:
    """Grad-CAM of the target's logit at the tap, in logits, brought to the images' size; `rectified` is cut off at 0.

    Channels are weighted by their mean gradient and summed: Selvaraju et al. 2017
    (arXiv:1610.02391), section 3. Under a mean and a linear layer, the map that is not cut off sums, at the tap's own
    size, to the logit without its intercept. Raises ProbeError for a tap without spatial extent.
    """
    images, targets = differentiable(images), differentiable(targets)
    with torch.no_grad():
        x = model.below(images)
    places = positions(model, x)
    if places.shape[2] * places.shape[3] == 1:
        raise ProbeError(f"'{model.name}' is a single position here, so Grad-CAM cannot say where; take an earlier tap")
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        logits = model.above(x).gather(1, targets[:, None])
        (gradient,) = torch.autograd.grad(logits.sum(), x)
    weights = positions(model, gradient).mean((2, 3), keepdim=True)
    maps = (weights * places).sum(1, keepdim=True)
    return interpolate(
        maps.relu() if rectified else maps, size=images.shape[-2:], mode="bilinear", align_corners=False
    )[:, 0]


def positions(model: AtTap, x: Tensor) -> Float[Tensor, "n d rows columns"]:
    """The tensor at the tap as maps of its channels. Raises ProbeError where it has no rows and columns."""
    if model.layout == "nchw":
        return x
    if model.layout == "nhwc":
        return rearrange(x, "n h w d -> n d h w")
    if model.layout == "nd":
        raise ProbeError(f"'{model.name}' is one vector per image, so Grad-CAM cannot say where; take an earlier tap")
    tokens = x[:, model.prefix :]
    side = math.isqrt(tokens.shape[1])
    if side * side != tokens.shape[1]:
        raise ProbeError(
            f"the {tokens.shape[1]} tokens at '{model.name}' are no square, so Grad-CAM cannot say where they lie"
        )
    return rearrange(tokens, "n (h w) d -> n d h w", h=side)
