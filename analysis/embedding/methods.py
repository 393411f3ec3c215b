"""The methods by name: each puts images that are alike in their features close together on a plane."""

import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from analysis.embedding.principal_components import COMPONENTS, reduced
from probe.base.errors import ProbeError
from probe.base.lookup import check_seed, unknown
from probe.settings.embedding import METHODS

Columns = NDArray[np.float32]


def embed(
    x: NDArray[np.generic],
    method: str = "umap",
    *,
    seed: int = 0,
    components: int = COMPONENTS,
    neighbours: int = 15,
    min_dist: float = 0.1,
    perplexity: float = 30.0,
    name: str = "features",
) -> Float[ndarray, "n 2"]:
    """Coordinates on a plane (n, 2), without a unit, of the images whose features (n, d) are given.

    `pca` is the first two principal components. `tsne` (van der Maaten and Hinton 2008, JMLR 9:2579; `perplexity`) and
    `umap` (McInnes et al. 2018, arXiv:1802.03426; `neighbours`, `min_dist`) are made of the first `components`, and
    both start from the first two, for what they show of the whole depends on where they start (Kobak and Linderman
    2021, Nature Biotechnology 39:156); so only `umap` draws from the seed. All in one thread: the coordinates do not
    depend on the number of cores.

    Raises ProbeError, calling the features `name`, for another method, for features that are not finite or are the
    same for every image, and for as many neighbours, or as large a perplexity, as there are images.
    """
    ways: dict[str, Callable[[Columns], Columns]] = {
        "umap": partial(_umap, seed=seed, neighbours=neighbours, min_dist=min_dist, name=name),
        "pca": lambda columns: columns[:, :2],
        "tsne": partial(_tsne, seed=seed, perplexity=perplexity, name=name),
    }
    if method not in ways:
        raise unknown("method", method, METHODS)
    check_seed(seed)
    with threadpool_limits(1):
        columns = reduced(x, 2 if method == "pca" else components, seed=seed, name=name)
        return ways[method](columns.astype(np.float32))


def _umap(columns: Columns, *, seed: int, neighbours: int, min_dist: float, name: str) -> Columns:
    if neighbours >= len(columns):
        raise ProbeError(f"'{name}' is of {len(columns)} images, too few for {neighbours} neighbours of each")
    from umap import UMAP  # compiles for seconds

    distances, nearest = NearestNeighbors(n_neighbors=neighbours).fit(columns).kneighbors(columns)
    settings = {"n_neighbors": neighbours, "min_dist": min_dist, "init": "pca", "n_jobs": 1, "random_state": seed}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "precomputed_knn", UserWarning)  # that nothing can be added to the map
        found: Columns = UMAP(**settings, precomputed_knn=(nearest, distances, None)).fit_transform(columns)
    return found


def _tsne(columns: Columns, *, seed: int, perplexity: float, name: str) -> Columns:
    if perplexity >= len(columns):
        raise ProbeError(f"'{name}' is of {len(columns)} images, too few for a perplexity of {perplexity:g}")
    found: Columns = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(columns)
    return found
