"""What a run is configured by; one field per option of the command line, whose help and default it states.

Nothing here loads a library, so that `--help` answers at once.
"""

from dataclasses import dataclass, field, fields
from typing import Any

from probe.errors import ProbeError


def option(default: Any, text: str, **extra: Any) -> Any:
    """A field with the help text, and the choices, of the option made from it."""
    return field(default=default, metadata={"help": text, **extra})


def _check_choices(settings: Any) -> None:
    for entry in fields(settings):
        choices, given = entry.metadata.get("choices"), getattr(settings, entry.name)
        if choices and given not in choices:
            raise ProbeError(f"{entry.name} is '{given}'; choose from {', '.join(choices)}")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How images are read: which grey values become black and white, and what becomes of unreadable files.

    Images of 8 bits are taken as they are. What is deeper (16-bit and float pictures, DICOM, NIfTI)
    is scaled linearly from `window` to bytes: `range` is an image's own smallest to largest value,
    `percentile` its own 0.5th to 99.5th, and `LO,HI` are given numbers in the file's units
    (Hounsfield units for CT). `auto` is the window that a DICOM file states, because that is what
    its readers looked at, and otherwise `range`, because that clips nothing. A NIfTI slice has the
    range or percentiles of its volume, so that slices compare.
    """

    window: str = option(
        "auto",
        "Values shown as black and white in images of more than 8 bits: auto (a DICOM file's own window, else range), "
        "range, percentile (0.5 to 99.5), or LO,HI.",
    )
    size: int | None = option(None, "Side of a MedMNIST data set's images in pixels: 28, 64, 128 or 224.")
    on_error: str = option("fail", "What becomes of a run when images cannot be read.", choices=("fail", "skip"))

    def __post_init__(self) -> None:
        self.limits()
        _check_choices(self)

    def limits(self) -> tuple[float, float] | None:
        """The given window, or None for a rule. Raises ProbeError when it is neither."""
        if self.window in ("auto", "range", "percentile"):
            return None
        try:
            low, high = (float(number) for number in self.window.split(","))
        except (ValueError, AttributeError):
            low = high = 0.0
        if not -float("inf") < low < high < float("inf"):
            raise ProbeError(
                f"window is '{self.window}'; give auto, range, percentile, or two numbers LO,HI with LO below HI"
            )
        return low, high


@dataclass(frozen=True, kw_only=True)
class Network:
    """How a network is built and where it is read."""

    level: str = option(
        "block", "Where to read: after every layer, block or stage.", choices=("layer", "block", "stage")
    )
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
        _check_choices(self)


@dataclass(frozen=True, kw_only=True)
class Batches:
    """How images are put through a network."""

    batch_size: int = option(64, "Images per forward pass.")
    num_workers: int = option(2, "Threads that read and resize images.")
    device: str = option("auto", "auto, cpu, cuda, cuda:N or mps.")

    def __post_init__(self) -> None:
        for name in ("batch_size", "num_workers"):
            if getattr(self, name) < 1:
                raise ProbeError(f"{name} is {getattr(self, name)}; it must be at least 1")
        _check_choices(self)


@dataclass(frozen=True, kw_only=True)
class Extraction(Batches):
    """How features are read off a network."""

    pool: str = option(
        "mean", "How a map or a run of tokens becomes a vector.", choices=("mean", "max", "cls", "cls+mean")
    )
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
        choices=("gap+linear", "flatten+linear", "cls+linear", "mlp"),
    )
    hidden: int = option(256, "Width of the mlp head's hidden layer.")
    activation: str = option("relu", "Activation of the mlp head's hidden layer.", choices=("relu", "gelu"))
    dropout: float = option(0.0, "Share of the head's inputs dropped in training.")

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise ProbeError(f"hidden is {self.hidden}; it must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ProbeError(f"dropout is {self.dropout}; it must be at least 0 and below 1")
        _check_choices(self)


@dataclass(frozen=True, kw_only=True)
class ProbeGrid:
    """What a linear probe is chosen from, and how sure its scores are."""

    c_grid: tuple[float, ...] = option(
        (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0), "Inverse L2 strengths tried; chosen on validation."
    )
    draws: int = option(1000, "Bootstrap draws behind each interval.")
    delta: float = option(0.01, "Loss of AUROC against the best tap that a sufficient tap may have.")

    def __post_init__(self) -> None:
        if not self.c_grid or not all(0 < strength < float("inf") for strength in self.c_grid):
            raise ProbeError(f"strengths must be positive numbers, not {self.c_grid}")
        if self.draws < 100:
            raise ProbeError(f"{self.draws} bootstrap draws are too few for an interval; take at least 100")
        if not 0 < self.delta < 1:
            raise ProbeError(f"delta is {self.delta}; it must lie between 0 and 1")
