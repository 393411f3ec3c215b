"""Maps as rows: a point per image, and what is known of each map, of every tap of every arm."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Integer, Shaped
from numpy import ndarray
from tqdm import tqdm

from analysis.embedding.methods import embed
from analysis.embedding.quality import check_images, judge
from analysis.similarity.centred import Centred, Taps
from probe.base.errors import ProbeError


def embed_arms(
    arms: Mapping[str, Taps],
    images: Shaped[ndarray, "n"],
    labels: Shaped[ndarray, "n"],
    rows: Integer[ndarray, "m"] | None = None,
    *,
    method: str = "umap",
    neighbours: int = 15,
    silhouettes: bool = True,
    **settings: Any,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Points and maps: the same images at every tap of every arm; `settings` are those of `embed`.

    `images` (n,) are names, `labels` (n,) what they are coloured by, which silhouettes are of unless there are to be
    none; `rows` are the places of those that are drawn. Nothing is embedded before all taps have been looked at. Raises
    ProbeError for taps of other than n rows, and what `embed` and `judge` do, naming arm and tap.
    """
    chosen = np.arange(len(images)) if rows is None else rows
    check_images(len(chosen), neighbours)
    _check(arms, len(images), chosen)
    points, maps = [], []
    known = {"image": images[chosen], "label": labels[chosen]}
    for arm, taps in arms.items():
        for tap in tqdm(taps, unit="tap", disable=None, desc=arm, leave=False):
            x, name = taps[tap][chosen], f"{arm}, {tap}"
            found = embed(x, method, neighbours=neighbours, name=name, **settings)
            quality = judge(x, found, known["label"] if silhouettes else None, neighbours=neighbours, name=name)
            points.append(pd.DataFrame({"arm": arm, "tap": tap, **known, "x": found[:, 0], "y": found[:, 1]}))
            maps.append({"arm": arm, "tap": tap, **asdict(quality)})
    return pd.concat(points, ignore_index=True), pd.DataFrame(maps)


def _check(arms: Mapping[str, Taps], count: int, chosen: Integer[ndarray, "m"]) -> None:
    if not any(map(len, arms.values())):
        raise ProbeError("there are no taps to draw")
    for arm, taps in arms.items():
        for tap, x in taps.items():
            if len(x) != count:
                raise ProbeError(f"'{arm}, {tap}' has {len(x)} rows, and there are {count} images")
            Centred(f"{arm}, {tap}", x[chosen])  # finite numbers that vary
