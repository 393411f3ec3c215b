"""The probes as scikit-learn classifiers; in a file of their own, for a study does without scikit-learn."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from probe.base.array_types import Features2d, Labels, Probabilities
from probe.base.errors import ProbeError
from probe.probes.linear import RegularizationPath, fit_path
from probe.probes.mlp import MLPSet, fit_mlps
from probe.settings import MLPSetting
from probe.tasks import Task, kind_of


class _Probe(ClassifierMixin, BaseEstimator):
    """What the probes have in common: labels taken in, probabilities turned to decisions."""

    def _taken_in(self, X: ArrayLike, y: ArrayLike) -> tuple[Features2d, Labels]:  # noqa: N803
        """Features and codes of the labels; sets `classes_` and `task_`."""
        rows, given = validate_data(self, X, y, multi_output=True)
        kind = kind_of(given)
        self.classes_, codes = kind.coded(given)
        self.task_ = kind(self.classes_.tolist())
        return rows, codes

    def predict(self, X: ArrayLike) -> NDArray[np.generic]:  # noqa: N803
        """The most probable class, or for multi-label data the labels more probable than not."""
        decided = self.task_.decide(self.predict_proba(X))
        codes = self.task_.row_classes(decided)
        return decided if codes is None else self.classes_[codes]


class LinearProbe(_Probe):
    """Logistic regression on standardised features, as a scikit-learn classifier.

    The objective is that of `make_pipeline(StandardScaler(), LogisticRegression(C, class_weight))`; `coef_` and
    `intercept_` are folded back to raw units. `y` may be (n,) classes or (n, labels) zeros and ones, -1 for unknown.
    With `warm_start` the search begins at what the last `fit` found, of another C say; `n_iter_` tells what that saves.
    """

    def __init__(self, C: float = 1.0, class_weight: Any = None, warm_start: bool = False) -> None:  # noqa: N803
        self.C = C  # scikit-learn's name
        self.class_weight = class_weight
        self.warm_start = warm_start

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> "LinearProbe":  # noqa: N803
        """Fit to features (n, d), labels and weights of rows (n,); returns self, and warns if it did not converge.

        The scaler does not see weights; "balanced" counts rows, whatever their weights. Raises ProbeError for a warm
        start from other classes or another number of features.
        """
        last: RegularizationPath | None = getattr(self, "path_", None) if self.warm_start else None
        before = last and (self._kind(), dict(vars(self)))
        rows, codes = self._taken_in(X, y)
        if before and before[0] != self._kind():
            self.__dict__.update(before[1])
            raise ProbeError("a warm start takes the classes and features of the last fit; make another LinearProbe")
        weights = np.ones(len(rows))  # scikit-learn weighs several labels by a class weight alone
        if self.class_weight is not None:
            weights = compute_sample_weight(self.class_weight, np.asarray(y))
        if sample_weight is not None:
            check_consistent_length(rows, sample_weight)
            weights = weights * np.asarray(sample_weight, np.float64)
        start = (last.coef[0], last.intercept[0]) if last else None
        self.path_ = fit_path(rows, codes, self.task_, (self.C,), weights=weights, start=start)
        self.coef_, self.intercept_ = self.path_.coef[0], self.path_.intercept[0]
        self.n_iter_ = self.path_.iterations
        self.converged_ = bool(self.path_.converged[0])
        if not self.converged_:
            short = f"LinearProbe(C={self.C:g}) stopped after {self.n_iter_} iterations, gap {self.path_.gap[0]:.0e}"
            warnings.warn(short, ConvergenceWarning, stacklevel=2)
        return self

    def _kind(self) -> tuple[Task, list[Any], int]:
        """What the next fit must be of, to begin where this one ended."""
        return self.task_, self.classes_.tolist(), self.n_features_in_

    def predict_proba(self, X: ArrayLike) -> Probabilities:  # noqa: N803
        """Probability of each class (or label), (n, classes)."""
        check_is_fitted(self)
        return self.path_.probabilities(validate_data(self, X, reset=False), 0)


class MLPProbe(_Probe):
    """A network of one hidden layer on standardised features, as a scikit-learn classifier.

    Trained by AdamW until the loss on a share of the rows held out, `validation_fraction`, stratified by class, has
    not fallen for `patience` epochs; the weights of the best epoch are kept, `n_epochs_`. None holds nothing out and
    runs all epochs. `y` may be (n,) classes or (n, labels) zeros and ones, -1 for unknown.
    """

    def __init__(
        self,
        hidden: int = 256,
        dropout: float = 0.0,
        weight_decay: float = 1e-2,
        learning_rate: float = 1e-3,
        batch_size: int = 128,
        epochs: int = 100,
        patience: int = 10,
        validation_fraction: float | None = 0.1,
        seed: int = 0,
    ) -> None:
        self.hidden = hidden
        self.dropout = dropout
        self.weight_decay = weight_decay
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.epochs = epochs
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.seed = seed

    def fit(self, X: ArrayLike, y: ArrayLike) -> "MLPProbe":  # noqa: N803
        """Fit to features (n, d) and labels; returns self."""
        rows, codes = self._taken_in(X, y)
        given = self.get_params()
        share, seed = given.pop("validation_fraction"), given.pop("seed")
        train, held = np.arange(len(rows)), None
        if share is not None:
            by = self.task_.row_classes(codes)
            train, held = train_test_split(train, test_size=share, random_state=seed, stratify=by)
        whole = MLPSet(rows, codes, [MLPSetting(**given)], train, held)
        (self.mlps_,) = fit_mlps([whole], [seed], self.task_)
        self.n_epochs_ = int(self.mlps_.epochs[0, 0])
        return self

    def predict_proba(self, X: ArrayLike) -> Probabilities:  # noqa: N803
        """Probability of each class (or label), (n, classes)."""
        check_is_fitted(self)
        found: Probabilities = self.mlps_.probabilities(validate_data(self, X, reset=False), 0)[0]
        return found
