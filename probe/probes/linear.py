"""Linear probes: standardised features, L2-regularised logistic regression, many strengths and folds in one go."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from probe.base.array_types import Features2d, Labels, ProbabilitiesAt
from probe.base.errors import ProbeError
from probe.base.runtime import free_memory, in_threads, one_thread
from probe.probes.designs import Design, Raw, Stack, Stream
from probe.probes.objective import Targets
from probe.probes.readout import Readable
from probe.probes.solver import TOLERANCE, Solutions, solve
from probe.probes.targets import Target, about
from probe.tasks import Task

LIVE = 10  # tensors of float32 as large as the logits that the solver holds at its peak, measured
TOGETHER = 4_000_000  # logits held at a time, of all the designs that are solved side by side


@dataclass(frozen=True)
class RegularizationPath:
    """Linear probes at every strength, in raw feature units: `coef` (s, k, d), `intercept` (s, k).

    k is 1 for two classes (the binomial loss of one vector). `gap` (s,) bounds how far the objective is above
    its optimum, as a share of it; `gradient` (s,) is the largest entry of the gradient of its mean. `iterations` is
    how many it took to solve all problems side by side with these.
    """

    task: Task
    coef: NDArray[np.float64]
    intercept: NDArray[np.float64]
    gap: NDArray[np.float64]
    gradient: NDArray[np.float64]
    iterations: int

    @property
    def converged(self) -> NDArray[np.bool_]:
        """(s,) whether the gap is within the solver's tolerance."""
        return self.gap <= TOLERANCE

    def only(self, strength: int) -> "RegularizationPath":
        """The probe at one of the strengths, so that the others need not be kept."""
        at = slice(strength, strength + 1)
        return RegularizationPath(
            self.task, self.coef[at], self.intercept[at], self.gap[at], self.gradient[at], self.iterations
        )

    def probabilities(self, features: Readable, strength: int | slice = slice(None)) -> ProbabilitiesAt:
        """(..., n, classes) from the probes at one or all strengths; rows of multi-label data do not sum to 1."""
        with one_thread():
            x = torch.as_tensor(features).double()
            coef, intercept = (torch.from_numpy(each[strength]).to(x) for each in (self.coef, self.intercept))
            logits = x @ coef.mT + intercept[..., None, :]
            return self.task.prediction(logits).cpu().numpy()


@dataclass(frozen=True)
class TrainingSet:
    """Rows to fit probes to: of `features` (n, d) and `labels` those in `rows`, all by default, `weights` (n,) each.

    Labels are (n,) classes, or (n, labels) of 1, 0 and -1 for unknown: such a row does not count for that label.
    There is one probe for each of `strengths`, scikit-learn's C. The search begins at `start`, the coefficients (k, d)
    and intercepts (k,) of an earlier probe, or at zero.
    """

    features: Readable
    labels: Labels
    strengths: Sequence[float]
    rows: NDArray[np.integer] | None = None
    weights: NDArray[np.floating] | None = None
    start: Raw | None = None
    name: str = ""  # stands before what is wrong with it

    @property
    def chosen(self) -> NDArray[np.integer]:
        """Indices of the rows."""
        return np.arange(len(self.labels)) if self.rows is None else np.asarray(self.rows)

    def target(self, task: Task) -> Target:
        """What the rows show. Raises ProbeError for rows of a single class, and for weights that are not."""
        weights = None if self.weights is None else np.asarray(self.weights)[self.chosen]
        return Target(self.labels[self.chosen], task, weights)


def fit_path(
    features: Features2d,
    labels: Labels,
    task: Task,
    strengths: Sequence[float],
    *,
    weights: NDArray[np.floating] | None = None,
    start: Raw | None = None,
    device: str = "cpu",
) -> RegularizationPath:
    """Fit `make_pipeline(StandardScaler(), LogisticRegression(C))` for every C of `strengths`; see `fit_paths`."""
    whole = TrainingSet(features, labels, strengths, weights=weights, start=start)
    return fit_paths([whole], task, device=device)[0]


def fit_paths(sets: Sequence[TrainingSet], task: Task, *, device: str = "cpu") -> list[RegularizationPath]:
    """Fit probes to several training sets - folds, seeds, taps - as batched problems, on a CPU one for each core.

    Every set asks for as many strengths. Features are standardised over all rows of a set, whatever their
    weights. A class or label that a set does not show both ways cannot be learnt: its probability is then what
    the rows show (0 or 1). Raises ProbeError for features that are not finite, for rows of a single class, and
    for more logits than fit into memory.
    """
    _check_memory(sets, task.vectors, device)
    targets = [about(each.name, partial(each.target, task)) for each in sets]

    def fit(group: list[int]) -> list[tuple[int, RegularizationPath]]:
        with one_thread():
            return _fit_group(sets, targets, group, task, device)

    paths: dict[int, RegularizationPath] = {}
    groups = _groups(sets, targets[0].shown[..., 0].size)
    with tqdm(total=len(sets), unit="fit", disable=None if len(sets) > 1 else True, desc="probes", leave=False) as bar:
        for found in in_threads(fit, groups, torch.get_num_threads() if device == "cpu" else 1):
            paths |= found
            bar.update(len(found))
    return [paths[i] for i in range(len(sets))]


def _check_memory(sets: Sequence[TrainingSet], classes: int, device: str) -> None:
    """Raise ProbeError when the largest set cannot be solved in memory, before anything is allocated."""
    rows, strengths, name = max((len(each.chosen), len(each.strengths), each.name) for each in sets)
    wanted, there = LIVE * 4 * rows * classes * strengths, _memory(device)
    if wanted > there:
        raise ProbeError(
            f"{name + ': ' if name else ''}linear probes of {classes} classes at {strengths} strengths on {rows} rows "
            f"take {wanted / 1e9:.0f} GB of memory, and there are {there / 1e9:.0f}; "
            "fewer strengths or rows take less, as do read-outs without training (knn, ncm)"
        )


def _memory(device: str) -> int:
    """Bytes that a fit can have: those free on a CUDA device, else the machine's, or what this process is allowed."""
    if device.startswith("cuda"):
        return free_memory(device)
    if sys.platform == "win32":
        return sys.maxsize
    import resource

    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    return machine if allowed == resource.RLIM_INFINITY else min(machine, allowed)


def _fit_group(
    sets: Sequence[TrainingSet], targets: Sequence[Target], group: list[int], task: Task, device: str
) -> list[tuple[int, RegularizationPath]]:
    designs = [about(sets[i].name, partial(Design, sets[i].features, sets[i].chosen, device)) for i in group]
    strengths = torch.from_numpy(np.array([sets[i].strengths for i in group], np.float64)).to(device)
    products = Stream(designs[0]) if designs[0].streamed else Stack(designs)
    starts = torch.zeros(*strengths.shape, *targets[0].learnt.shape, products.spread.shape[1], device=device)
    for slot, i in enumerate(group):
        _begin(starts[slot], sets[i].start, designs[slot], targets[i])
    found = solve(products, _batch([targets[i] for i in group], device), strengths, starts.flatten(1, 2))
    return [(i, _path(found, slot, designs[slot], targets[i], task)) for slot, i in enumerate(group)]


def _begin(weights: Tensor, start: Raw | None, design: Design, target: Target) -> None:
    """Write where the search begins to (s, t, k, r + 1), padded; what could not be learnt begins at 0."""
    if start is not None:
        coef, intercept = start
        turned = design.to_eigenbasis((coef, np.where(np.isfinite(intercept), intercept, 0)))
        turned = turned.unflatten(0, target.learnt.shape)
        weights[..., : design.rank], weights[..., -1] = turned[..., :-1], turned[..., -1]


def _batch(targets: Sequence[Target], device: str) -> Targets:
    """Targets of several designs, padded to the rows of the longest."""
    first, rows = targets[0], max(each.shown.shape[2] for each in targets)
    shown = torch.zeros(len(targets), *first.shown.shape[:2], rows)
    weights = torch.zeros(len(targets), first.weights.shape[0], 1, rows)
    for i, each in enumerate(targets):
        shown[i, ..., : each.shown.shape[2]] = torch.from_numpy(each.shown)
        weights[i, ..., : each.shown.shape[2]] = torch.from_numpy(each.weights)
    learnt = torch.from_numpy(np.stack([each.learnt for each in targets]))[..., None]
    return Targets(shown.to(device), weights.to(device), learnt.to(device) if first.multinomial else None)


def _groups(sets: Sequence[TrainingSet], classes: int) -> list[list[int]]:
    """Which sets are solved side by side: of much the same size, so that little is padding, and not too many."""
    sizes = [(min(each.features.shape[1], len(each.chosen)), len(each.chosen)) for each in sets]
    logits = [rows * classes * len(each.strengths) for (_, rows), each in zip(sizes, sets, strict=True)]
    groups: list[list[int]] = []
    for i in sorted(range(len(sets)), key=lambda i: sizes[i], reverse=True):  # the longest first, for two cores
        if groups:
            first = groups[-1][0]
            alike = all(a >= 0.9 * b for a, b in zip(sizes[i], sizes[first], strict=True))
            if alike and sum(logits[j] for j in groups[-1]) + logits[i] <= TOGETHER:
                groups[-1].append(i)
                continue
        groups.append([i])
    return groups


def _path(found: Solutions, slot: int, design: Design, target: Target, task: Task) -> RegularizationPath:
    """Fold what was found for one design back to raw units."""
    weights = found.weights[slot].flatten(1, 2)
    coef, shift = design.raw(weights[..., : design.rank])
    learnt = target.learnt.ravel()
    intercept = weights[..., -1].cpu().numpy() + shift
    gap, gradient = (x[slot].amax(1).cpu().numpy() for x in (found.gap, found.gradient))
    intercept = np.where(learnt, intercept, target.constant)
    return RegularizationPath(task, coef * learnt[:, None], intercept, gap, gradient, found.iterations)
