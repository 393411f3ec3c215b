"""Whether maps lie where they should: against masks of what the label names."""

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray


def pointing_game(maps: Float[ndarray, "n h w"], masks: Bool[ndarray, "n h w"]) -> Float[ndarray, "n"]:
    """1 where the map's largest value lies in the mask, else 0; of equal largest values the share that does.

    Zhang et al. 2018 (arXiv:1608.00507), section 4.2, without the tolerance of 15 pixels around the mask. The mean
    over random maps is `area_share`. NaN for an empty mask and for a map that is the same everywhere.
    """
    flat, inside = maps.reshape(len(maps), -1), masks.reshape(len(masks), -1)
    top = flat == flat.max(1, keepdims=True)
    return _known(maps, masks, (top & inside).sum(1) / top.sum(1))


def energy_in_mask(maps: Float[ndarray, "n h w"], masks: Bool[ndarray, "n h w"]) -> Float[ndarray, "n"]:
    """Share of a map's positive part that lies in the mask, in [0, 1]; of an even map it is `area_share`.

    Wang et al. 2020 (arXiv:1910.01279), section 4.3. NaN for an empty mask, for a map that is the same everywhere and
    for one without positive values.
    """
    positive = np.maximum(maps, 0).astype(np.float64)
    total = positive.sum((1, 2))
    share = np.divide((positive * masks).sum((1, 2)), total, out=np.full(len(maps), np.nan), where=total > 0)
    return _known(maps, masks, share)


def area_share(masks: Bool[ndarray, "n h w"]) -> Float[ndarray, "n"]:
    """Share of the image that the mask covers; NaN for an empty mask."""
    share = masks.mean((1, 2))
    return np.where(share > 0, share, np.nan)


def _known(maps: Float[ndarray, "n h w"], masks: Bool[ndarray, "n h w"], values: ndarray) -> Float[ndarray, "n"]:
    known = masks.any((1, 2)) & (maps.max((1, 2)) > maps.min((1, 2)))
    return np.where(known, values, np.nan)
