"""A backbone: an ordered run of named stages, and the head that turns the last into the network's output."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from torch import Tensor, nn

from probe.backbones.network_spec import SCRATCH, NetworkSpec
from probe.backbones.stages import Stage
from probe.backbones.state_dicts import hash_tensors
from probe.backbones.taps import Tap
from probe.base.errors import ProbeError
from probe.base.lookup import find_index


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an image becomes the network's input; sizes in pixels, mean and std for values in [0, 1].

    `crop`: "squash" resizes the whole image to a square, "center" resizes the shorter side and
    cuts the middle out.
    """

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop: str = "squash"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a backbone came from: all that is needed to build it again."""

    arch: str
    weights: str
    seed: int
    level: str
    preprocessing: Preprocessing
    modules: tuple[str, ...] = ()

    def from_scratch(self, seed: int = 0) -> NetworkSpec:
        """The same network with weights drawn from a seed."""
        sizes = self.preprocessing
        return NetworkSpec(
            arch=self.arch, weights=SCRATCH, seed=seed, level=self.level, image_size=sizes.image_size,
            crop=sizes.crop, modules=self.modules,
        )  # fmt: skip


class Backbone(nn.Module):
    """A network as stages. `net(images)` is its output, `net.walk(images)` its taps, `net.cut(tap)` a shorter one.

    It is built in eval mode, and only training switches that: in train mode a pass changes BatchNorm's buffers.
    """

    def __init__(self, stages: Sequence[Stage], head: Stage | None, origin: Origin) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.head = head
        self.origin = origin
        self.training = self.stages.training = any(part.training for part in (*stages, head) if part is not None)

    @property
    def taps(self) -> tuple[str, ...]:
        """Names of the stages, bottom to top."""
        return tuple(stage.name for stage in self._stages())

    def stage(self, tap: str | int) -> Stage:
        """The stage that ends at a tap, given by name or by index from either end."""
        return self._stages()[find_index("tap", tap, self.taps)]

    def walk(self, images: Tensor) -> Iterator[tuple[Stage, Tensor]]:
        """Run the stages in turn on images (n, c, h, w) and yield each with its output."""
        self._check(images)
        x = images
        for stage in self._stages():
            x = stage(x)
            yield stage, x

    def forward(self, images: Tensor) -> Tensor:
        self._check(images)
        x = images
        for stage in (*self.stages, *filter(None, [self.head])):
            x = stage(x)
        return x

    def cut(self, tap: str | int) -> Self:
        """The network up to and including a tap; shares its parameters with this one and holds no others."""
        return self.split(tap)[0]

    def split(self, tap: str | int) -> tuple[Self, Self]:
        """The parts before and after a cut: running one and then the other is running the whole."""
        end = find_index("tap", tap, self.taps) + 1
        stages = self._stages()
        return type(self)(stages[:end], None, self.origin), type(self)(stages[end:], self.head, self.origin)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image, without the head."""
        return sum(stage.macs for stage in self._stages())

    def tap(self, tap: str | int) -> Tap:
        """What is known of a tap, given by name or by index from either end."""
        return self.table()[find_index("tap", tap, self.taps)]

    def table(self) -> list[Tap]:
        """What is known of every tap, bottom to top."""
        table: list[Tap] = []
        seen: dict[int, int] = {}
        macs = 0
        for index, stage in enumerate(self._stages()):
            seen |= {id(p): p.numel() for p in stage.parameters()}
            macs += stage.macs
            tap = Tap(
                name=stage.name, index=index, depth=(index + 1) / len(self.stages), layout=stage.layout,
                shape=stage.shape, params=sum(seen.values()), macs=macs,
            )  # fmt: skip
            table.append(tap)
        return table

    def weights(self) -> dict[str, Tensor]:
        """Every parameter and stored buffer of the stages, under their original names."""
        return {name: tensor for stage in self._stages() for name, tensor in stage.state_dict().items()}

    def weights_hash(self) -> str:
        """SHA-256 of the weights."""
        return hash_tensors(self.weights())

    def describe(self) -> dict[str, Any]:
        """The origin as plain data."""
        return asdict(self.origin)

    def _stages(self) -> list[Stage]:
        return [stage for stage in self.stages if isinstance(stage, Stage)]

    def _check(self, images: Tensor) -> None:
        first = self._stages()[0] if len(self.stages) else self.head
        if first is not None and tuple(images.shape[1:]) != first.input_shape:
            raise ProbeError(
                f"{self.origin.arch} was built for inputs of shape (n, {', '.join(map(str, first.input_shape))}), "
                f"not {tuple(images.shape)}; build it with image_size for another size"
            )
