"""Features on their first principal components, before a map is made of them."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from analysis.similarity.centred import Centred
from probe.base.errors import ProbeError

COMPONENTS = 50  # as van der Maaten and Hinton 2008 (JMLR 9:2579), section 4, take before t-SNE


def reduced(
    x: NDArray[np.generic], components: int = COMPONENTS, *, seed: int = 0, name: str = "features"
) -> Float[ndarray, "n k"]:
    """The first principal components (n, k) of features (n, d); k is `components`, or all when these are fewer.

    Columns are centred and not scaled, so that distances are Euclidean ones between features, but for one common scale.
    The seed decides where the iteration starts, and so the last digits. Raises ProbeError, calling the features `name`,
    for fewer than two images or columns, and for what is not finite or the same for every image.
    """
    if x.ndim == 2 and min(x.shape) == 1:
        what = "a single image" if len(x) == 1 else "a single column"
        raise ProbeError(f"'{name}' has {what}; a map takes two at least")
    whole = Centred(name, x).whole()
    solver = "arpack" if components < min(whole.shape) else "full"
    found = PCA(min(components, *whole.shape), svd_solver=solver, random_state=seed)
    with threadpool_limits(1):  # more of them add up in another order
        columns: Float[ndarray, "n k"] = found.fit_transform(whole)
    return columns
