"""Numbers of single images, a row each, to means with intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from probe.base.array_types import Groups, RowWeights
from probe.scoring.statistics import bootstrap_weights, percentile_interval

COLUMNS = ("arm", "tap", "randomised", "metric", "image", "value")
KEYS = ["arm", "tap", "randomised", "metric"]
MICRO = "micro"
AGAINST = " minus "  # between two arms whose difference is meant
COMPARED = ("energy_in_mask", "pointing_game")


def long_rows(values: Mapping[str, Float[ndarray, "n"]], **known: str) -> list[dict[str, Any]]:
    """A row per metric and image, numbered as the images are; `known` are arm, tap and randomised."""
    return [
        {name: row.get(name, "") for name in COLUMNS}
        for metric, column in values.items()
        for row in ({**known, "metric": metric, "image": i, "value": float(x)} for i, x in enumerate(column))
    ]


def difference_of(first: str, second: str) -> str:
    """What the difference of two arms is called."""
    return f"{first}{AGAINST}{second}"


def with_differences(table: pd.DataFrame) -> pd.DataFrame:
    """The table, and every further arm that has the first one's taps taken from it, image by image."""
    arms = list(dict.fromkeys(table["arm"]))
    known = table[table["metric"].isin(COMPARED)]
    parts = [table]
    for arm in arms[1:]:
        pairs = known[known["arm"] == arms[0]].merge(known[known["arm"] == arm], on=[*KEYS[1:], "image"])
        values = {"arm": difference_of(arms[0], arm), "value": pairs["value_x"] - pairs["value_y"]}
        parts.append(pairs.assign(**values)[list(COLUMNS)])
    return pd.concat(parts, ignore_index=True)


def summary(
    table: pd.DataFrame, kinds: Sequence[str], groups: Groups | None, draws: int, seed: int = 0
) -> pd.DataFrame:
    """Means over images, of all ("micro") and of each kind, with 95 % bootstrap intervals that draw groups whole.

    `kinds` and `groups` are those of the images; `table` has a row per arm, tap, metric and image. Values that are not
    known (NaN) are left out and `images` says how many were not. One image, or one group, has no interval.
    """
    weights = bootstrap_weights(len(kinds), groups, draws, np.random.default_rng(seed))
    parts = {MICRO: np.ones(len(kinds), bool)}
    if len(set(kinds)) > 1:
        parts |= {kind: np.array(kinds) == kind for kind in dict.fromkeys(kinds)}
    rows = []
    for key, part in table.groupby(KEYS, sort=False):
        value = np.full(len(kinds), np.nan)
        value[part["image"]] = part["value"]
        for kind, chosen in parts.items():
            used = chosen & ~np.isnan(value)
            units = used.sum() if groups is None else len(set(np.asarray(groups)[used]))
            low, high = _interval(value[used], weights[:, used]) if units > 1 else (np.nan, np.nan)
            mean = value[used].mean() if used.any() else np.nan
            known = dict(zip(KEYS, key, strict=True))
            rows.append({**known, "class": kind, "value": mean, "ci_low": low, "ci_high": high, "images": used.sum()})
    return pd.DataFrame(rows)


def _interval(values: Float[ndarray, "n"], weights: RowWeights) -> Sequence[float]:
    total = weights.sum(1)
    draws = np.divide(weights @ values, total, out=np.full(len(weights), np.nan), where=total > 0)
    found: Sequence[float] = percentile_interval(draws).tolist()
    return found
