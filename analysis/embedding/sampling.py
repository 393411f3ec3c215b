"""Which of many images are drawn."""

import numpy as np
from jaxtyping import Integer, Shaped
from numpy import ndarray


def subsample(labels: Shaped[ndarray, "n"], count: int, generator: np.random.Generator) -> Integer[ndarray, "m"]:
    """Places of `count` images, or of all when they are fewer, in order: drawn so that classes keep their shares.

    Every class keeps one image at least, as long as there are no more classes than that.
    """
    if len(labels) <= count:
        return np.arange(len(labels))
    order = generator.permutation(len(labels))
    place = np.empty(len(labels))
    for name in np.unique(labels):
        members = order[labels[order] == name]
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
        place[members[0]] = 0
    return np.sort(order[np.argsort(place[order], kind="stable")[:count]])
