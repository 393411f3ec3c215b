"""What one look at every image gives: its size, its mode, its content, its likeness, its thumbnail."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from probe.audit.copies import perceptual_hash
from probe.audit.table_checks import Finding, count, listed
from probe.base.errors import ProbeError
from probe.data import Dataset
from probe.data.image_sources import ImageFiles

THUMBNAIL = 16  # pixels a side


@dataclass(frozen=True)
class Look:
    """One image: what is kept of it, or why it cannot be read. `likeness` is None for an image of one colour."""

    size: tuple[int, int] = (0, 0)
    mode: str = ""
    content: str = ""
    likeness: NDArray[np.uint64] | None = None
    thumbnail: NDArray[np.uint8] | None = None
    error: str = ""


def look_at(data: Dataset) -> list[Look]:
    """Read every image once, in threads; one that cannot be read is noted, not raised."""
    return list(tqdm(_looks(data), total=len(data), unit="image", disable=None, desc=data.name))


def check_looks(data: Dataset, looks: Sequence[Look]) -> list[Finding]:
    """Images that cannot be read, that show nothing, or that come in several sizes or modes."""
    bad = [(str(data.ids[row]), look.error) for row, look in enumerate(looks) if look.error]
    plain = [str(data.ids[row]) for row, look in enumerate(looks) if not look.error and look.likeness is None]
    found = []
    if bad:
        text = f"{count(bad, 'image')} cannot be read: {listed(error for _, error in bad)}"
        found.append(Finding("warning", "unreadable", text, tuple((name,) for name, _ in bad)))
    if plain:
        text = f"{count(plain, 'image')} of a single colour: {listed(plain)}"
        found.append(Finding("warning", "single_colour", text, tuple((name,) for name in plain)))
    for kind, forms in zip(("size", "mode"), count_forms(looks), strict=True):
        if len(forms) > 1:
            text = f"{len(forms)} {kind}s: {listed(f'{form} ({n})' for form, n in forms.items())}"
            found.append(Finding("warning", f"several_{kind}s", text))
    return found


def count_forms(looks: Sequence[Look]) -> tuple[dict[str, int], dict[str, int]]:
    """How many images have each size ("WIDTHxHEIGHT", in pixels) and each mode, the commonest first."""
    read = [look for look in looks if not look.error]
    sizes, modes = Counter(f"{w}x{h}" for w, h in (look.size for look in read)), Counter(look.mode for look in read)
    return dict(sizes.most_common()), dict(modes.most_common())


def _looks(data: Dataset) -> Iterator[Look]:
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="look")
    try:
        yield from pool.map(lambda row: _look(data, row), range(len(data)))
    finally:
        pool.shutdown(cancel_futures=True)


def _look(data: Dataset, row: int) -> Look:
    try:
        image = data.images.load(row)
    except ProbeError as error:
        return Look(error=str(error))
    pixels = np.asarray(image)
    plain = bool((pixels == pixels[0, 0]).all())
    return Look(
        size=image.size,
        mode=_stored_mode(data, row),
        content=hashlib.sha256(f"{image.size}".encode() + pixels.tobytes()).hexdigest(),
        likeness=None if plain else perceptual_hash(image),
        thumbnail=np.asarray(image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)).ravel(),
    )


def _stored_mode(data: Dataset, row: int) -> str:
    """The mode that Pillow finds in the file; a form that it does not know by its suffix."""
    if not isinstance(data.images, ImageFiles):
        return "array"
    file = data.images.files[row]
    try:
        with Image.open(file) as image:
            return image.mode
    except OSError:
        return file.suffix.lower()
