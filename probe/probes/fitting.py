"""A linear probe at every tap: strengths fitted to train, the best on validation, refitted to train and validation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.cache import Features
from probe.errors import ProbeError
from probe.metrics import MACRO, ones, score
from probe.probes.linear import Path, TrainingSet, fit_paths
from probe.settings import ProbeGrid
from probe.shapes import Features2d, Probabilities

SELECTS = "auroc"  # the metric on which a strength and a tap are chosen


@dataclass(frozen=True)
class Fitted:
    """The probe of a tap at the strength chosen on validation: fitted to train, and to train and validation."""

    strength: float
    train: Path
    both: Path

    @property
    def converged(self) -> dict[str, bool]:
        """Whether the solver reached its tolerance, by the split that is scored with the probe."""
        return {"val": bool(self.train.converged.all()), "test": bool(self.both.converged.all())}

    def probabilities(self, split: str, features: Features2d) -> Probabilities:
        """Of a split's rows: test is scored with the probe that was fitted to train and validation."""
        return (self.both if split == "test" else self.train).probabilities(features, 0)


def fit_taps(features: Features, grid: ProbeGrid, device: str = "cpu") -> dict[str, Fitted]:
    """The probe of every tap; taps of equal features share one.

    Of equally good strengths the strongest penalty is taken. Raises ProbeError when no class of the validation
    split has both positive and negative rows, and as `fit_paths` does.
    """
    data, first = features.data, first_of_equal(features)
    taps = [tap for tap in features if first[tap] == tap]
    train, val = (np.flatnonzero(data.splits == split) for split in ("train", "val"))
    strengths = tuple(sorted(grid.c_grid))

    def fit(rows: NDArray[np.integer], tried: Sequence[Sequence[float]]) -> list[Path]:
        sets = [
            TrainingSet(features[tap], data.labels, each, rows, name=f"tap '{tap}' of {data.name}")
            for tap, each in zip(taps, tried, strict=True)
        ]
        return fit_paths(sets, data.task, len(data.classes), device=device)

    paths = fit(train, [strengths] * len(taps))
    best = [_best(features, tap, val, path) for tap, path in zip(taps, paths, strict=True)]
    both = fit(np.concatenate([train, val]), [[strengths[i]] for i in best])
    fitted = {
        tap: Fitted(strengths[i], path.only(i), whole)
        for tap, i, path, whole in zip(taps, best, paths, both, strict=True)
    }
    return {tap: fitted[first[tap]] for tap in features}


def first_of_equal(features: Features) -> dict[str, str]:
    """Per tap the lowest tap, without a gap between them, that has the same features to the last bit.

    The blocks of a network at initialisation can be the identity: timm's ResNets start with the last
    normalisation of every residual branch at zero.
    """
    first: dict[str, str] = {}
    below = ""
    for tap in features:
        same = bool(below) and _equal(features[tap], features[below])
        first[tap] = first[below] if same else tap
        below = tap
    return first


def _equal(a: NDArray[np.floating], b: NDArray[np.floating]) -> bool:
    return a.shape == b.shape and np.array_equal(a[:64], b[:64]) and np.array_equal(a, b)


def _best(features: Features, tap: str, val: NDArray[np.integer], path: Path) -> int:
    data = features.data
    labels, plain = data.labels[val], ones(len(val))
    scores = [
        score(data.task, labels, p, plain, data.classes, metrics=[SELECTS])[SELECTS, MACRO][0]
        for p in path.probabilities(features[tap][val])
    ]
    if np.isnan(scores).any():
        raise ProbeError(
            f"no class of the validation split of {data.name} has both positive and negative images; "
            "nothing can be chosen"
        )
    return int(np.argmax(scores))
