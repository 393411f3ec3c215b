"""L2-regularised logistic regression at many strengths at once, to scikit-learn's objective.

For each strength C: minimise  C sum_i loss(y_i, x_i W + b) + |W|^2 / 2,  with the multinomial loss
over k classes or the binomial loss of one vector; b is not penalised.

In the eigenbasis of the centred features the problem is the same, for the penalty is a sphere, and
if every row had the mean curvature c = mean p (1 - p) the Hessian would be diagonal: c e_j + 1/C.
That diagonal preconditions a batched L-BFGS in which every problem is one slice of a tensor.
Logits are linear in the weights, so a search along a direction needs no further product.

Boehning 1992 (Ann. Inst. Statist. Math. 44) for the fixed bound 1/2 in place of c, which takes about
six times the iterations; Nocedal and Wright 2006, algorithm 7.4.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

MEMORY = 5  # pairs of steps and gradient changes kept
TOLERANCE = 1e-9  # gap to the optimum, in mean loss, at which a problem counts as solved
LIMIT = 5000  # iterations
SEARCH = 1  # Newton steps along a direction, from the length 1 that L-BFGS proposes


@dataclass(frozen=True)
class Solutions:
    """Weights (p, k, d) and intercepts (p, k) of p problems, and how well each was solved.

    `gap` (p,) estimates how far the objective is above its optimum: half the Newton decrement,
    which unlike the gradient means the same at every strength.
    """

    weights: Tensor
    intercepts: Tensor
    gap: Tensor
    iterations: int

    @property
    def converged(self) -> Tensor:
        """Which problems reached the tolerance."""
        return self.gap <= TOLERANCE


class Basis:
    """Features (n, d) in the eigenbasis of their covariance: (n, r) columns, orthogonal, and the way back.

    The smaller of the two Gram matrices is decomposed; directions without variance are dropped.
    """

    def __init__(self, features: Tensor) -> None:
        wide = features.shape[1] > features.shape[0]
        values, vectors = torch.linalg.eigh(features @ features.T if wide else features.T @ features)
        keep = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
        self.spread, kept = values[keep], vectors[:, keep]
        self.back = features.T @ (kept / self.spread.sqrt()) if wide else kept
        self.columns = kept * self.spread.sqrt() if wide else features @ kept


def solve(features: Tensor, targets: Tensor, strengths: Tensor, multinomial: bool) -> Solutions:
    """Solve one problem per strength and label.

    `features` (n, d), float64, centred; `targets` (n, k) zeros and ones: the k columns are the
    classes of one multinomial problem, or k separate binomial problems. Problems come strength by
    strength, and for the binomial label by label within a strength.
    """
    with _one_thread():
        basis = Basis(features)
        weights, gap, iterations = _minimise(_Problem(basis, targets, strengths, multinomial))
    return Solutions(weights[..., :-1] @ basis.back.T, weights[..., -1], gap, iterations)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Matrices this small are multiplied no faster by two threads, and far slower when a core is busy elsewhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Problem:
    """The objective in the eigenbasis: logits, losses and gradients of all problems, (p, k, r + 1) weights."""

    def __init__(self, basis: Basis, targets: Tensor, strengths: Tensor, multinomial: bool) -> None:
        rows = len(targets)
        self.multinomial = multinomial
        self.columns = torch.cat([basis.columns, torch.ones(rows, 1).to(basis.columns)], dim=1)
        if multinomial:
            self.targets = targets.T.expand(len(strengths), -1, -1)
            self.ridge = 1 / strengths
        else:
            self.targets = targets.T.repeat(len(strengths), 1)[:, None]
            self.ridge = (1 / strengths).repeat_interleave(targets.shape[1])
        penalised = torch.ones(self.columns.shape[1]).to(basis.columns)
        penalised[-1] = 0
        self.penalty = self.ridge[:, None, None] * penalised / rows
        spread = torch.cat([basis.spread, basis.spread.new_tensor([rows])]) / rows
        self.spread = spread

    def logits(self, weights: Tensor) -> Tensor:
        """(p, k, n) from weights (p, k, r + 1)."""
        flat = weights.flatten(0, 1) @ self.columns.T
        return flat.reshape(*weights.shape[:2], -1)

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.softmax(1) if self.multinomial else logits.sigmoid()

    def slopes(self, weights: Tensor, logits: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient of the mean loss plus penalty, and the diagonal that its Hessian would have if every row
        had the mean curvature; (p, k, r + 1) both.
        """
        p = self.probabilities(logits)
        residual = p - self.targets[chosen]
        flat = residual.flatten(0, 1) @ self.columns
        penalty = self.penalty[chosen]
        gradient = flat.reshape(*residual.shape[:2], -1) / logits.shape[2] + penalty * weights
        return gradient, (p * (1 - p)).mean(2, keepdim=True) * self.spread + penalty

    def step(self, weights: Tensor, direction: Tensor, logits: Tensor, along: Tensor, chosen: Tensor) -> Tensor:
        """Length (p,) of the step that minimises the objective along a direction, by safeguarded Newton."""
        rows, penalty = logits.shape[2], self.penalty[chosen]
        curve = (penalty * direction * direction).sum((1, 2))
        slope = (penalty * weights * direction).sum((1, 2)) - (self.targets[chosen] * along).sum((1, 2)) / rows
        low, high = torch.zeros_like(curve), torch.full_like(curve, float("inf"))
        length = torch.ones_like(curve)
        for _ in range(SEARCH):
            p = self.probabilities(logits + length[:, None, None] * along)
            weighted = p * along
            first = slope + length * curve + weighted.sum((1, 2)) / rows
            second = curve + self._variance(p, weighted, along) / rows
            low, high = torch.where(first < 0, length, low), torch.where(first < 0, high, length)
            newton = length - first / second
            middle = torch.where(high.isinf(), 2 * length, (low + high) / 2)
            length = torch.where((newton > low) & (newton < high), newton, middle)
        return length

    def _variance(self, p: Tensor, weighted: Tensor, along: Tensor) -> Tensor:
        """Second derivative of the summed loss along a direction, (p,)."""
        if self.multinomial:
            return (weighted * along).sum((1, 2)) - weighted.sum(1).square().sum(1)
        return (weighted * (1 - p) * along).sum((1, 2))


def _minimise(problem: _Problem) -> tuple[Tensor, Tensor, int]:
    """Batched L-BFGS; a problem that is solved leaves the batch."""
    count, classes = problem.targets.shape[:2]
    final = problem.columns.new_zeros(count, classes, problem.columns.shape[1])
    left = final.new_zeros(count)
    active = torch.arange(count, device=final.device)
    weights, logits = final.clone(), problem.logits(final)
    gradient, scale = problem.slopes(weights, logits, active)
    memory: list[tuple[Tensor, Tensor]] = []
    for iteration in range(LIMIT + 1):
        direction = -_inverse_hessian(gradient, memory, scale)
        decrement = -(direction * gradient).sum((1, 2)) / 2
        final[active], left[active] = weights, decrement
        going = decrement > TOLERANCE
        if not going.any() or iteration == LIMIT:
            break
        if not going.all():
            active, weights, logits, gradient, direction = (
                x[going] for x in (active, weights, logits, gradient, direction)
            )
            memory = [(s[going], y[going]) for s, y in memory]
        along = problem.logits(direction)
        length = problem.step(weights, direction, logits, along, active)[:, None, None]
        moved, logits = length * direction, logits + length * along
        weights = weights + moved
        before = gradient
        gradient, scale = problem.slopes(weights, logits, active)
        memory = [*memory[1 - MEMORY :], (moved, gradient - before)]
    return final, left, iteration


def _inverse_hessian(gradient: Tensor, memory: list[tuple[Tensor, Tensor]], scale: Tensor) -> Tensor:
    """The two-loop recursion, its start the diagonal `scale` scaled to the latest step."""
    q, used = gradient, []
    for s, y in reversed(memory):
        curvature = (s * y).sum((1, 2), keepdim=True).clamp_min(torch.finfo(s.dtype).tiny)
        alpha = (s * q).sum((1, 2), keepdim=True) / curvature
        q = q - alpha * y
        used.append((s, y, curvature, alpha))
    r = q / scale
    if memory:
        s, y, curvature, _ = used[0]
        r = r * (curvature / (y * y / scale).sum((1, 2), keepdim=True))
    for s, y, curvature, alpha in reversed(used):
        beta = (y * r).sum((1, 2), keepdim=True) / curvature
        r = r + s * (alpha - beta)
    return r
