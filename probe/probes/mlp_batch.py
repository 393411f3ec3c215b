"""Networks of one hidden layer side by side: one batched product where a loop would have as many as networks.

A network is `Linear, ReLU, Dropout, Linear`, its loss the mean log loss of a batch, its optimiser AdamW. What one
learns does not depend on its neighbours: initial weights, order of the rows and dropout masks come from three
generators made of the seed alone, which networks of one seed share.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor
from torch.optim.adamw import adamw

from probe.settings import MLPSetting


@dataclass(frozen=True)
class Sample:
    """Rows `x` (n, d), what they show of each output, `shown` (o, n) zeros and ones, and what counts, `weights`.

    Weights are (1, n) for classes that exclude each other, (o, n) for labels.
    """

    x: Tensor
    shown: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Course:
    """Networks that see the same batches: a seed, a training set, and settings of one width and batch size.

    Settings of one dropout are next to each other; these see the same masks.
    """

    train: Sample
    held: Sample | None
    seed: int
    settings: Sequence[MLPSetting]


def generators(seed: int) -> tuple[torch.Generator, torch.Generator, torch.Generator]:
    """Of initial weights, of the order of rows, of dropout masks: drawn on the CPU, whatever the device."""
    first, second, third = (int(state) for state in np.random.SeedSequence(seed).generate_state(3))
    return tuple(torch.Generator().manual_seed(state) for state in (first, second, third))  # type: ignore[return-value]


def layers(weights: Tensor, inputs: int, hidden: int, outputs: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Views of (m, size), by network as `nn.Linear` has them: weight, bias, weight, bias."""
    first, bias, second, shift = weights.split([hidden * inputs, hidden, outputs * hidden, outputs], 1)
    return first.unflatten(1, (hidden, inputs)), bias, second.unflatten(1, (outputs, hidden)), shift


def initial(inputs: int, hidden: int, outputs: int, generator: torch.Generator) -> Tensor:
    """(size,) weights and biases, as `nn.Linear` draws them: uniform, up to the square root of 1 over the inputs."""
    sizes = (hidden * inputs, inputs), (hidden, inputs), (outputs * hidden, hidden), (outputs, hidden)
    return torch.cat([torch.empty(n).uniform_(-(fan**-0.5), fan**-0.5, generator=generator) for n, fan in sizes])


class Batch:
    """Networks in training, side by side; those of one course next to each other."""

    def __init__(self, courses: Sequence[Course], softmax: bool) -> None:
        x, setting = courses[0].train.x, courses[0].settings[0]
        self.softmax, self.size = softmax, setting.batch_size
        self.shape = (x.shape[1], setting.hidden, len(courses[0].train.shown))
        self.courses = [(course, list(course.settings)) for course in courses]
        drawn = {course.seed: generators(course.seed) for course in courses}
        first = {seed: initial(*self.shape, start) for seed, (start, _, _) in drawn.items()}
        self.order, self.masks = ({seed: each[i] for seed, each in drawn.items()} for i in (1, 2))
        self.weights = torch.stack([first[course.seed] for course in courses for _ in course.settings]).to(x.device)
        self.moments = [torch.zeros_like(self.weights) for _ in range(2)]
        self.steps = torch.zeros(len(self.weights), device=x.device)
        self._lay_out()

    def keep(self, stay: Tensor) -> None:
        """Go on with some of the networks."""
        left = iter(stay.tolist())
        self.courses = [(course, [s for s in settings if next(left)]) for course, settings in self.courses]
        self.courses = [(course, settings) for course, settings in self.courses if settings]
        stay = stay.to(self.weights.device)
        self.weights, self.steps = self.weights[stay], self.steps[stay]
        self.moments = [moment[stay] for moment in self.moments]
        self._lay_out()

    def _lay_out(self) -> None:
        """Everything that depends on which networks are here: where they lie, room to work, what steps alike."""
        settings = [setting for _, each in self.courses for setting in each]
        ends = np.cumsum([len(each) for _, each in self.courses])
        self.spans = [slice(int(end) - len(each), int(end)) for end, (_, each) in zip(ends, self.courses, strict=True)]
        self.gradient = torch.zeros_like(self.weights)
        self.views, self.slopes = (layers(flat, *self.shape) for flat in (self.weights, self.gradient))
        self.room = [self.weights.new_empty(len(settings) * self.shape[1] * self.size) for _ in range(2)]
        self.dropout = self.weights.new_tensor([setting.dropout for setting in settings])[:, None, None]
        self.thinned = list(self._thinned())
        tensors = [flat.unbind() for flat in (self.weights, self.gradient, *self.moments, self.steps)]
        alike: dict[tuple[float, float], list[int]] = {}
        for i, setting in enumerate(settings):
            alike.setdefault((setting.learning_rate, setting.weight_decay), []).append(i)
        self.alike = [(pair, [[each[i] for i in at] for each in tensors]) for pair, at in alike.items()]

    def epoch(self) -> None:
        """One pass over the training rows."""
        n = len(self.courses[0][0].train.x)
        here = dict.fromkeys(course.seed for course, _ in self.courses)
        orders = {seed: torch.randperm(n, generator=self.order[seed]).to(self.weights.device) for seed in here}
        for start in range(0, n, self.size):
            blocks = [_rows(course.train, orders[course.seed][start : start + self.size]) for course, _ in self.courses]
            self._step(blocks)

    @torch.no_grad()
    def held_loss(self) -> Tensor:
        """(m,) mean log loss on the held rows, over what counts."""
        samples = [course.held for course, _ in self.courses if course.held is not None]
        total = counted = torch.zeros(len(self.weights), device=self.weights.device)
        for start in range(0, len(samples[0].x), self.size):
            blocks = [_rows(sample, slice(start, start + self.size)) for sample in samples]
            logits = self._logits(self._hidden(blocks))
            shown, weights = self._side_by_side(blocks)
            total = total + (self._losses(logits, shown) * weights).sum((1, 2))
            counted = counted + weights.sum((1, 2))
        return total / counted

    @torch.no_grad()
    def _step(self, blocks: list[Sample]) -> None:
        hidden = self._hidden(blocks)
        self._drop(hidden)
        logits = self._logits(hidden)
        shown, weights = self._side_by_side(blocks)
        weights = weights / weights.sum((1, 2), keepdim=True).clamp_min(1)  # a batch may know no label
        residual = ((logits.softmax(1) if self.softmax else logits.sigmoid()) - shown) * weights
        _, _, second, _ = self.views
        first, bias, slope, shift = self.slopes
        torch.bmm(residual, hidden.mT, out=slope)
        torch.sum(residual, 2, out=shift)
        back = self._room(1, hidden.shape[2])
        torch.bmm(second.mT, residual / (1 - self.dropout), out=back)
        back *= hidden.sign_()  # where a unit was off, or dropped, nothing comes back
        torch.sum(back, 2, out=bias)
        for span, block in zip(self.spans, blocks, strict=True):
            torch.bmm(back[span], block.x.expand(span.stop - span.start, -1, -1), out=first[span])
        self._descend()

    def _room(self, i: int, rows: int) -> Tensor:
        """(m, hidden, rows) to write to, without gaps."""
        m, hidden = len(self.weights), self.shape[1]
        return self.room[i][: m * hidden * rows].view(m, hidden, rows)

    def _hidden(self, blocks: list[Sample]) -> Tensor:
        """(m, hidden, b) what the hidden layer makes of a block of rows per course."""
        first, bias, _, _ = self.views
        hidden = self._room(0, len(blocks[0].x))
        for span, block in zip(self.spans, blocks, strict=True):
            torch.bmm(first[span], block.x.T.contiguous().expand(span.stop - span.start, -1, -1), out=hidden[span])
        hidden += bias[..., None]
        return hidden.relu_()

    def _thinned(self) -> Iterator[tuple[int, float, slice]]:
        """The seed and share of the networks, next to each other, that have dropout."""
        settings = [(course.seed, setting.dropout) for course, each in self.courses for setting in each]
        for (seed, share), alike in groupby(range(len(settings)), key=settings.__getitem__):
            at = list(alike)
            if share:
                yield seed, share, slice(at[0], at[-1] + 1)

    def _drop(self, hidden: Tensor) -> None:
        """Dropout: the networks of a seed lose their units by one draw, each its own share."""
        seeds = dict.fromkeys(seed for seed, _, _ in self.thinned)
        draws = {seed: torch.rand(hidden.shape[1:], generator=self.masks[seed]) for seed in seeds}
        for seed, share, span in self.thinned:
            hidden[span] *= (draws[seed].ge(share).float() / (1 - share)).to(hidden.device)

    def _logits(self, hidden: Tensor) -> Tensor:
        _, _, second, shift = self.views
        return torch.baddbmm(shift[..., None], second, hidden)  # (m, o, b): narrow products are slow the other way

    def _losses(self, logits: Tensor, shown: Tensor) -> Tensor:
        """(m, 1, b) log loss of each row, or (m, o, b) of each label."""
        if self.softmax:
            return -(logits.log_softmax(1) * shown).sum(1, keepdim=True)
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, shown, reduction="none")

    def _side_by_side(self, blocks: list[Sample]) -> Iterator[Tensor]:
        """What is shown and what counts, (m, o, b) and (m, 1 or o, b)."""
        lengths = torch.tensor([span.stop - span.start for span in self.spans], device=self.weights.device)
        for each in ([block.shown for block in blocks], [block.weights for block in blocks]):
            yield torch.stack(each).repeat_interleave(lengths, 0)

    def _descend(self) -> None:
        for (rate, decay), (weights, gradients, means, squares, steps) in self.alike:
            adamw(
                weights, gradients, means, squares, [], steps,
                fused=True, amsgrad=False, maximize=False,
                beta1=0.9, beta2=0.999, eps=1e-8, lr=rate, weight_decay=decay,
            )  # fmt: skip


def _rows(sample: Sample, at: Tensor | slice) -> Sample:
    return Sample(sample.x[at], sample.shown[:, at], sample.weights[:, at])
