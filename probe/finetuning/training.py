"""The one training loop: steps, epochs, the score on validation, the epoch that is kept."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from tqdm import tqdm

from probe.base.array_types import Labels
from probe.base.errors import ProbeError
from probe.data import Dataset
from probe.finetuning.applied_strategy import (
    Pull,
    make_optimizer,
    param_groups,
    relative_norms,
    relative_rates,
    set_modes,
    set_rates,
)
from probe.finetuning.batches import Indices, cut_steps, draw_epoch
from probe.finetuning.devices import add_up, drawing_from, share_statistics
from probe.finetuning.initialisation import score_of
from probe.finetuning.inputs import Source
from probe.finetuning.schedule import factor, is_over
from probe.finetuning.strategies import Strategy
from probe.records.metric_facts import find_metric
from probe.settings import Training
from probe.tasks import Task
from probe.truncation import Truncated

PROBED = 5  # batches that relative gradient norms are averaged over


class Run:
    """One model under one strategy; it sees the images of train and val, and no others.

    Every random number of an epoch comes from the seed, the number of the epoch and that of the process, so a
    run that goes on from a checkpoint ends with the same weights, bit by bit, as one that was never stopped.
    """

    def __init__(
        self,
        model: Truncated,
        strategy: Strategy,
        training: Training,
        data: Dataset,
        source: Source,
        fabric: Fabric,
        seed: int,
    ) -> None:
        """`model` is on its device, and is trained itself; `source` gives what its stage `source.first` takes."""
        self.model, self.strategy, self.training = model, strategy, training
        self.fabric, self.source, self.seed = fabric, source, seed
        self.train, self.val = (np.flatnonzero(data.splits == split) for split in ("train", "val"))
        self.labels, self.classes = data.labels, data.task.row_classes(data.labels)
        self.targets = torch.from_numpy(data.labels).to(fabric.device)
        self.class_weights = _class_weights(model.task, data.labels[self.train], training, fabric.device)
        self.steps = cut_steps(len(self.train), training.batch_size, fabric.world_size * training.accumulate)
        self.optimizer = make_optimizer(param_groups(model, strategy, training), training)
        self.stepper: Any = fabric.setup_optimizers(self.optimizer)  # scales gradients of float16 back
        self.pull = Pull(model, strategy, _copy(model)) if strategy.pulled else None
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Tensor] = {}

    def go(self, keep: Callable[[dict[str, Any]], None], kept: dict[str, Any] | None = None) -> None:
        """Train, and leave the model at its best epoch; 0 is the start. `keep` is given all that `kept` goes on from.

        Raises ProbeError when the loss is no longer a number.
        """
        if kept is None:
            self._note(0, float("nan"), 0.0, time.perf_counter())
        else:
            self._restore(kept)
        total = self.training.epochs
        bar = tqdm(total=total, initial=len(self.history) - 1, unit="epoch", disable=self._silent(), leave=False)
        with bar:
            while not self._over():
                epoch, start = len(self.history), time.perf_counter()
                loss, lr = self._train(epoch)
                self._note(epoch, loss, lr, start)
                keep(self._state())
                bar.set_postfix({self._scored: f"{self.history[-1][self._scored]:.4f}"})
                bar.update()
        self.model.load_state_dict(self.best)

    @property
    def trainable(self) -> int:
        """How many parameters are ever trained."""
        return sum(p.numel() for group in self.optimizer.param_groups for p in group["params"])

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights are kept; of equals the first."""
        return int(np.argmax(self._scores()))

    def logits(self, rows: Indices) -> Tensor:
        """(n, k) of some rows, in eval mode, on the CPU."""
        size, world, rank = self.training.batch_size, self.fabric.world_size, self.fabric.global_rank
        chunks = [np.arange(at, min(at + size, len(rows))) for at in range(0, len(rows), size)][rank::world]
        logits = torch.zeros(len(rows), self.model.task.outputs, device=self.fabric.device)
        self.model.eval()
        with torch.no_grad():
            for chunk, x in zip(chunks, self.source.batches(rows, chunks), strict=True):
                logits[torch.from_numpy(chunk).to(logits.device)] = self._forward(x).float()
        add_up(self.fabric, [logits])
        return logits.cpu()

    def _forward(self, x: Tensor) -> Tensor:
        with self.fabric.autocast():
            for stage in self.model.trunk.stages[self.source.first :]:
                x = stage(x)
            logits: Tensor = self.model.head(x)
        return logits

    def _train(self, epoch: int) -> tuple[float, float]:
        """One pass over the training images: mean loss of its steps, and the last learning rate."""
        order = draw_epoch(self.train, self.classes, self.training.sampling, np.random.default_rng((self.seed, epoch)))
        set_modes(self.model, self.strategy, epoch)
        if self.strategy.adaptive:
            self._adapt(order, epoch)
        losses, lr = [], 0.0
        with self._drawing(epoch):
            inputs = self.source.batches(order, self._mine(self.steps), (self.seed, epoch))
            for index, step in enumerate(self.steps):
                number = (epoch - 1) * len(self.steps) + index
                lr = self.training.lr * factor(self.training, number, len(self.steps), self._losses()[1:])
                set_rates(self.optimizer, lr)
                losses.append(self._gradients(order, step, inputs))
                self._check(losses[-1], f"step {number + 1} (epoch {epoch})", lr)
                if self.training.grad_clip:
                    most = self.training.grad_clip
                    self.fabric.clip_gradients(self.model, self.stepper, max_norm=most, error_if_nonfinite=False)
                self.stepper.step()
                self.optimizer.zero_grad()
        share_statistics(self.fabric, self.model)
        return float(np.mean(losses)), lr

    def _gradients(self, order: Indices, step: Sequence[Indices], inputs: Any) -> float:
        """Leave the gradient of a whole step's loss in the parameters; returns the loss."""
        task, weights, smoothing = self.model.task, self.class_weights, self.training.label_smoothing
        mass = task.mass(self._targets(order[np.concatenate(step)]), weights) or 1.0  # no label of it may be known
        total = torch.zeros((), device=self.fabric.device)
        for part in self._mine([step]):
            logits = self._forward(next(inputs))
            loss = task.loss(logits, self._targets(order[part]), weights, smoothing)[0] / mass
            self.fabric.backward(loss)
            total += loss.detach()
        if self.pull is not None:
            penalty = self.pull() / self.fabric.world_size
            self.fabric.backward(penalty)
            total += penalty.detach()
        held = [p.grad for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        add_up(self.fabric, [*held, total])
        return float(total)

    def _adapt(self, order: Indices, epoch: int) -> None:
        """Set every tensor's rate by its gradients in the first batches of the epoch; nothing else changes."""
        before = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        norms = []
        with self._drawing(epoch):
            first = self.steps[:PROBED]
            inputs = self.source.batches(order, self._mine(first), (self.seed, epoch))
            for step in first:
                self._gradients(order, step, inputs)
                norms.append(relative_norms(self.optimizer))
                self.optimizer.zero_grad()
        for group, rate in zip(self.optimizer.param_groups, relative_rates(norms), strict=True):
            group["rate"] = rate
        for name, buffer in self.model.named_buffers():
            buffer.copy_(before[name])

    def _note(self, epoch: int, loss: float, lr: float, start: float) -> None:
        """Score validation, and keep the weights if they are the best so far."""
        logits, labels = self.logits(self.val), torch.from_numpy(self.labels[self.val])
        weights, task = self.class_weights, self.model.task
        loss_held, mass = task.loss(logits, labels, None if weights is None else weights.cpu())
        held = float(loss_held) / mass
        self._check(held, f"the validation after epoch {epoch}", lr)
        metric = self.training.metric
        probabilities = task.prediction(logits).numpy()
        value = find_metric(metric).sign * score_of(task, self.labels[self.val], probabilities, metric)
        seconds = time.perf_counter() - start
        self.history.append(
            {"epoch": epoch, "lr": lr, "train_loss": loss, "val_loss": held, self._scored: value,
             "seconds": seconds}
        )  # fmt: skip
        if self.best_epoch == epoch:
            self.best = _copy(self.model)

    def _check(self, loss: float, where: str, lr: float) -> None:
        if not np.isfinite(loss):
            raise ProbeError(
                f"the loss is {loss} at {where}, with learning rate {lr:.3g}; take a smaller lr, a warm-up "
                "or grad_clip. The checkpoint, if there is one, is of the epoch before"
            )

    @property
    def _scored(self) -> str:
        return f"val_{self.training.metric}"

    def _scores(self) -> list[float]:
        sign = find_metric(self.training.metric).sign
        return [sign * line[self._scored] for line in self.history]

    def _losses(self) -> list[float]:
        return [line["val_loss"] for line in self.history]

    def _over(self) -> bool:
        return is_over(self.training, self._scores(), self._losses(), self.strategy.settled)

    def _state(self) -> dict[str, Any]:
        return {
            "model": _copy(self.model),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.fabric.strategy.precision.state_dict(),
            "history": self.history,
            "best": self.best,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["scaler"])
        self.history, self.best = state["history"], state["best"]

    def _mine(self, steps: Sequence[Sequence[Indices]]) -> list[Indices]:
        """This process's parts of some steps, in order."""
        return [part for step in steps for part in step[self.fabric.global_rank :: self.fabric.world_size]]

    def _targets(self, rows: Indices) -> Tensor:
        return self.targets[torch.from_numpy(rows).to(self.targets.device)]

    def _drawing(self, epoch: int) -> Any:
        entropy = (self.seed, epoch, self.fabric.global_rank)
        return drawing_from(int(np.random.SeedSequence(entropy).generate_state(1)[0]), self.fabric.device)

    def _silent(self) -> bool | None:
        return None if self.fabric.is_global_zero else True


def _class_weights(task: Task, labels: Labels, training: Training, device: torch.device) -> Tensor | None:
    if training.class_weights == "none":
        return None
    return torch.from_numpy(task.balanced_weights(labels)).to(device)


def _copy(model: Truncated) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
