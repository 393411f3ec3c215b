"""DICOM through pydicom: rescaled, windowed, MONOCHROME1 inverted, and whose it is."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from probe.base.errors import ProbeError, reason
from probe.base.runtime import optional
from probe.data.intensity import limits, to_bytes
from probe.settings import Reading

SUFFIXES = (".dcm", ".dicom", ".ima")
MAGIC = b"DICM"  # at byte 128


def is_dicom(file: Path) -> bool:
    """Known by its suffix; without one, or with one that is the tail of a UID, by its first bytes."""
    suffix = file.suffix.lower()
    if suffix in SUFFIXES or not (suffix == "" or suffix[1:].isdigit()):
        return suffix in SUFFIXES
    try:
        with file.open("rb") as opened:
            return opened.read(132)[128:] == MAGIC
    except OSError:  # told when the image is asked for
        return False


def need_pydicom() -> Any:
    """The pydicom package. Raises ProbeError when it is not installed."""
    return optional("pydicom", "dicom", "reading DICOM")


def read_patient(file: Path) -> str:
    """PatientID, empty where there is none. Raises ProbeError when the header cannot be read."""
    try:
        found = need_pydicom().dcmread(file, stop_before_pixels=True, specific_tags=["PatientID"])
        return str(found.get("PatientID", "") or "").strip()
    except Exception as error:  # a parser of damaged files raises whatever the first wrong byte leads to
        raise _unreadable(file, error) from None


def read_dicom(file: Path, reading: Reading) -> tuple[Image.Image, int]:
    """The first frame as RGB, and how many frames there are.

    Grey goes through the modality transform (rescale slope and intercept, or its table), is
    windowed, and inverted if MONOCHROME1. With `auto` the window is the file's first VOI table or
    window; a file without one has 8 bits taken as they are and more scaled by their own range.
    DICOM PS3.3, C.11.1 and C.11.2. Raises ProbeError when the file cannot be decoded.
    """
    need_pydicom()
    try:
        from pydicom import dcmread
        from pydicom.pixels.processing import apply_color_lut
        from pydicom.pixels.utils import pixel_array

        header = dcmread(file)
        stored = pixel_array(header, index=0)  # YCbCr becomes RGB here
        if header.PhotometricInterpretation == "PALETTE COLOR":
            stored = apply_color_lut(stored, header)
        shown = _grey(header, stored, reading) if stored.ndim == 2 else _colour(stored, reading)
        return Image.fromarray(shown).convert("RGB"), int(header.get("NumberOfFrames", 1) or 1)
    except Exception as error:  # as above
        raise _unreadable(file, error) from None


def _grey(header: Any, stored: NDArray[np.generic], reading: Reading) -> NDArray[np.uint8]:
    from pydicom.pixels.processing import apply_modality_lut

    values = apply_modality_lut(stored, header)
    own = _own_window(header, values) if reading.window == "auto" else None
    shown = to_bytes(*(own or (values, *limits(values, reading))))
    return 255 - shown if header.PhotometricInterpretation == "MONOCHROME1" else shown


def _own_window(header: Any, values: NDArray[np.generic]) -> tuple[NDArray[np.generic], float, float] | None:
    """Values with the ones shown as black and white that the file states, or None where it states none."""
    from pydicom.pixels.processing import apply_voi

    if header.get("VOILUTSequence"):
        table = apply_voi(np.rint(values).astype(np.int64), header)
        return table, 0.0, 2.0 ** int(header.VOILUTSequence[0].LUTDescriptor[2]) - 1
    center, width = _first(header.get("WindowCenter")), _first(header.get("WindowWidth"))
    if center is None or not width:
        whole = header.BitsStored == 8 and header.get("RescaleSlope", 1) == 1 and not header.PixelRepresentation
        return (values, 0.0, 255.0) if whole and not header.get("RescaleIntercept", 0) else None
    function = str(header.get("VOILUTFunction", "") or "LINEAR")
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values.astype(np.float64) - center) / width)), 0.0, 1.0
    if function == "LINEAR_EXACT":
        return values, center - width / 2, center + width / 2
    return values, center - width / 2, center + width / 2 - 1


def _first(element: Any) -> float | None:
    """The first of a value that may be one, several or none."""
    several = [] if element is None else [element] if isinstance(element, int | float | str) else list(element)
    return float(several[0]) if several and several[0] not in ("", None) else None


def _colour(stored: NDArray[np.generic], reading: Reading) -> NDArray[np.uint8]:
    return stored.astype(np.uint8) if stored.dtype.itemsize == 1 else to_bytes(stored, *limits(stored, reading))


def _unreadable(file: Path, error: Exception) -> ProbeError:
    return ProbeError(f"cannot read DICOM '{file}': {reason(error)}")
