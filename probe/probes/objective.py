"""The objective of regularised logistic regression, of many problems at once: value, gradient, course along a line.

Products and logits are float32, a third of the cost of float64. Logits are kept less that of the class shown: the
error of a loss, of a residual and of a slope is then relative to it, and shrinks with it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from probe.probes.designs import Products

STRIDE = 100.0  # largest change of a logit in one step; where all is saturated, curvature does not tell how far to go
REACH = 10.0  # largest step of an intercept in logits; where all is saturated, its curvature is next to nothing
TRIES = 30  # lengths tried along a direction
NEVER = 1e30  # logits; what is this far below has no probability
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


class Problem:
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

    def above(self, logits: Tensor) -> Tensor:
        """Logits less that of the class shown; of a binomial problem the logit of the answer that is not shown."""
        if self.multinomial:
            return logits - _over_classes(self.shown * logits)
        return (self.hidden - self.shown) * logits

    def probabilities(self, above: Tensor) -> Tensor:
        """Of the classes; of a binomial problem, of the answer that is not shown."""
        return self._present(above).softmax(2) if self.multinomial else above.sigmoid()

    def slopes(self, weights: Tensor, above: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient of the mean objective, and the diagonal that stands for its Hessian; (f, q, k, r + 1) both."""
        p = self.probabilities(above)
        gradient = self.products.weighted_sums(self._residual(p) * self.rows) + self.penalty * weights.float()
        curvature = ((p - p * p) * self.rows).sum(3, keepdim=True)
        curvature = torch.maximum(curvature, gradient[..., -1:].abs() / REACH)
        return gradient, (curvature * self.spread + self.penalty).clamp_min(TINY)

    def objective(self, weights: Tensor, above: Tensor) -> Tensor:
        """Mean loss and penalty, (f, q, 1, 1)."""
        if self.multinomial:
            above = (self._present(above) - NEVER * self.shown).logsumexp(2, keepdim=True)
        loss = torch.nn.functional.softplus(above)
        return summed(loss * self.rows) + summed(self.penalty * weights.float().square()) / 2

    def _present(self, above: Tensor) -> Tensor:
        """Minus infinity for a class that a design lacks."""
        return above if self.absent is None else above + self.absent.to(above)

    def _residual(self, p: Tensor) -> Tensor:
        """p - shown, of what is shown as minus the probability of all else: p near 1 has lost its digits."""
        if not self.multinomial:
            return (self.hidden - self.shown) * p
        others = p * self.hidden
        return others - self.shown * _over_classes(others)


class Line:
    """The objective of every problem along its direction: a convex function of the length of the step, (f, q, 1, 1)."""

    def __init__(self, problem: Problem, weights: Tensor, above: Tensor, direction: Tensor, along: Tensor) -> None:
        self.problem, self.above, self.along = problem, above, along
        penalised = problem.penalty * direction
        self.slope, self.curve = summed(penalised * weights.float()), summed(penalised * direction)  # of the penalty
        self.longest = STRIDE / along.abs().amax((2, 3), keepdim=True).clamp_min(TINY)

    def derivatives(self, length: Tensor) -> tuple[Tensor, Tensor]:
        """First and second: of a row's loss the mean and the variance of what the logits of its classes gain."""
        rows = self.problem.rows
        gains = self.problem.probabilities(self.above + length * self.along) * self.along
        mean = _over_classes(gains)
        slope = summed(mean * rows) + self.slope + length * self.curve
        return slope, summed(gains * self.along * rows) - summed(mean * mean * rows) + self.curve

    def guess(self) -> Tensor:
        """One Newton step from the length 1 that L-BFGS proposes."""
        one = self.longest.clamp_max(1)
        slope, curve = self.derivatives(one)
        newton = one - slope / curve
        return torch.minimum(torch.where(newton > 0, newton, one * torch.where(slope < 0, 2.0, 0.5)), self.longest)

    def search(self, length: Tensor, enough: Tensor) -> Tensor:
        """Newton's method for the length where the slope is zero, between lengths known to be too short and too long.

        It ends for a problem where the slope is at most `enough`; where none is found, at a length that is too short.
        """
        length = torch.where(length > 0, length, self.longest.clamp_max(1))  # not so of what is no number
        low, high = torch.zeros_like(length), torch.full_like(length, torch.inf)
        for _ in range(TRIES):
            slope, curve = self.derivatives(length)
            wrong = ~((slope.abs() <= enough) | ((slope < 0) & (length >= self.longest)))  # so of what is no number
            if not wrong.any():
                return length
            low, high = torch.where(slope < 0, length, low), torch.where(slope < 0, high, length)
            newton = length - slope / curve
            beyond = torch.where(high.isfinite(), low + (high - low) / 10, 10 * low)
            newton = torch.where((newton > low) & (newton < torch.minimum(high, 10 * length)), newton, beyond)
            length = torch.where(wrong, torch.minimum(newton, self.longest), length)
        return torch.where(wrong, low, length)


def _over_classes(values: Tensor) -> Tensor:
    """Sum over the classes, (f, q, 1, n); a product with ones takes a third of the time of `sum` over few."""
    return values.new_ones(1, values.shape[2]) @ values


def summed(values: Tensor) -> Tensor:
    """Over classes and what follows them; (f, q, 1, 1)."""
    return values.sum((2, 3), keepdim=True)
