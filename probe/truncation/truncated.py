"""A truncated network: the stages up to a cut, and a head for classes of one's own."""

import copy
from collections.abc import Sequence

from torch import Tensor, nn

from probe.backbones import Backbone, Preprocessing
from probe.settings import Head
from probe.tasks import Task, as_task
from probe.truncation.heads import make_head


class Truncated(nn.Module):
    """`trunk`, a backbone that ends at a cut, then `head`: from preprocessed images (n, c, h, w) to logits (n, k).

    There is one logit per class, also when there are two; `task` says what they mean.
    `source_hash` is the trunk's `weights_hash` at the time it was cut, before any training. A model is made in eval
    mode.
    """

    def __init__(self, trunk: Backbone, head: nn.Module, task: Task, settings: Head, source_hash: str) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head
        self.task, self.settings, self.source_hash = task, settings, source_hash
        self.eval()

    @property
    def classes(self) -> tuple[str, ...]:
        """What its logits are of."""
        return self.task.names

    @property
    def tap(self) -> str:
        """Where the network was cut."""
        return self.trunk.taps[-1]

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes the input."""
        return self.trunk.origin.preprocessing

    @property
    def halved(self) -> int:
        """How many stages, from the cut down, are of half the architecture's width."""
        return sum(bool(stage.halved) for stage in self.trunk.stages)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        layers = [layer for layer in self.head.modules() if isinstance(layer, nn.Linear)]
        return self.trunk.macs + sum(layer.weight.numel() for layer in layers)

    @property
    def params(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.trunk(images))
        return logits

    def weights(self) -> dict[str, Tensor]:
        """Every parameter and stored buffer: `trunk.` or `head.` before its own name."""
        parts = {"trunk": self.trunk.weights(), "head": self.head.state_dict()}
        return {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}


def truncate(
    net: Backbone,
    tap: str | int,
    task: Task | Sequence[str] | int,
    *,
    head: str = "gap+linear",
    hidden: int = 256,
    activation: str = "relu",
    dropout: float = 0.0,
    seed: int = 0,
) -> Truncated:
    """Cut a network at a tap and put a head for a task on it, such as `data.task`; names, or how many, are of classes.

    The trunk is a copy: training it leaves `net` as it is. `head`: "gap+linear", "flatten+linear",
    "cls+linear" or "mlp" (with `hidden` units and `activation` "relu" or "gelu"), `dropout` in front;
    drawn from `seed`. The model is in eval mode; neither buffers nor the global random state change.

    Raises ProbeError for an unknown tap, fewer than two classes (of several labels, none), and a
    head that does not fit there.
    """
    settings = Head(head=head, hidden=hidden, activation=activation, dropout=dropout)
    task = as_task(task)
    task.check_names()
    trunk = net.cut(tap)
    layers = make_head(trunk.tap(-1), task.outputs, settings, seed)
    return Truncated(copy.deepcopy(trunk), layers, task, settings, trunk.weights_hash())
