"""From a stage's output to one vector per image, whatever the layout."""

from einops import reduce
from jaxtyping import Float
from torch import Tensor, cat

from probe.backbones.stages import Place, Stage
from probe.base.errors import ProbeError
from probe.base.lookup import unknown
from probe.settings.networks import POOLS

_PATTERNS = {"nchw": "n c ... -> n c", "nhwc": "n ... c -> n c", "ntd": "n t c -> n c", "nd": "n c -> n c"}


def check_pool(stage: Stage | Place, pool: str) -> None:
    """Raise ProbeError when a stage's output cannot be pooled as asked."""
    if pool not in POOLS:
        raise unknown("pool", pool, POOLS)
    if "cls" in pool and not (stage.layout == "ntd" and stage.cls):
        raise ProbeError(f"no class token at '{stage.name}' ({stage.layout}); pool by 'mean' or 'max'")


def pooled_width(stage: Stage | Place, pool: str) -> int:
    """Length of the vector that `pooled` gives."""
    return stage.width * (2 if pool == "cls+mean" else 1)


def pooled(stage: Stage | Place, x: Tensor, pool: str) -> Float[Tensor, "n d"]:
    """One vector per image from the output `x` of a stage.

    `mean` and `max` go over the image's own positions, class and register tokens left out; `cls`
    is the class token; `cls+mean` puts the two in a row.
    """
    check_pool(stage, pool)
    parts = [_one(stage, x, part) for part in pool.split("+")]
    return parts[0] if len(parts) == 1 else cat(parts, dim=1)


def _one(stage: Stage | Place, x: Tensor, pool: str) -> Tensor:
    if pool == "cls":
        return x[:, 0].clone()  # a view would keep all the tokens alive
    places = x[:, stage.prefix :] if stage.layout == "ntd" else x
    result: Tensor = reduce(places, _PATTERNS[stage.layout], pool)
    return result
