"""How far copies and strangers lie apart in perceptual hashes, and what comparing all pairs costs.

Command: `python benchmarks/near_copies.py DATA ... [--small]` (default: the digits), for the threshold in
`probe/audit/copies.py`. Prints per data set and change the median and the 95th percentile of the
Hamming distance between an image and its changed copy (256 bits) and the share found; the number
of pairs of different images within some distances; then the time for 100,000 random hashes.
"""

import io
from collections.abc import Callable

import numpy as np
from measuring import clock_for, new_parser, parse, timed
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

import probe
from probe.audit.copies import RADIUS, near_sets, perceptual_hash

IMAGES = 150
Codes = NDArray[np.uint64]


def recompress(image: Image.Image, quality: int) -> Image.Image:
    """The image after a trip through a JPEG."""
    held = io.BytesIO()
    image.save(held, "JPEG", quality=quality)
    return Image.open(held).convert("RGB")


def crop(image: Image.Image, share: float) -> Image.Image:
    """The image without a border of a share of its shorter side."""
    return ImageOps.crop(image, round(share * min(image.size)))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG, quality 75": lambda image: recompress(image, 75),
    "JPEG, quality 30": lambda image: recompress(image, 30),
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "brightness x 1.2": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "contrast x 1.3": lambda image: ImageEnhance.Contrast(image).enhance(1.3),
    "blur, 1 pixel": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    "2 % cut off each side": lambda image: crop(image, 0.02),
    "turned by 2 degrees": lambda image: image.rotate(2),
    "mirrored": ImageOps.mirror,
}


def distances(first: Codes, second: Codes) -> NDArray[np.int64]:
    """Bits in which hashes differ."""
    return np.asarray(np.bitwise_count(first ^ second).sum(-1, dtype=np.int64))


def compare(data: probe.Dataset, images: int) -> None:
    """Print how far changed copies of some images lie apart, and how near the data set's images lie to each other."""
    rng = np.random.default_rng(0)
    shown = np.sort(rng.choice(len(data), min(images, len(data)), replace=False))
    hashes = np.stack([perceptual_hash(data.images.load(row)) for row in shown])
    rows = rng.choice(len(shown), min(IMAGES, len(shown)), replace=False)
    print(f"\n{data.name}, {len(shown)} images")
    for name, change in CHANGES.items():
        changed = np.stack([perceptual_hash(change(data.images.load(shown[row]))) for row in rows])
        apart = distances(changed, hashes[rows])
        print(f"  {name:24} {np.median(apart):4.0f} {np.percentile(apart, 95):4.0f}  {np.mean(apart <= RADIUS):6.1%}")
    pairs = np.concatenate([distances(hashes[i], hashes[i + 1 :]) for i in range(len(hashes) - 1)])
    print("  pairs of images within " + ", ".join(f"{r}: {(pairs <= r).sum()}" for r in range(0, 65, 8)))


def main() -> None:
    """Print the distances per data set, and the time for random hashes."""
    parser = new_parser(__doc__)
    parser.add_argument("data", nargs="*", default=["digits"])
    parser.add_argument("--images", type=int, default=10**9, help="at most so many of each data set")
    parser.add_argument("--codes", type=int, default=100_000, help="random hashes")
    options = parse(parser, images=30, codes=1000)
    for source in options.data:
        compare(probe.dataset(source), options.images)
    codes = np.random.default_rng(0).integers(0, 2**64, (options.codes, 4), dtype=np.uint64)
    _, seconds = timed(lambda: near_sets(codes), clock_for(threads=0))
    print(f"\nall pairs of {options.codes:,} hashes: {seconds:.0f} s")


if __name__ == "__main__":
    main()
