"""Linear probes at every strength against a scikit-learn loop, on the same features.

Command: `python benchmarks/probes.py [ARCH]` (default torchvision:resnet18, from scratch, on digits).
Both sides fit the same standardised training rows at the same seven strengths, interleaved tap by
tap, one thread each. Beside the seconds stands the mean objective that each side reached above the
lower of the two: equal work is only equal at an equal objective, so scikit-learn is shown at its
default tolerance and at the one that comes near ours.
"""

import sys
import time
import warnings

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import probe
from probe.probes import fit_path

STRENGTHS = probe.ProbeGrid().c_grid
TOLERANCES = (1e-4, 1e-6)


def objective(coef: np.ndarray, intercept: np.ndarray, x: np.ndarray, y: np.ndarray, c: float) -> float:
    """Mean loss plus penalty, on standardised features."""
    logits = torch.from_numpy(x @ coef.T + intercept)
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(y))
    return float(loss) + float((coef**2).sum()) / (2 * c * len(y))


def main() -> None:
    """Print, per side, seconds and the objective left, over all taps and strengths."""
    arch = sys.argv[1] if len(sys.argv) > 1 else "torchvision:resnet18"
    data = probe.dataset("digits")
    features = probe.extract(probe.backbone(arch, "scratch", image_size=data.image_size), data)
    rows = data.splits == "train"
    y, k = data.labels[rows], len(data.classes)
    seconds = dict.fromkeys(["probe", *TOLERANCES], 0.0)
    reached: dict[object, list[float]] = {side: [] for side in seconds}
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tap in features:
            x = StandardScaler().fit_transform(np.asarray(features[tap][rows], np.float64))
            start = time.perf_counter()
            path = fit_path(x, y, "multiclass", k, STRENGTHS)
            seconds["probe"] += time.perf_counter() - start
            pairs = zip(path.coef, path.intercept, STRENGTHS, strict=True)
            reached["probe"] += [objective(coef, intercept, x, y, c) for coef, intercept, c in pairs]
            for tolerance in TOLERANCES:
                for c in STRENGTHS:
                    start = time.perf_counter()
                    model = LogisticRegression(C=c, tol=tolerance, max_iter=20000).fit(x, y)
                    seconds[tolerance] += time.perf_counter() - start
                    reached[tolerance].append(objective(model.coef_, model.intercept_, x, y, c))
    lowest = np.min(list(reached.values()), axis=0)
    print(f"{arch} on digits: {len(features)} taps x {len(STRENGTHS)} strengths, n = {len(y)}, {k} classes")
    for side, spent in seconds.items():
        above = np.array(reached[side]) - lowest
        name = side if side == "probe" else f"scikit-learn, tol {side:g}"
        gap = f"mean {above.mean():.1e}, most {above.max():.1e}"
        ratio = f"{spent / seconds['probe']:6.1f} x"
        print(f"{name:24} {spent:8.1f} s {ratio}   objective above the lowest: {gap}")


if __name__ == "__main__":
    main()
