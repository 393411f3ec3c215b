"""Similarities and canonical correlations as rows: every tap of one network against every tap of another."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.similarity.bands import Estimate
from analysis.similarity.cca import cca_curve
from analysis.similarity.centred import Taps


def tap_table(first: Sequence[str], second: Sequence[str], found: Estimate) -> pd.DataFrame:
    """A row per two taps, `tap_a` and `tap_b`: `value`, its band `ci_low` to `ci_high`, and the `null`."""
    places = {"tap_a": np.repeat(list(first), len(second)), "tap_b": np.tile(list(second), len(first))}
    numbers = {"value": found.value, "ci_low": found.low, "ci_high": found.high, "null": found.null}
    return pd.DataFrame(places | {name: matrix.ravel() for name, matrix in numbers.items()})


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
