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

    level: str = option("block", "Where the taps are: after every layer, block or stage.", choices=LEVELS)
    image_size: int | None = option(
        None, "Side of the network's input in pixels; by default the size of the data or of the weights."
    )
    crop: str = option(
        "squash",
        "How images become square: squash resizes the whole image, center cuts out the middle.",
        choices=("squash", "center"),
    )
    modules: tuple[str, ...] = option(
        (), "For a network that cannot be traced: its modules in the order in which they run, the head last."
    )

    def __post_init__(self) -> None:
        if self.image_size is not None and self.image_size < 1:
            raise ProbeError(f"image_size is {self.image_size}; it must be at least 1 pixel")
        check_choices(self)


@dataclass(frozen=True, kw_only=True)
class Batches:
    """How images are put through a network."""

    batch_size: int = option(64, "Images per forward pass.", decides=False, group="Computation")
    num_workers: int = option(2, "Number of threads that read and resize images.", decides=False, group="Computation")
    device: str = option("auto", "Device: auto, cpu, cuda, cuda:N or mps.", compared=False, group="Computation")

    def __post_init__(self) -> None:
        for name in ("batch_size", "num_workers"):
            if getattr(self, name) < 1:
                raise ProbeError(f"{name} is {getattr(self, name)}; it must be at least 1")
        check_choices(self)


@dataclass(frozen=True, kw_only=True)
class Extraction(Batches):
    """How features are read off a network."""

    pool: str = option(
        "mean",
        "Pooling: how a feature map or a sequence of tokens becomes one vector.",
        choices=POOLS,
    )
    dtype: str = option(
        "auto",
        "Precision of the forward pass. auto is float32, or bfloat16 if compiled for a CPU with fast bfloat16.",
        group="Computation",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    compile: str = option(
        "auto",
        "Compile the network to one graph; auto does so on a CPU for long jobs.",
        group="Computation",
        choices=("auto", "on", "off"),
    )
    channels_last: bool = option(
        True, "Store feature maps channels-last in memory, which is faster on most devices.", group="Computation"
    )


@dataclass(frozen=True, kw_only=True)
class Head:
    """What turns the tensor at a cut into one logit per class."""

    head: str = option(
        "gap+linear",
        "Layers after the cut. gap is the mean over positions, flatten takes all positions, cls the class token; "
        "mlp is the mean and one hidden layer.",
        choices=HEADS,
    )
    hidden: int = option(256, "Number of hidden units of the mlp head.")
    activation: str = option("relu", "Activation function of the mlp head.", choices=ACTIVATIONS)
    dropout: float = option(0.0, "Dropout probability of the head's inputs in training.")

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise ProbeError(f"hidden is {self.hidden}; it must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ProbeError(f"dropout is {self.dropout}; it must be at least 0 and below 1")
        check_choices(self)
