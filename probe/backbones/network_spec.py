"""A network as it is asked for: plain values, its identity before it is built, and the network itself.

Nothing here loads torch.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from probe.base.files import hash_file
from probe.base.lookup import check_seed, is_file
from probe.base.memo import Memo
from probe.base.runtime import versions
from probe.settings.networks import Network

if TYPE_CHECKING:
    from probe.backbones.network import Backbone

SCRATCH, HUB = "scratch", "hf-hub:"


@dataclass(frozen=True, kw_only=True)
class NetworkSpec(Network):
    """An architecture, its weights, and how it is built and read; see `backbone` for what each may be.

    The seed draws scratch weights and nothing else of a network, so with all other weights it is 0.
    """

    arch: str
    weights: str = "pretrained"
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seed(self.seed)
        object.__setattr__(self, "weights", str(self.weights))
        object.__setattr__(self, "modules", tuple(self.modules))
        if self.weights != SCRATCH:
            object.__setattr__(self, "seed", 0)

    @classmethod
    def of(cls, network: Network, arch: str, weights: str | Path = "pretrained", seed: int = 0) -> Self:
        """The spec that settings and the other options of a command come to."""
        return cls(arch=arch, weights=str(weights), seed=seed, **asdict(network))

    def sized(self, image_size: int | None) -> Self:
        """The same network for images of a size in pixels, unless it was asked for at one of its own.

        A data set may call for a size, and may not; then it is what the weights were trained with.
        """
        return replace(self, image_size=self.image_size or image_size)

    def identity(self, hash_file: Callable[[Path], str] = hash_file) -> dict[str, Any] | None:
        """What decides the network's numbers, as plain data and without building it.

        `weights` are a seed or the hash of a file's content. None when they are not on this machine, and for a network
        of the hub, whose configuration may change under the same name.
        """
        if self.arch.startswith(HUB):
            return None
        if self.weights == SCRATCH:
            content = f"seed {self.seed}"
        else:
            file = Path(self.weights) if is_file(self.weights) else self._published_file()
            if file is None:
                return None
            content = hash_file(file)
        settings = {name: value for name, value in asdict(self).items() if name != "seed"}
        return {**settings, "weights": content, "versions": versions()}

    def build(self) -> "Backbone":
        """The network, in eval mode. Raises ProbeError as `backbone` does."""
        from probe.backbones.building import build

        return build(self)

    def _published_file(self) -> Path | None:
        from probe.backbones.building import published_tag
        from probe.backbones.catalog import find_source

        source = find_source(self.arch)
        return source.published(published_tag(source, self.weights) or "").file


class Networks:
    """Networks that are built once and handed out again; the `most` last asked for are kept.

    Whoever is given one leaves it as it is, on the CPU and in eval mode.
    """

    def __init__(self, most: int = 1) -> None:
        self._built: Memo[Backbone] = Memo(most)

    def __call__(self, spec: NetworkSpec) -> "Backbone":
        """The network of a spec. Raises ProbeError as `backbone` does."""
        return self._built(spec, spec.build)
