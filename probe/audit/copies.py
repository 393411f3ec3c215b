"""Near-identical images: perceptual hashes and the sets in which they lie close together.

The hash is imagehash's pHash of 256 bits: the signs, about their median, of the 16 x 16 lowest
frequencies of the cosine transform. Of 64 bits no threshold parts copies from chest X-rays of
different people; of 256 those differ in at least 44, while copies recompressed, rescaled, blurred,
brighter or of other contrast differ in at most 32 (`benchmarks/near_copies.py`). Copies that are
mirrored, turned or cropped by more than a hundredth are not found, nor rescaled ones of 28 pixels.
"""

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SIDE = 16  # of the square of frequencies
RADIUS = 32  # bits of SIDE * SIDE in which copies may differ
BLOCK = 32  # rows compared with all later ones at a time; more gains no speed


def perceptual_hash(image: Image.Image) -> NDArray[np.uint64]:
    """The 256 bits of pHash as (4,)."""
    return np.packbits(imagehash.phash(image, hash_size=SIDE).hash.ravel()).view(np.uint64)


def near_sets(hashes: NDArray[np.uint64], radius: int = RADIUS) -> NDArray[np.int64]:
    """A number per row of `hashes`, (n, 4): rows that are linked by steps of at most `radius` bits share it.

    Every pair of different hashes is compared, so none is missed; O(n^2) in time, with memory of
    O(n): a minute for 100,000 images on one core, a tenth of what decoding them takes.
    """
    codes, rows = np.unique(hashes, axis=0, return_inverse=True)
    sets = np.arange(len(codes))
    halves = np.ascontiguousarray(codes.T[2:])  # the high vertical frequencies, in which images differ most
    for start in range(0, len(codes), BLOCK):
        mine = slice(start, start + BLOCK)
        apart = sum(np.bitwise_count(half[mine, None] ^ half[None, start:]) for half in halves)
        first, second = np.nonzero(apart <= radius)
        links = np.bitwise_count(codes[start + first] ^ codes[start + second]).sum(1) <= radius
        pairs = start + first[links], start + second[links]
        if (sets[pairs[0]] != sets[pairs[1]]).any():
            sets = _merge(sets, *pairs)
    return sets[rows.ravel()]


def _merge(sets: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sets, with those that hold the ends of a link made one."""
    n = len(sets)
    graph = coo_array((np.ones(len(first), dtype=bool), (sets[first], sets[second])), shape=(n, n))
    joined = connected_components(graph, directed=False)[1]
    merged: NDArray[np.int64] = joined[sets].astype(np.int64)
    return merged
