"""Similarities as rows: every tap of every arm against every tap of itself and of the arms after it."""

from collections.abc import Iterator, Mapping
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool
from numpy import ndarray
from numpy.typing import NDArray

from analysis.similarity.bands import Estimate, estimate
from analysis.similarity.cca import cca_curve
from analysis.similarity.centred import Taps
from analysis.similarity.measures import MatrixOf

COLUMNS = ("arm_a", "tap_a", "arm_b", "tap_b", "measure", "value", "ci_low", "ci_high", "null")


def compare_arms(
    arms: Mapping[str, Taps], name: str, matrix: MatrixOf, halves: Bool[ndarray, "b n"], orders: NDArray[np.integer]
) -> pd.DataFrame:
    """A row per two taps, of one arm and of two, measured as `estimate` does; `name` is what the measure is called."""
    rows: list[dict[str, Any]] = []
    for (a, first), (b, second) in combinations_with_replacement(arms.items(), 2):
        found = estimate(matrix, first, None if a == b else second, halves, orders)
        rows += _rows((a, list(first)), (b, list(second)), name, found)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def rows_of_maps(taps: list[tuple[str, str]], name: str, found: Estimate) -> pd.DataFrame:
    """The same of an estimate between `taps`, each an arm and a tap."""
    arms = list(dict.fromkeys(arm for arm, _ in taps))
    places = {arm: [at for at, (owner, _) in enumerate(taps) if owner == arm] for arm in arms}
    rows: list[dict[str, Any]] = []
    for a, b in combinations_with_replacement(arms, 2):
        part = np.ix_(places[a], places[b])
        names = [[taps[at][1] for at in places[arm]] for arm in (a, b)]
        mine = Estimate(found.value[part], found.low[part], found.high[part], found.null[part])
        rows += _rows((a, names[0]), (b, names[1]), name, mine)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def cca_table(first: Taps, second: Taps, keep: float, generator: np.random.Generator) -> pd.DataFrame:
    """A row per canonical direction of each tap that two networks share, as `cca_curve` finds them.

    `share` is the direction's place among the tap's, from 0 for the best to 1 for the last.
    """
    parts = []
    for tap in [tap for tap in first if tap in second]:
        curve = cca_curve(first[tap], second[tap], keep=keep, generator=generator)
        share = np.linspace(0, 1, len(curve.coefficients))
        columns = {"tap": tap, "share": share, "coefficient": curve.coefficients, "chance": curve.chance}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def _rows(a: tuple[str, list[str]], b: tuple[str, list[str]], name: str, found: Estimate) -> Iterator[dict[str, Any]]:
    for i, tap_a in enumerate(a[1]):
        for j, tap_b in enumerate(b[1]):
            numbers = (found.value[i, j], found.low[i, j], found.high[i, j], found.null[i, j])
            yield dict(zip(COLUMNS, (a[0], tap_a, b[0], tap_b, name, *numbers), strict=True))
