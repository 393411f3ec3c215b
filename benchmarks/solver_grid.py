"""Linear probes against scikit-learn over a grid of shapes: does every fit converge, to which objective, in what time.

Command: `python benchmarks/solver_grid.py [--small] [--budget SECONDS]`. Rows are drawn around class means of standard
deviation 1; `spread` is the standard deviation of the rows around their mean. Every data set is fitted at nine
strengths at once, C from 1e-4 to 1e4. scikit-learn fits them one after the other with tol 1e-8: L-BFGS, and
Newton's method where its Hessian is small. A cell is one strength of one data set. It passes if the probe converged
and its objective is at most 1e-6 (as a share) above scikit-learn's lowest. The ratio is of
processor times over the nine strengths, probe to L-BFGS, standardisation included. `--small` runs in seconds.
`--budget` leaves out the data sets whose fits by scikit-learn would take longer, as estimated from their size.
One should see every cell pass and no ratio above 2.
"""

import time
import warnings
from collections.abc import Iterator
from itertools import product

import numpy as np
from measuring import new_parser, parse
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from probe.probes import fit_path
from probe.tasks import Classes

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
STRENGTHS = tuple(10.0**power for power in range(-4, 5))
CLASSES, PER_CLASS, FEATURES, SPREADS = (2, 5, 20, 50, 200, 1000), (2, 3, 10, 50), (8, 64, 512, 2048), (0.1, 1.0, 10.0)
SMALL = (2, 20), (2, 10), (8, 64), (0.1, 1.0)
HESSIAN = 2000  # weights, up to which Newton's method is tried too
SPEED = 2e9  # multiplications per second, a low estimate of one core
ROUNDS = 1000  # products of all rows with all weights that scikit-learn takes for nine strengths, about


def rows_of(classes: int, each: int, features: int, spread: float) -> tuple[NDArray[np.float32], Labels]:
    """Features (n, d) float32 and labels."""
    rng = np.random.default_rng(classes * 1000 + each * 10 + features)
    y = np.arange(classes * each) % classes
    means = rng.normal(size=(classes, features))
    return (means[y] + spread * rng.normal(size=(len(y), features))).astype(np.float32), y


def objective(z: Floats, y: Labels, coef: Floats, intercept: Floats, c: float) -> float:
    """scikit-learn's, in float64, from coefficients of standardised features."""
    logits = z @ coef.T + intercept
    if len(coef) == 1:
        loss = np.logaddexp(0, np.where(y == 1, -1, 1) * logits[:, 0])
    else:
        loss = logsumexp(logits - logits[np.arange(len(y)), y][:, None], axis=1)
    return float(c * loss.sum() + np.square(coef).sum() / 2)


def scikit_learn(z: Floats, y: Labels, solver: str) -> tuple[Floats, float]:
    """Objective per strength, and seconds for all."""
    found, start = [], time.process_time()
    models = [LogisticRegression(C=c, tol=1e-8, max_iter=10_000, solver=solver).fit(z, y) for c in STRENGTHS]
    seconds = time.process_time() - start
    for model, c in zip(models, STRENGTHS, strict=True):
        found.append(objective(z, y, model.coef_, model.intercept_, c))
    return np.array(found), seconds


def compare(shape: tuple[int, int, int, float]) -> tuple[NDArray[np.bool_], float]:
    """Which strengths pass, and the ratio of times; prints a line."""
    x, y = rows_of(*shape)
    start = time.process_time()
    path = fit_path(x, y, Classes(shape[0]), STRENGTHS)
    ours = time.process_time() - start
    start = time.process_time()
    scaler = StandardScaler().fit(x.astype(np.float64))
    z = scaler.transform(x.astype(np.float64))
    scaling = time.process_time() - start
    best, theirs = scikit_learn(z, y, "lbfgs")
    if shape[0] * shape[2] <= HESSIAN:
        best = np.minimum(best, scikit_learn(z, y, "newton-cholesky")[0])
    coefs, intercepts = path.coef * scaler.scale_, path.intercept + path.coef @ scaler.mean_
    reached = np.array([objective(z, y, *each) for each in zip(coefs, intercepts, STRENGTHS, strict=True)])
    above, ratio = reached / best - 1, ours / (theirs + scaling)
    passed = path.converged & (above <= 1e-6)
    missed = [f"C {c:g}: gap {gap:.0e}" for c, gap, ok in zip(STRENGTHS, path.gap, passed, strict=True) if not ok]
    print(
        f"{shape[0]:5} classes x {shape[1]:2} rows, {shape[2]:4} features, spread {shape[3]:4}:"
        f" {passed.sum()} of {len(passed)} pass, {path.iterations:4} iterations, objective {above.max():+.0e},"
        f" {ours:6.2f} s, ratio {ratio:.2f}",
        *missed,
        flush=True,
    )
    return passed, ratio


def shapes(small: bool, budget: float) -> Iterator[tuple[int, int, int, float]]:
    """Classes, rows per class, features and spread, of data sets that scikit-learn solves within the budget."""
    for shape in product(*(SMALL if small else (CLASSES, PER_CLASS, FEATURES, SPREADS))):
        classes, each, features, _ = shape
        if classes * each * features * classes * ROUNDS / SPEED <= budget:
            yield shape


def main() -> None:
    """Print a line per data set, and the counts."""
    parser = new_parser(__doc__)
    parser.add_argument("--budget", type=float, default=np.inf)
    options = parse(parser)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = [compare(shape) for shape in shapes(options.small, options.budget)]
    passed, ratios = np.concatenate([cells for cells, _ in results]), np.array([ratio for _, ratio in results])
    print(f"{passed.sum()} of {len(passed)} cells pass; {(ratios <= 2).sum()} of {len(ratios)} data sets within twice")
    print(f"ratio of times: median {np.median(ratios):.2f}, largest {ratios.max():.2f}")


if __name__ == "__main__":
    main()
