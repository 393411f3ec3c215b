"""The linear probe as a scikit-learn classifier; in a file of its own, for a study does without scikit-learn."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from probe.probes.linear import fit_path
from probe.shapes import Probabilities


class LinearProbe(ClassifierMixin, BaseEstimator):
    """Logistic regression on standardised features, as a scikit-learn classifier.

    The objective is that of `make_pipeline(StandardScaler(), LogisticRegression(C))`; `coef_` and
    `intercept_` are folded back to raw units. `y` may be (n,) classes or (n, labels) zeros and ones.
    """

    def __init__(self, C: float = 1.0) -> None:  # noqa: N803 - scikit-learn's name
        self.C = C

    def fit(self, X: ArrayLike, y: ArrayLike) -> "LinearProbe":  # noqa: N803
        """Fit to features (n, d) and labels; returns self."""
        rows, given = validate_data(self, X, y, multi_output=True)
        several = given.ndim == 2
        codes = given
        self.classes_: NDArray[np.generic] = np.arange(given.shape[-1])
        if not several:
            self.classes_, codes = np.unique(given, return_inverse=True)
        self.task_ = "multilabel" if several else "binary" if len(self.classes_) == 2 else "multiclass"
        self.path_ = fit_path(rows, codes.astype(np.int64), self.task_, len(self.classes_), (self.C,))
        self.coef_, self.intercept_ = self.path_.coef[0], self.path_.intercept[0]
        self.converged_ = bool(self.path_.converged[0])
        return self

    def predict_proba(self, X: ArrayLike) -> Probabilities:  # noqa: N803
        """Probability of each class (or label), (n, classes)."""
        check_is_fitted(self)
        return self.path_.probabilities(validate_data(self, X, reset=False), 0)

    def predict(self, X: ArrayLike) -> NDArray[np.generic]:  # noqa: N803
        """The most probable class, or for multi-label data the labels more probable than not."""
        probabilities = self.predict_proba(X)
        if self.task_ == "multilabel":
            return (probabilities > 0.5).astype(np.int64)
        chosen: NDArray[np.generic] = self.classes_[probabilities.argmax(1)]
        return chosen
