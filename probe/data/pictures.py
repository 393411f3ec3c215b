"""Whatever Pillow opens, as RGB: every mode, upright, and no bit lost without a word."""

import re
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from probe.base.errors import ProbeError, reason
from probe.data.intensity import limits, to_bytes
from probe.settings import Reading

DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # modes of more than 8 bits
OTHER_BYTE = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
BITS_PER_SAMPLE = 258  # TIFF's tag


def read_picture(file: Path, reading: Reading) -> tuple[Image.Image, int]:
    """The first frame as RGB, turned upright by its EXIF tag, and how many frames there are.

    Transparency is dropped and the colour beneath it kept, as torchvision's loader does. More than
    8 bits are scaled as `reading` says, colour by one window for all channels; Pillow alone would
    clip such grey, and cut such colour to its upper byte. Raises ProbeError when the file cannot be
    read, or has more than 8 bits in a form of which Pillow gives no more.
    """
    try:
        with Image.open(file) as image:
            frames = int(getattr(image, "n_frames", 1)) if getattr(image, "is_animated", False) else 1
            if _is_cut(file, image):
                return scaled(_both_bytes(file, image), reading), frames
            upright = ImageOps.exif_transpose(image)
            return (scaled(np.asarray(upright), reading) if upright.mode in DEEP else as_rgb(upright)), frames
    except UnidentifiedImageError:
        raise ProbeError(f"'{file}' is not an image that Pillow can read") from None
    except Exception as error:  # a parser of damaged files raises whatever the first wrong byte leads to
        raise ProbeError(f"cannot read image '{file}': {reason(error)}") from None


def as_rgb(image: Image.Image) -> Image.Image:
    """An 8-bit image in any of Pillow's modes as RGB."""
    # A palette may hold transparency, which only RGBA can.
    return (image.convert("RGBA") if image.mode in ("P", "PA") else image).convert("RGB")


def scaled(values: NDArray[np.generic], reading: Reading) -> Image.Image:
    """Values (h, w) or (h, w, channels) as RGB, scaled to bytes as `reading` says."""
    return Image.fromarray(to_bytes(values, *limits(values, reading))).convert("RGB")


def _is_cut(file: Path, image: ImageFile.ImageFile) -> bool:
    """Whether a file holds more than the 8 bits per channel that Pillow will give."""
    if image.mode in DEEP:
        return False
    if image.format == "TIFF":
        bits: tuple[int, ...] = image.tag_v2.get(BITS_PER_SAMPLE, (8,))  # type: ignore[attr-defined]
        return max(bits) > 8
    if image.format == "JPEG2000":
        with file.open("rb") as opened:
            head = opened.read(512)
        depth = head.find(b"ihdr") + 14 if b"ihdr" in head else 42  # of the JP2 header, of the bare codestream
        return (head[depth] & 0x7F) + 1 > 8
    if image.format == "PPM":
        return any(
            isinstance(tile.args, tuple) and tile.args[1] > 255 for tile in image.tile if tile.codec_name != "raw"
        )
    return any(tile.codec_name == "SGI16" or _raw_mode(tile)[1] for tile in image.tile)


def _both_bytes(file: Path, image: ImageFile.ImageFile) -> NDArray[np.uint16]:
    """Colour of 16 bits, (h, w, 3): Pillow keeps the upper byte, and the lower when told the other byte order."""
    with Image.open(file) as other:
        for i, tile in enumerate(image.tile):
            mode, order = _raw_mode(tile)
            if mode not in ("RGB", "RGBA", "RGBX") or not order:
                raise ProbeError(
                    f"it has more than 8 bits per channel, and Pillow reads 8 of them ({image.format}, {image.mode}); "
                    "save it as a PNG of 16-bit grey or RGB, or in 8 bits"
                )
            swapped = f"{mode};16{OTHER_BYTE[order]}"
            rest = tile.args[1:] if isinstance(tile.args, tuple) else None
            other.tile[i] = tile._replace(args=swapped if rest is None else (swapped, *rest))
        upper, lower = (np.asarray(ImageOps.exif_transpose(half))[..., :3] for half in (image, other))
    values: NDArray[np.uint16] = np.left_shift(upper, 8, dtype=np.uint16) | lower
    return values


def _raw_mode(tile: ImageFile._Tile) -> tuple[str, str]:
    """Channels and byte order of a tile of 16 bits per channel; no order for any other."""
    name = tile.args[0] if isinstance(tile.args, tuple) and tile.args else tile.args
    found = re.fullmatch(r"(\w+);16([BLN])", name) if isinstance(name, str) else None
    return (found[1], found[2]) if found else ("", "")
