"""Embedding: how the features of a tap become a map in two dimensions."""

from dataclasses import dataclass

from probe.base.errors import ProbeError
from probe.settings.option import check_choices, option

METHODS = ("umap", "pca", "tsne")


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """The embedding method, its settings, and the number of images."""

    method: str = option("umap", "Embedding method: UMAP, PCA or t-SNE.", choices=METHODS)
    sample: int = option(
        2000,
        "Largest number of images; of more, a sample stratified by class is used. Memory grows with its square.",
    )
    components: int = option(50, "Number of principal components of a tap's features that UMAP and t-SNE are given.")
    neighbours: int = option(15, "Number of nearest neighbours, for UMAP and for trustworthiness.")
    min_dist: float = option(0.1, "Smallest distance between points on a UMAP map, from 0 to 1.")
    perplexity: float = option(30.0, "Perplexity of t-SNE: about how many neighbours it keeps close.")

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("sample", "components", "neighbours"):
            if getattr(self, name) < 2:
                raise ProbeError(f"{name} is {getattr(self, name)}; it must be at least 2")
        if not 0 <= self.min_dist <= 1:
            raise ProbeError(f"min_dist is {self.min_dist}; it must lie between 0 and 1")
        if not 1 < self.perplexity < float("inf"):
            raise ProbeError(f"perplexity is {self.perplexity}; it must be a number above 1")
