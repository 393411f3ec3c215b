"""L2-regularised logistic regression to scikit-learn's objective: all strengths x labels x designs as one problem.

For each strength C: minimise  C sum_i s_i loss(y_i, x_i W + b) + |W|^2 / 2,  with the multinomial loss
over k classes or the binomial loss of one vector; b is not penalised, s_i are the weights of the rows.

If every row had the mean curvature c = mean p (1 - p), the Hessian of the mean loss would be diagonal in
the eigenbasis of the features: c e_j + 1 / (C sum s). That diagonal preconditions a batched L-BFGS in which
every problem is one slice of a tensor. Logits are linear in the weights, so a search along a direction
needs no further product.

The length of a step is found by one Newton step from the length 1 that L-BFGS proposes. This can land anywhere if all
rows are saturated at 1. If the objective is then left too steep, the length is searched for. If the objective rises
nevertheless, the step is undone.

Boehning 1992 (Ann. Inst. Statist. Math. 44) for the fixed bound 1/2 in place of c, which takes about
six times the iterations; Nocedal and Wright 2006, algorithm 7.4.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from probe.probes.designs import Products
from probe.probes.objective import TINY, Line, Problem, Targets, summed

MEMORY = 2  # pairs of steps and gradient changes kept; more of them save few iterations and cost more each
TOLERANCE = 1e-8  # gap to the optimum, as a share of the objective, at which a problem counts as solved
LIMIT = 5000  # iterations
EVERY = 4  # iterations between looks at the gap
AFRESH = 200  # iterations after which the logits, kept up by steps, are taken from the weights again
ENOUGH = 0.9  # share of its first slope that the objective may have along a direction at the end of a step
LEAST = 0.01  # the same where the objective rose nevertheless
RISE = 1e-3  # share of the objective by which it may rise between two looks: rounding
NOISE = 1e-6  # curvature along a step, as a share of the expected, below which it is rounding


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
    search = _Search(Problem(products, targets, strengths), start)
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


class _Search:
    """L-BFGS over all problems at once; a problem leaves when it is solved on every design."""

    def __init__(self, problem: Problem, start: Tensor) -> None:
        self.problem = problem
        designs, count = problem.shown.shape[:2]
        at = problem.spread.device
        self.weights = start.double()
        self.gap = torch.full((designs, count), torch.inf, dtype=torch.float64, device=at)
        self.gradient = self.gap.clone()
        self._active = torch.arange(count, device=at)
        logits = problem.above(problem.products.logits(start.float()))
        nothing = torch.zeros_like(self.weights), torch.zeros_like(logits)
        helps = problem.objective(self.weights, logits) <= problem.objective(*nothing)  # not so of what is no number
        self._now, self._above = (torch.where(helps, x, 0) for x in (self.weights, logits))
        self._slope, self._diagonal = problem.slopes(self._now, self._above)
        self._memory: list[tuple[Tensor, Tensor, Tensor]] = []
        self._enough = torch.full_like(helps, ENOUGH, dtype=torch.float32)
        self._last = self._now, torch.full_like(self._enough, torch.inf)

    def note(self, last: bool) -> bool:
        """Enter what has just been solved, or on the last call what is left; tell whether to go on."""
        self._go_back()
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
        start = self._now, self._above, self._slope
        direction, falls = self._direction()
        along = self.problem.above(self.problem.products.logits(direction))
        line = Line(self.problem, self._now, self._above, direction, along)
        length = line.guess()
        self._move(start, direction, along, length)
        left = summed(direction * self._slope)
        wrong = ~((left.abs() <= self._enough * falls) | ((left < 0) & (length >= line.longest)))
        if wrong.any():
            length = torch.where(wrong, line.search(length, self._enough * falls), length)
            self._move(start, direction, along, length)
            left = summed(direction * self._slope)
        self._remember(length * direction, self._slope - start[2], length * (left + falls))

    def _direction(self) -> tuple[Tensor, Tensor]:
        """The direction of the next step, and how steeply the objective falls along it."""
        direction = -self._inverse_hessian()
        falls = -summed(direction * self._slope)
        if not (falls > 0).all():
            plain = -self._slope / self._diagonal
            direction = torch.where(falls > 0, direction, plain)
            falls = torch.where(falls > 0, falls, -summed(plain * self._slope))
        return direction, falls

    def _move(self, start: tuple[Tensor, ...], direction: Tensor, along: Tensor, length: Tensor) -> None:
        self._now, self._above = start[0] + length * direction, start[1] + length * along
        self._slope, self._diagonal = self.problem.slopes(self._now, self._above)

    def _remember(self, step: Tensor, change: Tensor, curvature: Tensor) -> None:
        """Keep the latest steps, the changes of the gradient, and the products of the two."""
        lost = ~(
            curvature > NOISE * summed(change * change / self._diagonal)
        )  # a step of rounding errors teaches nothing
        self._memory = [*self._memory[1 - MEMORY :], (step, change, curvature.masked_fill(lost, torch.inf))]

    def afresh(self) -> None:
        """Take the logits from the weights, for the rounding of the steps adds up."""
        self._above = self.problem.above(self.problem.products.logits(self._now.float()))
        self._slope, self._diagonal = self.problem.slopes(self._now, self._above)

    def _go_back(self) -> None:
        """Where the objective rose since the last look, or is no number, go on from there with shorter steps."""
        weights, before = self._last
        objective = self.problem.objective(self._now, self._above)
        rose = ~(objective <= before * (1 + RISE))
        if rose.any():
            self._now = torch.where(rose, weights, self._now)
            self._enough = torch.where(rose, (self._enough / 10).clamp_min(LEAST), self._enough)
            self._memory = [(torch.where(rose, 0, s), torch.where(rose, 0, y), c) for s, y, c in self._memory]
            self.afresh()
            objective = torch.where(rose, before, objective)
        self._last = self._now, objective

    def _gap(self) -> Tensor:
        squares, ridge = self._slope.square(), self.problem.ridge
        above = summed(squares[..., :-1]) / ridge + summed(squares[..., -1:] / self._diagonal[..., -1:])
        return (above / 2 / self._last[1].clamp_min(TINY))[..., 0, 0].double()

    def _inverse_hessian(self) -> Tensor:
        """The two-loop recursion, its start the inverse diagonal scaled to the latest step."""
        q, used = self._slope, []
        for step, change, curvature in reversed(self._memory):
            alpha = summed(step * q) / curvature
            q = q - alpha * change
            used.append(alpha)
        r = q / self._diagonal
        if self._memory:
            _, change, curvature = self._memory[-1]
            scale = curvature / summed(change * change / self._diagonal)
            r = r * torch.where(scale.isfinite(), scale, 1)
        for (step, change, curvature), alpha in zip(self._memory, reversed(used), strict=True):
            r = r + step * (alpha - summed(change * r) / curvature)
        return r

    def _keep(self, going: Tensor) -> None:
        """Go on with some of the problems."""
        if going.all():
            return
        self._active, self._now, self._above = self._active[going], self._now[:, going], self._above[:, going]
        self._slope, self._diagonal = self._slope[:, going], self._diagonal[:, going]
        self._enough, self._last = self._enough[:, going], (self._last[0][:, going], self._last[1][:, going])
        self._memory = [(s[:, going], y[:, going], c[:, going]) for s, y, c in self._memory]
        self.problem.keep(going)
