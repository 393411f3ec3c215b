"""How networks are built, read and cut."""

from dataclasses import dataclass

from probe.base.errors import ProbeError
from probe.settings.option import check_choices, option

LEVELS = ("layer", "block", "stage")
STEM = "stem"  # the tap below the first block
POOLS = ("mean", "max", "cls", "cls+mean")
HEADS = ("gap+linear", "flatten+linear", "cls+linear", "mlp")
ACTIVATIONS = ("relu", "gelu")
EXPORTS = ("onnx", "torch")


@dataclass(frozen=True, kw_only=True)
class Network:
    """How a network is built and where it is read."""

    level: str = option("block", "Where to read: after every layer, block or stage.", choices=LEVELS)
    image_size: int | None = option(
        None, "Side of the input in pixels; by default what the weights or the data call for."
    )
    crop: str = option(
        "squash", "Fit images by squashing them whole, or by cutting the middle out.", choices=("squash", "center")
    )
    modules: tuple[str, ...] = option(
        (), "For a network that cannot be traced: modules, bottom to top and head last, that run one after the other."
    )

    def __post_init__(self) -> None:
        if self.image_size is not None and self.image_size < 1:
            raise ProbeError(f"image_size is {self.image_size}; it must be at least 1 pixel")
        check_choices(self)


@dataclass(frozen=True, kw_only=True)
class Batches:
    """How images are put through a network."""

    batch_size: int = option(64, "Images per forward pass.", decides=False)
    num_workers: int = option(2, "Threads that read and resize images.", decides=False)
    device: str = option("auto", "auto, cpu, cuda, cuda:N or mps.", compared=False)

    def __post_init__(self) -> None:
        for name in ("batch_size", "num_workers"):
            if getattr(self, name) < 1:
                raise ProbeError(f"{name} is {getattr(self, name)}; it must be at least 1")
        check_choices(self)


@dataclass(frozen=True, kw_only=True)
class Extraction(Batches):
    """How features are read off a network."""

    pool: str = option("mean", "How a map or a run of tokens becomes a vector.", choices=POOLS)
    dtype: str = option(
        "auto",
        "Precision of the forward pass; auto is float32, or bfloat16 when compiled for a CPU that multiplies it.",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    compile: str = option(
        "auto", "One frozen graph; auto compiles for a CPU when the job is long.", choices=("auto", "on", "off")
    )
    channels_last: bool = option(True, "Keep maps channels-last in memory; faster on most devices.")


@dataclass(frozen=True, kw_only=True)
class Head:
    """What turns the tensor at a cut into one logit per class."""

    head: str = option(
        "gap+linear",
        "What follows the cut: a mean over the positions, all of them in a row, or the class token, and a linear "
        "layer; or the mean and one hidden layer.",
        choices=HEADS,
    )
    hidden: int = option(256, "Width of the mlp head's hidden layer.")
    activation: str = option("relu", "Activation of the mlp head's hidden layer.", choices=ACTIVATIONS)
    dropout: float = option(0.0, "Share of the head's inputs dropped in training.")

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise ProbeError(f"hidden is {self.hidden}; it must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ProbeError(f"dropout is {self.dropout}; it must be at least 0 and below 1")
        check_choices(self)
