"""How often 95 % intervals of the AUROC hold the truth, by simulation: the numbers of `interval_coverage.md`.

Command: `python benchmarks/interval_coverage.py [REPLICATIONS] [--small]` (default 3000; about 15 minutes on two free
cores). Two normal classes, d apart: the truth is Phi(d / sqrt 2). Each replication draws new data and new bootstrap
draws (1,000, as `probe layerwise` does), and asks whether the interval holds the truth. What one should see: two
classes at AUROC .8 within 93-97 % from n = 300 on; less with few rows, few positives, few groups or an AUROC near 1.
"""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from math import sqrt

import numpy as np
from measuring import new_parser, parse
from numpy.typing import NDArray
from scipy.stats import norm

from probe.metrics import ones, weighted_auroc
from probe.scoring.statistics import bca_interval, bootstrap_weights, left_out_weights, percentile_interval

DRAWS = 1000
METHODS = ("percentile", "percentile, stratified", "BCa", "percentile, groups ignored")


@dataclass(frozen=True)
class Cell:
    """One line of the table: `n` rows, `groups` of `size` each that share half of their variance."""

    n: int
    auroc: float = 0.8
    positives: float = 0.5
    size: int = 1

    def data(self, rng: np.random.Generator) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.str_]]:
        """Truth, scores and groups. A group has one label, and its rows share half of the variance of the score."""
        groups = np.repeat(np.arange(self.n // self.size), self.size)
        truth = (rng.random(groups.max() + 1) < self.positives)[groups]
        shared = 0.5 if self.size > 1 else 0.0
        noise = sqrt(shared) * rng.normal(size=groups.max() + 1)[groups]
        noise = noise + sqrt(1 - shared) * rng.normal(size=len(groups))
        return truth, noise + truth * norm.ppf(self.auroc) * sqrt(2), groups.astype(str)


CELLS = (
    *(Cell(n) for n in (50, 100, 200, 300, 500, 1000)),
    *(Cell(n, positives=0.1) for n in (100, 300, 1000)),
    *(Cell(n, auroc=0.95) for n in (50, 100, 300, 1000)),
    *(Cell(n, auroc=0.95, positives=0.1) for n in (100, 300)),
    *(Cell(n, size=size) for n, size in ((300, 3), (300, 10), (1000, 10))),
)


def try_once(cell: Cell, rng: np.random.Generator) -> NDArray[np.float64]:
    """Lower and upper end of each method's interval on new data, (methods, 2); NaN where it is not defined."""
    truth, scores, groups = cell.data(rng)
    n, by = len(truth), groups if cell.size > 1 else None
    parts = [
        ones(n),
        bootstrap_weights(n, by, DRAWS, rng),
        bootstrap_weights(n, by, DRAWS, rng, strata=truth),
        left_out_weights(n, by),
        bootstrap_weights(n, None, DRAWS, rng) if by is not None else np.zeros((1, n)),  # undefined
    ]
    found = weighted_auroc(truth, scores, np.vstack(parts))
    plain, draws, stratified, left_out, rowwise = np.split(found, np.cumsum([len(part) for part in parts])[:-1])
    bca = bca_interval(np.concatenate([plain, draws]), left_out)
    return np.array([percentile_interval(draws), percentile_interval(stratified), bca, percentile_interval(rowwise)])


def line(cell: Cell, replications: int) -> str:
    """A line of the table: coverage, its simulation error, and the mean width of the interval, per method."""
    rng = np.random.default_rng([cell.n, round(cell.auroc * 100), round(cell.positives * 100), cell.size])
    ends = np.array([try_once(cell, rng) for _ in range(replications)])
    fields = [str(cell.n), f"{cell.auroc:g}", f"{cell.positives:g}", "" if cell.size == 1 else f"{cell.n // cell.size}"]
    for low, high in ends.transpose(1, 2, 0):
        defined = ~np.isnan(low)
        if not defined.any():
            fields.append("")
            continue
        share = ((low <= cell.auroc) & (cell.auroc <= high))[defined].mean()
        error = sqrt(share * (1 - share) / defined.sum())
        lost = f", {(~defined).sum()} undefined" if not defined.all() else ""
        fields.append(f"{share:.1%} ± {error:.1%} ({(high - low)[defined].mean():.3f}{lost})")
    return f"| {' | '.join(fields)} |"


def main() -> None:
    """Print the table, in Markdown."""
    parser = new_parser(__doc__)
    parser.add_argument("replications", nargs="?", type=int, default=3000)
    replications = parse(parser, replications=3).replications
    names = ("n", "AUROC", "positives", "groups", *METHODS)
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
    with ProcessPoolExecutor() as pool:
        for text in pool.map(line, CELLS, repeat(replications)):
            print(text, flush=True)


if __name__ == "__main__":
    main()
