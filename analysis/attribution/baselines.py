"""Images that show nothing: what attributions are told against, and what pixels are replaced by."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from probe.base.lookup import unknown
from probe.settings.attribution import BASELINES

BLUR = 1 / 20  # standard deviation of the blur as a share of the image's side: 11 pixels of 224


def make_baseline(
    images: Float[Tensor, "n c h w"], kind: str, mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "n c h w"]:
    """The baseline of each normalised image: the training images' mean colour, black, white, or the image blurred.

    `mean` and `std` are those that the images were normalised with. Raises ProbeError for another kind.
    """
    if kind not in BASELINES:
        raise unknown("baseline", kind, BASELINES)
    if kind == "blur":
        sigma = BLUR * images.shape[-1]
        side = max(3, 2 * min(round(3 * sigma), (min(images.shape[-2:]) - 1) // 2) + 1)
        made: Tensor = gaussian_blur(images, [side, side], [sigma, sigma])
    else:
        middle, spread = (torch.tensor(x, device=images.device).reshape(1, -1, 1, 1) for x in (mean, std))
        value = {"mean": middle, "black": torch.zeros_like(middle), "white": torch.ones_like(middle)}[kind]
        made = ((value - middle) / spread).expand_as(images).contiguous()
    return made
