"""L2-regularised logistic regression to scikit-learn's objective: all strengths x labels x designs as one problem.

For each strength C: minimise  C sum_i s_i loss(y_i, x_i W + b) + |W|^2 / 2,  with the multinomial loss
over k classes or the binomial loss of one vector; b is not penalised, s_i are the weights of the rows.

If every row had the mean curvature c = mean p (1 - p), the Hessian of the mean loss would be diagonal in
the eigenbasis of the features: c e_j + 1 / (C sum s). That diagonal preconditions a batched L-BFGS in which
every problem is one slice of a tensor. Logits are linear in the weights, so a search along a direction
needs no further product.

Products are made in float32, which costs a third of float64: their error is relative to the residuals,
and those are taken from float64 logits, so it shrinks with them.

Boehning 1992 (Ann. Inst. Statist. Math. 44) for the fixed bound 1/2 in place of c, which takes about
six times the iterations; Nocedal and Wright 2006, algorithm 7.4.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from probe.probes.designs import Products

MEMORY = 2  # pairs of steps and gradient changes kept; more of them save few iterations and cost more each
TOLERANCE = 1e-8  # gap to the optimum, as a share of the objective, at which a problem counts as solved
LIMIT = 5000  # iterations
EVERY = 4  # iterations between looks at the gap
AFRESH = 200  # iterations after which the logits, kept up by steps, are taken from the weights again
STRIDE = 100.0  # largest change of a logit in one step; where all is saturated, curvature does not tell how far to go
NOISE = 1e-6  # curvature along a step, as a share of the expected, below which it is rounding
TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Targets:
    """What is to be learnt from f designs: t problems each, of k classes, over n rows.

    `shown` (f, t, k, n) zeros and ones; `weights` (f, t, 1, n) of the rows, a row that weighs nothing is not
    there; `classes` (f, 1, k, 1) which classes a design shows (multinomial: the others get no probability).
    """

    shown: Tensor
    weights: Tensor
    classes: Tensor | None

    @property
    def multinomial(self) -> bool:
        """Whether the k classes exclude each other; else k is 1 and the loss binomial."""
        return self.classes is not None


@dataclass(frozen=True)
class Solutions:
    """Per design, strength and problem: weights (f, s, t, k, r + 1), the last the intercept.

    `gap` (f, s, t) bounds how far the objective is above its optimum, as a share of its value: |gradient|^2
    over twice the curvature of the penalty, which the objective is nowhere flatter than. A share, because
    where the penalty is weak the loss is small and little of it still moves probabilities. `gradient`
    (f, s, t) is the largest entry of the gradient of the mean objective.
    """

    weights: Tensor
    gap: Tensor
    gradient: Tensor
    iterations: int


def solve(products: Products, targets: Targets, strengths: Tensor, start: Tensor) -> Solutions:
    """Solve one problem per design, strength (f, s) and column of `targets`.

    The search begins at `start` (f, s t, k, r + 1), or at zero where that has the lower objective.
    """
    search = _Search(_Problem(products, targets, strengths), start)
    iteration = 0
    while search.note(last=iteration >= LIMIT):
        for _ in range(EVERY):
            search.advance()
        iteration += EVERY
        if iteration % AFRESH == 0:
            search.afresh()
    shape = (strengths.shape[1], targets.shown.shape[1])
    weights, gap, gradient = (x.unflatten(1, shape) for x in (search.weights, search.gap, search.gradient))
    return Solutions(weights, gap, gradient, iteration)


class _Problem:
    """The objective of q = s t problems on each design: (f, q, k, .) tensors."""

    def __init__(self, products: Products, targets: Targets, strengths: Tensor) -> None:
        self.products, self.spread = products, products.spread[:, None, None]
        self.multinomial = targets.multinomial
        total = targets.weights.sum(3, keepdim=True).clamp_min(TINY)
        repeats = (1, strengths.shape[1], 1, 1)
        self.shown = targets.shown.repeat(repeats).float()
        self.hidden = 1 - self.shown
        self.rows = (targets.weights / total).repeat(repeats).float()
        self.absent = None if targets.classes is None else torch.where(targets.classes, 0.0, -torch.inf)
        ridge = (1 / (strengths[:, :, None].to(total) * total[:, None, :, 0, 0])).flatten(1, 2)
        penalised = torch.ones(self.spread.shape[-1]).to(self.spread)
        penalised[-1] = 0
        self.ridge = ridge.clamp_max(1e30).float()[..., None, None]  # of a problem without rows
        self.penalty = self.ridge * penalised

    def keep(self, going: Tensor) -> None:
        """Go on with some of the q problems."""
        self.shown, self.hidden, self.rows, self.ridge, self.penalty = (
            x[:, going] for x in (self.shown, self.hidden, self.rows, self.ridge, self.penalty)
        )

    def probabilities(self, logits: Tensor) -> Tensor:
        if not self.multinomial:
            return logits.sigmoid()
        return (logits if self.absent is None else logits + self.absent.to(logits)).softmax(2)

    def slopes(self, weights: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient of the mean objective, and the diagonal that its Hessian would have if every row had the mean
        curvature; (f, q, k, r + 1) both.
        """
        p = self.probabilities(logits)
        gradient = self.products.pulled(self.residual(logits, p) * self.rows).addcmul_(self.penalty, weights.float())
        curvature = ((p - p * p) * self.rows).sum(3, keepdim=True)
        return gradient, (curvature * self.spread + self.penalty).clamp_min(TINY)

    def objective(self, weights: Tensor, logits: Tensor) -> Tensor:
        """Mean loss and penalty, (f, q, 1, 1)."""
        if self.multinomial:
            shifted = logits if self.absent is None else logits + self.absent.to(logits)
            loss = shifted.logsumexp(2, keepdim=True) - (self.shown * logits).sum(2, keepdim=True)
        else:
            loss = torch.nn.functional.softplus((self.hidden - self.shown) * logits)
        return _sum(loss * self.rows) + _sum(self.penalty * weights.float().square()) / 2

    def residual(self, logits: Tensor, p: Tensor) -> Tensor:
        """p - shown, of what is shown as minus the probability of all else: p near 1 has lost its digits."""
        if not self.multinomial:
            sign = self.hidden - self.shown
            return sign * (sign * logits).sigmoid()
        others = p * self.hidden
        return torch.addcmul(others, self.shown, others.sum(2, keepdim=True), value=-1)

    def length(self, weights: Tensor, direction: Tensor, logits: Tensor, along: Tensor) -> Tensor:
        """Step (f, q, 1, 1) along a direction: one Newton step from the length 1 that L-BFGS proposes."""
        p = self.probabilities(logits.float() + along)
        pulled = self.penalty * direction
        bent = p * along
        slope = _sum(pulled * (weights.float() + direction)) + _sum((p - self.shown) * self.rows * along)
        curve = _sum(pulled * direction)
        if self.multinomial:
            curve += _sum(bent * self.rows * along) - _sum(bent.sum(2, keepdim=True).square() * self.rows)
        else:
            curve += _sum(bent * (1 - p) * self.rows * along)
        newton = 1 - slope / curve
        length = torch.where(newton > 0, newton, torch.where(slope < 0, 2.0, 0.5))
        return torch.minimum(length, STRIDE / along.abs().amax((2, 3), keepdim=True))


class _Search:
    """L-BFGS over all problems at once; a problem leaves when it is solved on every design."""

    def __init__(self, problem: _Problem, start: Tensor) -> None:
        self.problem = problem
        designs, count = problem.shown.shape[:2]
        at = problem.spread.device
        self.weights = start.double()
        self.gap = torch.full((designs, count), torch.inf, dtype=torch.float64, device=at)
        self.gradient = self.gap.clone()
        self._active = torch.arange(count, device=at)
        logits = problem.products.logits(start.float())
        nothing = torch.zeros_like(self.weights), torch.zeros_like(logits)
        helps = problem.objective(self.weights, logits) <= problem.objective(*nothing)  # not so of what is no number
        self._now, self._logits = (torch.where(helps, x, 0) for x in (self.weights, logits))
        self._slope, self._diagonal = problem.slopes(self._now, self._logits)
        self._memory: list[tuple[Tensor, Tensor, Tensor]] = []

    def note(self, last: bool) -> bool:
        """Enter what has just been solved, or on the last call what is left; tell whether to go on."""
        gap = self._gap()
        unsolved = self.gap[:, self._active] > TOLERANCE
        done = unsolved & ((gap <= TOLERANCE) | last)
        if done.any():
            new = (self._now, gap, self._slope.abs().amax((2, 3)).double())
            for kept, found in zip((self.weights, self.gap, self.gradient), new, strict=True):
                mask = done.view(*done.shape, *[1] * (found.ndim - 2))
                kept[:, self._active] = torch.where(mask, found, kept[:, self._active])
            self._keep((self.gap[:, self._active] > TOLERANCE).any(0))
        return not last and len(self._active) > 0

    def advance(self) -> None:
        """One step of every problem that is left."""
        direction = -self._inverse_hessian()
        along = self.problem.products.logits(direction)
        length = self.problem.length(self._now, direction, self._logits, along)
        step, before = length * direction, self._slope
        self._now = self._now + step
        self._logits = self._logits + length * along
        self._slope, self._diagonal = self.problem.slopes(self._now, self._logits)
        change = self._slope - before
        curvature = _sum(step * change)
        lost = curvature <= NOISE * _sum(change * change / self._diagonal)  # a step of rounding errors teaches nothing
        self._memory = [*self._memory[1 - MEMORY :], (step, change, curvature.masked_fill(lost, torch.inf))]

    def afresh(self) -> None:
        """Take the logits from the weights, for the rounding of the steps adds up."""
        self._logits = self.problem.products.logits(self._now.float())
        self._slope, self._diagonal = self.problem.slopes(self._now, self._logits)

    def _gap(self) -> Tensor:
        squares, ridge = self._slope.square(), self.problem.ridge
        above = _sum(squares[..., :-1]) / ridge + _sum(squares[..., -1:] / self._diagonal[..., -1:])
        objective = self.problem.objective(self._now, self._logits)
        return (above / 2 / objective.clamp_min(TINY))[..., 0, 0].double()

    def _inverse_hessian(self) -> Tensor:
        """The two-loop recursion, its start the inverse diagonal scaled to the latest step."""
        q, used = self._slope, []
        for step, change, curvature in reversed(self._memory):
            alpha = _sum(step * q) / curvature
            q = q - alpha * change
            used.append(alpha)
        r = q / self._diagonal
        if self._memory:
            _, change, curvature = self._memory[-1]
            scale = curvature / _sum(change * change / self._diagonal)
            r = r * torch.where(scale.isfinite(), scale, 1)
        for (step, change, curvature), alpha in zip(self._memory, reversed(used), strict=True):
            r = r + step * (alpha - _sum(change * r) / curvature)
        return r

    def _keep(self, going: Tensor) -> None:
        """Go on with some of the problems."""
        if going.all():
            return
        self._active, self._now, self._logits = self._active[going], self._now[:, going], self._logits[:, going]
        self._slope, self._diagonal = self._slope[:, going], self._diagonal[:, going]
        self._memory = [(s[:, going], y[:, going], c[:, going]) for s, y, c in self._memory]
        self.problem.keep(going)


def _sum(values: Tensor) -> Tensor:
    """Over classes and what follows them; (f, q, 1, 1)."""
    return values.sum((2, 3), keepdim=True)
