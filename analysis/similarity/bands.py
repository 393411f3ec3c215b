"""How sure a similarity is: bands from half the images at a time, and what unrelated rows would show."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from numpy.typing import NDArray
from tqdm import tqdm

from analysis.similarity.centred import Matrix, Taps
from analysis.similarity.measures import MatrixOf
from probe.base.array_types import Groups
from probe.base.errors import ProbeError
from probe.scoring.statistics import LEVEL, percentile_interval


@dataclass(frozen=True)
class Estimate:
    """Similarities (t1, t2), their 95 % bands, and the 95th percentile under permuted rows; NaN where not asked for."""

    value: Matrix
    low: Matrix
    high: Matrix
    null: Matrix


def half_samples(rows: int, groups: Groups | None, draws: int, generator: np.random.Generator) -> Bool[ndarray, "b n"]:
    """Which rows are in each of `draws` random halves, (draws, rows); groups are drawn whole."""
    members = np.arange(rows) if groups is None else np.unique(groups, return_inverse=True)[1]
    units = int(members.max()) + 1
    order = np.argsort(generator.random((draws, units)), axis=1)
    chosen = np.zeros((draws, units), bool)
    np.put_along_axis(chosen, order[:, : units // 2], True, axis=1)
    return chosen[:, members]


def estimate(
    matrix: MatrixOf, features: Taps, others: Taps | None, halves: Bool[ndarray, "b n"], orders: NDArray[np.integer]
) -> Estimate:
    """A measure between all taps, with its band from `halves` (see `half_samples`) and its null from row `orders`.

    A bootstrap would draw rows twice, and two copies of a row agree in every network: it shifts CKA upwards and makes
    copies each other's neighbours. Halves drawn without replacement hold no copies, and their spread about their mean
    is, to first order, that of the measure over samples of the whole size (the delete-d jackknife with d = n / 2: Shao
    and Wu 1989). What half the images change on average, a bias, is taken out: the band is the value and the spread of
    the halves about their mean. It says how much the value owes to these images, not how biased it is. It is not
    clamped, so it may reach past 1. The null permutes the rows of the second features, which keeps both sides and
    destroys what they share; groups are not kept together.

    `halves` (draws, rows) and `orders` (permutations, rows) may be empty. Raises ProbeError as the measure does.
    """
    value = matrix(features, others)
    low, high = band(value, np.array(list(_on_halves(matrix, features, others, halves))))
    second = features if others is None else others
    bar = tqdm(orders, unit="permutation", disable=None, leave=False)
    shuffled = [matrix(features, _rows(second, order)) for order in bar]
    null = np.quantile(shuffled, LEVEL, axis=0) if shuffled else np.full_like(value, np.nan)
    return Estimate(value, low, high, null)


def _on_halves(matrix: MatrixOf, features: Taps, others: Taps | None, halves: Bool[ndarray, "b n"]) -> Iterator[Matrix]:
    for half in tqdm(halves, unit="half", disable=None, leave=False):
        rows = np.flatnonzero(half)
        try:
            yield matrix(_rows(features, rows), None if others is None else _rows(others, rows))
        except ProbeError as error:
            raise ProbeError(f"no band from half of the images: {error}; or ask for no draws") from None


def band(value: Matrix, draws: Float[ndarray, "..."]) -> tuple[Matrix, Matrix]:
    """The value and the 95 % interval of the draws about their mean; NaN of none."""
    if not len(draws):
        return np.full_like(value, np.nan), np.full_like(value, np.nan)
    interval = value[..., None] + percentile_interval(np.moveaxis(draws - draws.mean(0), 0, -1))
    return interval[..., 0], interval[..., 1]


def _rows(features: Taps, rows: NDArray[np.integer]) -> Taps:
    return {tap: x[rows] for tap, x in features.items()}
