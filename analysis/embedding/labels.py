"""What images are coloured by, one name each, and which of many are drawn."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Integer, Shaped
from numpy import ndarray

from probe.base.errors import ProbeError
from probe.base.lookup import unknown
from probe.base.shapes import Labels

ANY, NONE, UNKNOWN = "any finding", "no finding", "unknown"  # of images with several labels


def one_label(labels: Labels, classes: Sequence[str], wanted: str = "") -> Shaped[ndarray, "n"]:
    """A name per image (n,): its class; of several labels whether it has the one `wanted`, or any at all.

    A label that nobody has stated (-1) makes an image unknown, unless another shows a finding. Raises ProbeError for a
    label that there is not, and for one wanted where every image has a single one.
    """
    if labels.ndim == 1:
        if wanted:
            raise ProbeError(f"every image has one label and is coloured by it; '{wanted}' is for data with several")
        return np.array(classes)[labels]
    if wanted and wanted not in classes:
        raise unknown("label", wanted, classes)
    shown = labels[:, [classes.index(wanted)]] if wanted else labels
    names = (wanted, f"not {wanted}") if wanted else (ANY, NONE)
    return np.where((shown == 1).any(1), names[0], np.where((shown < 0).any(1), UNKNOWN, names[1]))


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
