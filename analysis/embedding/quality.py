"""How far a map is to be trusted, and how apart the classes lie, on it and before it was made."""

from dataclasses import dataclass
from math import nan

import numpy as np
from jaxtyping import Float, Shaped
from numpy import ndarray
from numpy.typing import NDArray
from sklearn.manifold import trustworthiness
from sklearn.metrics import silhouette_score

from analysis.similarity.centred import Centred
from probe.base.errors import ProbeError


@dataclass(frozen=True)
class Quality:
    """What is known of one map.

    `trustworthiness` in [0, 1]: 1 when whoever is near on the map is near among the features, .5 about for a map drawn
    at random (Venna and Kaski 2001, ICANN, section 2). `silhouette` and `silhouette_map` in [-1, 1]: how much nearer
    images lie to their own class than to the next, among the features and on the map, mean over images (Rousseeuw 1987,
    J. Comput. Appl. Math. 20:53); NaN where no image has a single label or all have the same.
    """

    trustworthiness: float
    silhouette: float
    silhouette_map: float


def judge(
    x: NDArray[np.generic],
    coordinates: Float[ndarray, "n 2"],
    labels: Shaped[ndarray, "n"] | None = None,
    *,
    neighbours: int = 15,
    name: str = "features",
) -> Quality:
    """The quality of a map (n, 2) of features (n, d), by all d of them; of images with one label (n,) each, or without.

    Time and memory grow as n^2. Raises ProbeError for too few images.
    """
    check_images(len(x), neighbours)
    whole = Centred(name, x).whole()
    apart = labels is not None and 1 < len(np.unique(labels)) < len(labels)
    return Quality(
        trustworthiness=float(trustworthiness(whole, coordinates, n_neighbors=neighbours)),
        silhouette=float(silhouette_score(whole, labels)) if apart else nan,
        silhouette_map=float(silhouette_score(coordinates, labels)) if apart else nan,
    )


def check_images(count: int, neighbours: int) -> None:
    """Raise ProbeError for fewer than 2 `neighbours` + 1 images, of which trustworthiness cannot be told."""
    if count <= 2 * neighbours:
        raise ProbeError(
            f"trustworthiness by {neighbours} neighbours takes at least {2 * neighbours + 1} images, not {count}; "
            "ask for fewer neighbours"
        )
