"""Linear probes against scikit-learn solved to the end: how far probabilities and coefficients are apart.

Command: `python benchmarks/agreement.py [--arch ARCH] [--weights W] [--data DATA] [--tap TAP ...] [--rows N]`
(default ResNet-18 from scratch on digits, three taps). Fitted to the training split, or the first N rows of it
for more columns than rows, at nine strengths by both; scikit-learn with tol 1e-8 and
Newton's method, for its L-BFGS stops up to .001 short of the optimum even so. Multi-label data are fitted
label by label, with every tenth label of every row hidden from both sides. Printed per tap: the largest
difference in a probability over all images, and in a coefficient as a share of the largest of its strength.
"""

import argparse
import warnings

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import probe
from probe.backbones import NetworkSpec
from probe.base.runtime import default_folder
from probe.features.named import features_of
from probe.probes import fit_path
from probe.settings import Extraction

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 0.3, 1.0, 3.0, 10.0, 100.0)


def reference(x: np.ndarray, y: np.ndarray, every: np.ndarray, c: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of all rows and coefficients in raw units, of one problem; scaled by the rows of `x`."""
    scaler = StandardScaler().fit(x)
    known = y >= 0
    model = LogisticRegression(C=c, tol=1e-8, max_iter=100_000, solver="newton-cholesky").fit(
        scaler.transform(x)[known], y[known]
    )
    return make_pipeline(scaler, model).predict_proba(every), model.coef_ / scaler.scale_


def compare(features: probe.Features, tap: str, rows: int | None) -> None:
    """Print the largest differences at one tap."""
    data, rng = features.data, np.random.default_rng(0)
    train = np.flatnonzero(data.splits == "train")[:rows]
    x, y, every = np.asarray(features[tap][train], np.float64), data.labels[train].copy(), np.asarray(features[tap])
    if y.ndim == 2:
        y[rng.uniform(size=y.shape) < 0.1] = -1
    path = fit_path(x, y, data.task, len(data.classes), STRENGTHS)
    apart, coefs, solved = [], [], 0
    for s, c in enumerate(STRENGTHS):
        mine = path.probabilities(every.astype(np.float64), s)
        columns = [y] if y.ndim == 1 else list(y.T)
        for k, column in enumerate(columns):
            if len(np.unique(column[column >= 0])) < 2:
                continue
            theirs, coef = reference(x, column, every, c)
            shown = [k] if y.ndim == 2 else np.unique(y)  # a class without rows has no probability
            ours = path.coef[s] if len(data.classes) == 2 and y.ndim == 1 else path.coef[s][shown]
            apart.append(np.abs(mine[:, shown] - theirs[:, -len(shown) :]).max())
            coefs.append(np.abs(ours - coef).max() / np.abs(coef).max())
            solved += 1
    print(
        f"{tap:10} {len(train):5} x {x.shape[1]:<5} {solved:4} fits  probabilities {max(apart):.1e}"
        f"  coefficients {max(coefs):.1e}",
        flush=True,
    )


def main() -> None:
    """Print the differences tap by tap."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--arch", default="torchvision:resnet18")
    parser.add_argument("--weights", default="scratch")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--tap", action="append")
    parser.add_argument("--rows", type=int)
    given = parser.parse_args()
    data = probe.dataset(given.data)
    features = features_of(NetworkSpec(arch=given.arch, weights=given.weights), data, Extraction(), default_folder())
    print(f"{given.arch} on {data.name}, {data.task}, {len(data.classes)} classes")
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tap in given.tap or ["stem", "layer2.1", "layer4.1"]:
            compare(features, tap, given.rows)


if __name__ == "__main__":
    main()
