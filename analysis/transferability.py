"""How well features suit a task, estimated without training: from one decomposition, in closed form.

Features are (n, d). Questions are (q, n), a row of class numbers for each: one of all classes, or one per label of
several, with -1 where it is unknown. A question is of the rows where it is known, and a score is the mean over the
questions to which there are two answers. All is float64. Except for `rank_me` every score is higher for features that
suit the task better, and each is for comparing features of the same rows: what moves it beside the task is said where
it is defined.
All raise ProbeError for features that are not finite, and when no two classes are there to be told apart.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.covariance import ledoit_wolf_shrinkage

from probe.base.array_types import Features2d, Questions
from probe.base.errors import ProbeError

Array = NDArray[np.float64]
SPAN = np.logspace(-8, 8, 33)  # where the ratio of precisions is looked for, beyond the spectrum's ends


def transferability(features: Features2d, questions: Questions) -> dict[str, float]:
    """Every score here by the name of its function."""
    scores = (log_me, h_score, shrunk_h_score, fisher_ratio, nearest_centroid_accuracy)
    found = {score.__name__: score(features, questions) for score in scores}
    return found | {"rank_me": rank_me(features)}


def log_me(features: Features2d, questions: Questions) -> float:
    """Log of the maximum evidence of a Bayesian linear model, per row, mean over one-against-rest targets.

    You et al. 2021 (arXiv:2102.11005): targets of 0 and 1 are f w + noise, w of precision alpha and the noise of
    precision beta, both chosen to maximise the evidence; see `maximum_evidence`. As there, no intercept:
    unchanged by rotation and by a common scale, not by shift. Infinite where features fit a target without error
    in fewer dimensions than rows.
    """

    def mean(x: Array, y: NDArray[np.int64]) -> float:
        decomposed = Spectrum.of(x)
        targets = (y == np.unique(y)[:, None]).astype(np.float64)
        return float(np.mean([maximum_evidence(decomposed, target).log / len(x) for target in targets]))

    return _mean(features, questions, mean)


def h_score(features: Features2d, questions: Questions) -> float:
    """H-score tr(cov(f)^+ cov(E[f | y])), the share of whitened variance between classes: 0 to classes - 1.

    Bao et al. 2019 (ICIP, "An information-theoretic approach to transferability in task transfer learning").
    Unchanged by shift and any invertible linear map. With as many dimensions as rows less one it is classes - 1
    whatever the labels; see `shrunk_h_score`.
    """
    return _mean(features, questions, lambda x, y: _h_score(x, y, 0.0))


def shrunk_h_score(features: Features2d, questions: Questions) -> float:
    """H-score with the covariance shrunk, (1 - a) tr(cov_a(f)^-1 cov(E[f | y])), for few rows of many features.

    Ibrahim et al. 2021 (arXiv:2110.06893); cov_a = (1 - a) cov(f) + a tr(cov(f)) / d I with a from
    Ledoit and Wolf 2004. Unchanged by shift, rotation and a common scale, not by other linear maps.
    """
    return _mean(features, questions, lambda x, y: _h_score(x, y, float(ledoit_wolf_shrinkage(x))))


def fisher_ratio(features: Features2d, questions: Questions) -> float:
    """Scatter between classes over scatter within, tr(S_b) / tr(S_w), from 0 to infinity.

    Fukunaga 1990, Introduction to Statistical Pattern Recognition, chapter 10, the criterion J4. Unchanged by
    shift, rotation and a common scale, not by the scale of single features.
    """

    def ratio(x: Array, y: NDArray[np.int64]) -> float:
        means = _means(x, y)[y]
        between, within = ((means - x.mean(0)) ** 2).sum(), ((x - means) ** 2).sum()
        return float(between / within) if within else float("inf")

    return _mean(features, questions, ratio)


def nearest_centroid_accuracy(features: Features2d, questions: Questions) -> float:
    """Share of rows that are nearest to the mean of their own class, which leaves the row itself out: 0 to 1.

    The nearest class centre of work on neural collapse and transfer (Galanti et al. 2022, arXiv:2112.15121). With
    the row in its mean it would be near 1 for any labels when features are many. A class of one row has
    no mean without it: that row counts as wrong. Unchanged by shift, rotation and a common scale.
    """

    def accuracy(x: Array, y: NDArray[np.int64]) -> float:
        x = x - x.mean(0)
        means, count, rows = _means(x, y), np.bincount(y)[y], np.arange(len(y))
        far = (x**2).sum(1)[:, None] - 2 * x @ means.T + (means**2).sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):  # of one row: infinity, or 0 times it
            far[rows, y] = ((x - means[y]) ** 2).sum(1) * (count / (count - 1)) ** 2
        return float((far.argmin(1) == y)[count > 1].sum() / len(y))

    return _mean(features, questions, accuracy)


def rank_me(features: Features2d) -> float:
    """Effective rank, the exponential of the entropy of singular values that sum to 1: from 1 to min(n, d).

    Garrido et al. 2023 (arXiv:2210.02885), equation 1, without the 1e-7 that keeps 0 log 0 defined. It asks for no
    labels, and more is not better between networks of different widths. Not centred, as there: unchanged by
    rotation and a common scale, not by shift.
    """
    values = np.linalg.svd(_finite(features), compute_uv=False)
    if not values.any():
        raise ProbeError("the features are all zero; they have no rank to speak of")
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


@dataclass(frozen=True)
class Spectrum:
    """Features (n, d): left singular vectors `turned` (n, r), squares `sigma` (r,) of the singular values above 0."""

    turned: Array
    sigma: Array

    @classmethod
    def of(cls, x: Array) -> "Spectrum":
        """Of rows (n, d)."""
        left, values, _ = np.linalg.svd(x, full_matrices=False)
        keep = values > values[0] * max(x.shape) * np.finfo(np.float64).eps
        return cls(left[:, keep], values[keep] ** 2)


@dataclass(frozen=True)
class Evidence:
    """The largest log evidence, and the precisions of weights and of noise that it is reached at."""

    log: float
    alpha: float
    beta: float


def maximum_evidence(features: Spectrum, target: Array) -> Evidence:
    """The largest log p(target | alpha, beta), where target (n,) is normal of covariance f f' / alpha + 1 / beta.

    The evidence of You et al. 2021. Given t = alpha / beta the best beta is known, so that the maximum is looked for
    along t alone, on a grid first; their algorithm goes to a stationary point of it, in steps that become small
    where it is flat. Without a finite maximum beta is infinite: the target is fitted without error.
    """
    rows, sigma = len(target), features.sigma
    along = (features.turned.T @ target) ** 2
    rest = float(max(0.0, target @ target - along.sum()))
    if len(sigma) < rows and rest <= rows * np.finfo(np.float64).eps * (target @ target):
        return Evidence(float("inf"), float("nan"), float("inf"))

    def loss(log_t: float) -> float:
        scaled = sigma / np.exp(log_t)
        error = (along / (1 + scaled)).sum() + rest * (len(sigma) < rows)
        return float(rows * np.log(2 * np.pi * np.e * error / rows) + np.log1p(scaled).sum()) / 2

    grid = np.log(np.concatenate([sigma[-1] * SPAN[:16], np.geomspace(sigma[-1], sigma[0], 33), sigma[0] * SPAN[17:]]))
    at = int(np.argmin([loss(each) for each in grid]))
    ends = grid[max(at - 1, 0)], grid[min(at + 1, len(grid) - 1)]
    best = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-9})
    t = float(np.exp(best.x))
    beta = rows / float((along / (1 + sigma / t)).sum() + rest * (len(sigma) < rows))
    return Evidence(-float(best.fun), t * beta, beta)


def _h_score(x: Array, y: NDArray[np.int64], shrinkage: float) -> float:
    """In the eigenbasis of the covariance, where both matrices are sums over its directions."""
    spectrum = Spectrum.of(x - x.mean(0))
    means, count = _means(spectrum.turned, y), np.bincount(y)
    between = (count[:, None] * means**2).sum(0) * spectrum.sigma / len(x)
    variance = spectrum.sigma / len(x)
    shrunk = (1 - shrinkage) * variance + shrinkage * variance.sum() / x.shape[1]
    return float((1 - shrinkage) * (between / shrunk).sum())


def _means(x: Array, y: NDArray[np.int64]) -> Array:
    """(classes, d); labels count from 0 without a gap."""
    return np.stack([x[y == k].mean(0) for k in range(int(y.max()) + 1)])


def _mean(
    features: Features2d,
    questions: Questions,
    score: Callable[[Array, NDArray[np.int64]], float],
) -> float:
    x = _finite(features)
    found = [score(_varying(x[rows]), y) for rows, y in _answered(questions, len(x))]
    if not found:
        raise ProbeError("these labels hold no two classes that could be told apart; a score takes two")
    return float(np.mean(found))


def _answered(questions: Questions, rows: int) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.int64]]]:
    """The rows and answers of each question; answers count from 0, without those that are absent."""
    if questions.shape[1] != rows:
        raise ProbeError(f"{questions.shape[1]} labels do not fit {rows} rows of features")
    for question in questions:
        present, y = np.unique(question[question >= 0], return_inverse=True)
        if len(present) > 1:
            yield question >= 0, y


def _finite(features: Features2d) -> Array:
    x = np.asarray(features, np.float64)
    broken = np.flatnonzero(~np.isfinite(x).all(1))
    if len(broken):
        raise ProbeError(f"{len(broken)} rows of features are not finite, the first of them row {broken[0]}")
    return x


def _varying(x: Array) -> Array:
    if (x == x[0]).all():
        raise ProbeError("the features are the same in every row; they say nothing of any task")
    return x
