"""Linear probes: standardised features, L2-regularised logistic regression, many strengths in one go."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from probe.errors import ProbeError
from probe.probes.solver import solve
from probe.shapes import Features2d, Labels, Probabilities


@dataclass(frozen=True)
class Path:
    """Linear probes at every strength, in raw feature units: `coef` (s, k, d), `intercept` (s, k).

    k is 1 for two classes (the binomial loss of one vector). `gap` (s,) estimates how far the mean
    loss is above its optimum, `converged` (s,) whether that is within the solver's tolerance.
    """

    task: str
    coef: NDArray[np.float64]
    intercept: NDArray[np.float64]
    gap: NDArray[np.float64]
    converged: NDArray[np.bool_]

    def probabilities(self, features: Features2d, strength: int) -> Probabilities:
        """(n, classes) from the probe at one strength; the rows of multi-label data do not sum to 1."""
        logits = torch.from_numpy(np.asarray(features, np.float64) @ self.coef[strength].T + self.intercept[strength])
        if self.task == "multiclass":
            return logits.softmax(1).numpy()
        positive = logits.sigmoid().numpy()
        return positive if self.task == "multilabel" else np.hstack([1 - positive, positive])


def fit_path(features: Features2d, labels: Labels, task: str, classes: int, strengths: tuple[float, ...]) -> Path:
    """Fit `make_pipeline(StandardScaler(), LogisticRegression(C))` for every C of `strengths`.

    A class or label that these rows do not show both ways cannot be learnt: its probability is
    then what the rows show (0 or 1). Raises ProbeError for features that are not finite and for
    rows of a single class.
    """
    features = np.asarray(features, np.float64)
    bad = ~np.isfinite(features).all(1)
    if bad.any():
        raise ProbeError(f"{bad.sum()} rows of features are not finite, the first of them row {bad.argmax()}")
    center, spread = features.mean(0), features.std(0)
    spread[spread < 10 * np.finfo(np.float64).eps * np.abs(center)] = 1  # a constant feature
    spread[spread == 0] = 1
    if labels.min(initial=0) < 0:
        raise ProbeError("some labels are unknown, which this probe would take for absent")
    targets, learnt, constant = _targets(labels, task, classes)
    found = solve(
        torch.from_numpy((features - center) / spread),
        torch.from_numpy(targets[:, learnt].astype(np.float64)),
        torch.tensor(strengths, dtype=torch.float64),
        multinomial=task == "multiclass",
    )
    shape = (len(strengths), int(learnt.sum()))
    coef = np.zeros((len(strengths), len(learnt), features.shape[1]))
    intercept = np.tile(constant, (len(strengths), 1))
    coef[:, learnt] = found.weights.reshape(*shape, -1).numpy() / spread
    intercept[:, learnt] = found.intercepts.reshape(shape).numpy() - coef[:, learnt] @ center
    gap = found.gap.reshape(len(strengths), -1).amax(1).numpy()
    converged = found.converged.reshape(len(strengths), -1).all(1).numpy()
    return Path(task, coef, intercept, gap, converged)


def _targets(
    labels: Labels, task: str, classes: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float64]]:
    """Columns to be learnt, which of them can be, and the intercept that stands for the others."""
    if task == "multilabel":
        targets = labels == 1
    else:
        targets = labels[:, None] == np.arange(classes)
        if (targets.any(0)).sum() < 2:
            raise ProbeError("the training rows hold a single class; a probe needs two")
        if task == "binary":
            targets = targets[:, 1:]
    shown = targets.any(0)
    learnt = shown if task == "multiclass" else shown & ~targets.all(0)
    if not learnt.any():
        raise ProbeError("no label of the training rows is both present and absent; a probe needs one that is")
    return targets, learnt, np.where(shown, np.inf, -np.inf)
