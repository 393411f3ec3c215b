"""The read-out of every tap: settings fitted without the rows held out, the best on those, refitted to all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.base.array_types import RowWeights
from probe.base.errors import ProbeError
from probe.base.runtime import log
from probe.features import Features
from probe.metrics import MACRO, Scores, ones
from probe.probes.methods import Job, Method
from probe.probes.readout import Readable
from probe.records.metric_facts import find_metric
from probe.scoring.trials import Trial


@dataclass(frozen=True)
class Fitted:
    """The read-outs of a tap at the setting that was chosen: one per fold, and one fitted to all rows of the folds."""

    method: Method[Any, Any]
    setting: Any
    folds: Sequence[Any]
    whole: Any

    @property
    def converged(self) -> dict[str, bool]:
        """Whether the solver reached its tolerance, by the split that is scored with what it solved."""
        return {"val": all(map(self.method.converged, self.folds)), "test": self.method.converged(self.whole)}

    def predict(self, features: Readable, trial: Trial, split: str) -> NDArray[np.float64]:
        """Probabilities (members, n, classes) of a split's rows: `held` of a trial for val, else its `trained`, `test`.

        What val is scored with was not fitted to it, nor to anything of the same fold.
        """
        if split == "val":
            parts = zip(self.folds, trial.folds, strict=True)
            return np.concatenate([self._read(found, features[held]) for found, (_, held) in parts], axis=1)
        if split == "test":
            return self._read(self.whole, features[trial.test])
        found = self.folds[0] if len(self.folds) == 1 else self.whole
        return self._read(found, features[trial.trained])

    def _read(self, found: Any, features: Readable) -> NDArray[np.float64]:
        members: NDArray[np.float64] = self.method.predict(found, features)[0]
        return members


def fit_taps(
    features: Features, trial: Trial, method: Method[Any, Any], first: Mapping[str, str] | None = None
) -> dict[str, Fitted]:
    """The read-out of every tap; taps of equal features (`first_of_equal`) share one.

    Of equally good settings the plainest is taken; a tap whose chosen read-out did not converge is named in a warning.
    Raises ProbeError when no class of the rows held out has both positive and negative images, and as the method's
    fit does.
    """
    first = first or first_of_equal(features)
    taps = [tap for tap in features if first[tap] == tap]
    jobs = [job_of(features, tap, *fold) for tap in taps for fold in trial.folds]
    fits, count = method.fit(jobs), len(trial.folds)
    by_tap = [fits[start : start + count] for start in range(0, len(fits), count)]
    best = [_best(features, tap, trial, method, folds) for tap, folds in zip(taps, by_tap, strict=True)]
    settings = [method.settle(folds, i) for folds, i in zip(by_tap, best, strict=True)]
    whole = method.refit([job_of(features, tap, trial.seen) for tap in taps], settings)
    fitted = {
        tap: Fitted(method, setting, [method.only(fold, i) for fold in folds], every)
        for tap, setting, folds, i, every in zip(taps, settings, by_tap, best, whole, strict=True)
    }
    for tap in taps:
        _warn_unsolved(f"tap '{tap}' of {features.data.name}", fitted[tap])
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


def score_members(
    features: Features, rows: NDArray[np.int64], members: NDArray[np.float64], weights: RowWeights, **extra: Any
) -> Scores:
    """The scores of several predictions (members, n, classes) of the same rows, averaged."""
    data = features.data
    found = [data.task.score(data.labels[rows], each, weights, **extra) for each in members]
    return {key: np.mean([scores[key] for scores in found], axis=0) for key in found[0]}


def job_of(features: Features, tap: str, rows: NDArray[np.int64], held: NDArray[np.int64] | None = None) -> Job:
    """What a method is given to fit."""
    return Job(features.nearest(tap), features.data.labels, rows, held, f"tap '{tap}' of {features.data.name}")


def _warn_unsolved(name: str, fitted: Fitted) -> None:
    """Name a tap whose chosen read-out stopped short of its optimum: a recommendation may rest on it."""
    short = [each for each in (*fitted.folds, fitted.whole) if not fitted.method.converged(each)]
    if short:
        setting = ", ".join(f"{key} {value:g}" for key, value in fitted.method.describe(fitted.setting).items())
        gap = max(map(fitted.method.gap, short))
        log.warning("%s: the probe at %s did not converge (gap %.0e); do not rely on its score", name, setting, gap)


def _equal(a: NDArray[np.floating], b: NDArray[np.floating]) -> bool:
    return a.shape == b.shape and np.array_equal(a[:64], b[:64]) and np.array_equal(a, b)


def _best(features: Features, tap: str, trial: Trial, method: Method[Any, Any], folds: Sequence[Any]) -> int:
    metric, x = method.grid.metric, features.nearest(tap)
    predicted = np.concatenate(
        [method.predict(found, x[held]) for found, (_, held) in zip(folds, trial.folds, strict=True)], axis=2
    )
    plain = ones(len(trial.held))
    scores = [
        score_members(features, trial.held, members, plain, metrics=[metric])[metric, MACRO][0] for members in predicted
    ]
    if np.isnan(scores).any():
        raise ProbeError(
            f"no class of the validation images of {features.data.name} has both positive and negative ones; "
            "nothing can be chosen"
        )
    return int(np.argmax(find_metric(metric).sign * np.array(scores)))
