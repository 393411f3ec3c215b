"""How images are read."""

from dataclasses import dataclass

from probe.base.errors import ProbeError
from probe.settings.option import check_choices, option

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How images are read: which grey values become black and white, and what happens to unreadable files.

    Images of 8 bits are taken as they are. What is deeper (16-bit and float pictures, DICOM, NIfTI)
    is scaled linearly from `window` to bytes: `range` is an image's own smallest to largest value,
    `percentile` its own 0.5th to 99.5th, and `LO,HI` are given numbers in the file's units
    (Hounsfield units for CT). `auto` is the window that a DICOM file states, because that is what
    its readers looked at, and otherwise `range`, because that clips nothing. A NIfTI slice has the
    range or percentiles of its volume, so that slices compare.
    """

    window: str = option(
        "auto",
        "Grey values shown as black and white, in images of more than 8 bits: range, percentile (0.5 to 99.5), LO,HI, "
        "or auto, which is the window of a DICOM file, else range.",
    )
    size: int | None = option(None, "Image side of a MedMNIST data set in pixels: 28, 64, 128 or 224.")
    on_error: str = option(
        "fail", "What to do when an image cannot be read: stop, or leave it out and list it.", choices=("fail", "skip")
    )

    def __post_init__(self) -> None:
        self.limits()
        check_choices(self)

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
