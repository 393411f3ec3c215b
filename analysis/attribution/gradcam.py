"""Grad-CAM on the tensor at a tap, whatever its layout.

captum's LayerGradCam reads the layer by a hook and averages over all axes but the second, which is right for nchw
alone. A network in two parts needs no hook, and the tests compare the two where both are right.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn.functional import interpolate

from probe.base.errors import ProbeError


@dataclass(frozen=True)
class AtTap:
    """A network with a tap between its two parts: `below` takes images to the tensor there, `above` that to logits.

    `maps` shows the tensor as one map per channel, (n, d, rows, columns), and raises ProbeError where there is none; by
    default the tensor is such maps.
    """

    below: Callable[[Tensor], Tensor]
    above: Callable[[Tensor], Tensor]
    maps: Callable[[Tensor], Tensor] = lambda x: x
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
    places = model.maps(x)
    if places.shape[2] * places.shape[3] == 1:
        raise ProbeError(f"'{model.name}' is a single position here, so Grad-CAM cannot say where; take an earlier tap")
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        logits = model.above(x).gather(1, targets[:, None])
        (gradient,) = torch.autograd.grad(logits.sum(), x)
    weights = model.maps(gradient).mean((2, 3), keepdim=True)
    maps = (weights * places).sum(1, keepdim=True)
    return interpolate(
        maps.relu() if rectified else maps, size=images.shape[-2:], mode="bilinear", align_corners=False
    )[:, 0]
