"""Linear CKA between all taps: `cka_matrix` against `cka_from_features` of the package pytorch-cka.

Command: `pip install pytorch-cka && python benchmarks/similarity.py [--rows N] [--rounds R] [--threads T] [--mean M]
[--small]` (default 2,000 rows, 3 rounds, one thread). Features have the widths of ResNet-50's 17 taps, are not negative
and share a source, as pooled features do. Both give the unbiased CKA of all 17 x 17 pairs of the same arrays, in turn,
round by round; the ratio is the median over rounds with the smallest and largest. The error of each is the largest
difference to float64 throughout. With one thread it is processor time that counts, so that other programs do not. Above
4,000 rows pytorch-cka, which holds 34 kernels of n x n and their squares, is left out, and the time and the peak memory
above the features themselves are told.
"""

import resource
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from measuring import clock_for, in_turn, new_parser, parse, peer, ratio_words, timed
from numpy.typing import NDArray

from analysis.similarity import cka_matrix

WIDTHS = [64] + [256] * 3 + [512] * 4 + [1024] * 6 + [2048] * 3
MOST = 4000  # rows of which n x n matrices of all taps fit


def features(rows: int, mean: float) -> dict[str, NDArray[np.float32]]:
    """Features of 17 taps, float32, `mean` times their spread away from zero."""
    rng = np.random.default_rng(0)
    source = rng.normal(size=(rows, 40)).astype(np.float32)
    made = {}
    for tap, width in enumerate(WIDTHS):
        mixed = source @ rng.normal(size=(40, width)).astype(np.float32)
        mixed += rng.normal(size=(rows, width)).astype(np.float32)
        made[str(tap)] = np.maximum(mixed, 0) + np.float32(mean * mixed.std())
    return made


def by_float64(taps: dict[str, NDArray[np.float32]]) -> NDArray[np.float64]:
    """Unbiased CKA from the definition, all in float64: Song et al. 2012, equation 5."""
    kernels = []
    for x in taps.values():
        z = x.astype(np.float64) - x.mean(0, dtype=np.float64)
        kernel = z @ z.T
        np.fill_diagonal(kernel, 0)
        kernels.append(kernel)
    n = len(kernels[0])
    sums = np.array([kernel.sum(0) for kernel in kernels])
    inner = np.array([[np.vdot(k, m) for m in kernels] for k in kernels])
    totals = sums.sum(1)
    hsic = inner + np.outer(totals, totals) / ((n - 1) * (n - 2)) - 2 / (n - 2) * sums @ sums.T
    return np.asarray(hsic / np.sqrt(np.outer(np.diag(hsic), np.diag(hsic))))


def main() -> None:
    """Print the table."""
    parser = new_parser(__doc__)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="set OMP_NUM_THREADS to the same")
    parser.add_argument("--mean", type=float, default=0.0, help="of the features, in spreads")
    options = parse(parser, rows=100, rounds=1)
    torch.set_num_threads(options.threads)
    taps, clock = features(options.rows, options.mean), clock_for(options.threads)
    if options.rows > MOST:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        _, spent = timed(lambda: cka_matrix(taps, unbiased=True), clock)
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6
        print(f"{options.rows} rows, 17 x 17 taps: {spent:.1f} s, {more:.2f} GB beside the features")
        return
    sides: dict[str, Callable[[], Any]] = {"cka_matrix": lambda: cka_matrix(taps, unbiased=True)}
    tensors = [torch.from_numpy(x) for x in taps.values()]
    if cka := peer("cka", "pytorch-cka"):
        sides["pytorch-cka"] = lambda: cka.cka_from_features(tensors, tensors).numpy()
    expected = by_float64(taps)
    seconds, results = in_turn(sides, options.rounds, clock)
    print(f"{options.rows} rows, 17 x 17 taps, {options.threads} threads, mean {options.mean:g} spreads")
    for times, (name, result) in zip(seconds.T, results.items(), strict=True):
        error = np.abs(result - expected).max()
        print(f"{name:12}  {np.median(times):6.2f} s  {ratio_words(times, seconds[:, 0])}  largest error {error:.1e}")


if __name__ == "__main__":
    main()
