"""Strengths solved side by side, as `solve` does, against one after the other, each from the solution before.

Command: `python benchmarks/warm_starts.py [--arch ARCH] [--weights W] [--data DATA] [--tap TAP ...] [--small]` (default
ResNet-18 from scratch on digits, four taps). Nine strengths on five stratified folds of the training split, tap by tap,
one thread, processor time. Work is counted in iterations of single problems; what one should see: a warm start saves
some of them, and side by side is faster nevertheless, for its products are larger.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from measuring import SMALL_NETWORK, add_network, clock_for, new_parser, parse, read_features, timed
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from probe.probes.designs import Design, Stack
from probe.probes.linear import _batch
from probe.probes.objective import Problem, Targets
from probe.probes.solver import AFRESH, EVERY, LIMIT, _Search
from probe.probes.targets import Target

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 0.3, 1.0, 3.0, 10.0, 100.0)


def search(products: Stack, targets: Targets, strengths: Tensor, start: Tensor | None = None) -> tuple[Tensor, int]:
    """Weights of all problems, and the iterations they took together."""
    problem = Problem(products, targets, strengths)
    zeros = torch.zeros(*problem.shown.shape[:3], problem.spread.shape[-1], dtype=torch.float64)
    found = _Search(problem, zeros if start is None else start)
    iterations = work = 0
    while found.note(last=iterations >= LIMIT):
        for _ in range(EVERY):
            found.advance()
        iterations, work = iterations + EVERY, work + EVERY * len(found._active)
        if iterations % AFRESH == 0:
            found.afresh()
    return found.weights, work


def one_by_one(products: Stack, targets: Targets, strengths: Tensor, warm: bool) -> int:
    """The iterations of the strengths in turn, the strongest penalty first."""
    start, total = None, 0
    for at in range(strengths.shape[1]):
        found, work = search(products, targets, strengths[:, at : at + 1], start)
        start, total = found if warm else None, total + work
    return total


def main() -> None:
    """Print a line per tap."""
    parser = new_parser(__doc__)
    add_network(parser)
    parser.add_argument("--tap", action="append", default=[])
    options = parse(parser, **SMALL_NETWORK, tap=["layer1.0"])
    torch.set_num_threads(1)
    features = read_features(options)
    data = features.data
    train = np.flatnonzero(data.splits == "train")
    split = StratifiedKFold(5, shuffle=True, random_state=0).split(train, data.labels[train])
    folds = [train[rows] for rows, _ in split]
    targets = _batch([Target(data.labels[rows], data.task, None) for rows in folds], "cpu")
    strengths = torch.tensor([STRENGTHS] * len(folds), dtype=torch.float64)
    print("tap         side by side          warm, in turn         cold, in turn         (seconds, iterations)")
    for tap in options.tap or list(features)[1::2]:
        products = Stack([Design(features[tap], rows, "cpu") for rows in folds])
        cells = []
        ways: list[Callable[[Stack, Targets, Tensor], int]] = [
            lambda *problem: search(*problem)[1],
            partial(one_by_one, warm=True),
            partial(one_by_one, warm=False),
        ]
        for way in ways:
            iterations, seconds = timed(partial(way, products, targets, strengths), clock_for(threads=1))
            cells.append(f"{seconds:6.2f} {iterations:12}")
        print(f"{tap:10}", "   ".join(cells), flush=True)


if __name__ == "__main__":
    main()
