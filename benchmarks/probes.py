"""Linear probes at every tap, strength and fold against a scikit-learn loop that does the same work.

Command: `python benchmarks/probes.py [--arch ARCH] [--weights W] [--data DATA] [--tol T] [--device D]`
(default ResNet-18 from scratch on digits). Both sides fit every tap at nine strengths on five stratified
folds of the training split, from the same standardised rows, tap by tap in one run; scikit-learn has one
thread, which on these sizes is its fastest. Equal work is only equal at an equal objective, so beside the
seconds stands how far, as a share of the lower of the two, each side's objective was above it.
"""

import argparse
import time
import warnings

import numpy as np
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import probe
from probe.backbones import NetworkSpec
from probe.base.runtime import default_folder
from probe.features.named import features_of
from probe.probes import TrainingSet, fit_paths
from probe.settings import Extraction

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 0.3, 1.0, 3.0, 10.0, 100.0)


def objective(coef: np.ndarray, intercept: np.ndarray, x: np.ndarray, y: np.ndarray, c: float) -> float:
    """Mean loss plus penalty, on standardised features."""
    logits = x @ coef.T + intercept
    loss = logsumexp(logits, axis=1) - logits[np.arange(len(y)), y]
    return float(loss.mean()) + float((coef**2).sum()) / (2 * c * len(y))


def main() -> None:
    """Print, per side, seconds and the objective left, over all taps, strengths and folds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--arch", action="append")
    parser.add_argument("--weights", action="append")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--tol", type=float, default=1e-6)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    total = np.zeros(2)
    for arch, weights in zip(given.arch or ["torchvision:resnet18"], given.weights or ["scratch"], strict=True):
        data = probe.dataset(given.data)
        features = features_of(NetworkSpec(arch=arch, weights=weights), data, Extraction(), default_folder())
        total += compare(features, given.tol, given.device)
    print(f"all: {total[0]:.1f} s against {total[1]:.1f} s, {total[1] / total[0]:.1f} x")


def compare(features: probe.Features, tol: float, device: str) -> np.ndarray:
    """Seconds of ours and of scikit-learn's on one network's features."""
    data = features.data
    train, k = np.flatnonzero(data.splits == "train"), len(data.classes)
    split = StratifiedKFold(5, shuffle=True, random_state=0).split(train, data.labels[train])
    folds = [train[rows] for rows, _ in split]
    sets = [TrainingSet(features[tap], data.labels, STRENGTHS, rows) for tap in features for rows in folds]
    start = time.perf_counter()
    paths = fit_paths(sets, data.task, k, device=device)
    seconds = np.array([time.perf_counter() - start, 0.0])
    above = np.zeros((2, len(sets), len(STRENGTHS)))
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i, (given, path) in enumerate(zip(sets, paths, strict=True)):
            y = data.labels[given.chosen]
            start = time.perf_counter()
            scaler = StandardScaler()
            x = scaler.fit_transform(np.asarray(given.features[given.chosen], np.float64))
            models = [LogisticRegression(C=c, tol=tol, max_iter=50000).fit(x, y) for c in STRENGTHS]
            seconds[1] += time.perf_counter() - start
            for j, (c, model) in enumerate(zip(STRENGTHS, models, strict=True)):
                ours = path.coef[j] * scaler.scale_, path.intercept[j] + path.coef[j] @ scaler.mean_
                both = [objective(*w, x, y, c) for w in (ours, (model.coef_, model.intercept_))]
                above[:, i, j] = np.array(both) / min(both) - 1
    print(f"{features.origin['arch']} on {data.name}: {len(features)} taps x {len(STRENGTHS)} strengths x 5 folds")
    for side, spent, over in zip(("probe", f"scikit-learn, tol {tol:g}"), seconds, above, strict=True):
        share = f"median {np.median(over):.0e}, 95 % {np.quantile(over, 0.95):.0e}, most {over.max():.0e}"
        print(f"  {side:24} {spent:8.1f} s {spent / seconds[0]:6.1f} x   share above the lower objective: {share}")
    return seconds


if __name__ == "__main__":
    main()
