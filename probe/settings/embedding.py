"""How the features of a tap are drawn on a plane."""

from dataclasses import dataclass

from probe.base.errors import ProbeError
from probe.settings.option import check_choices, option

METHODS = ("umap", "pca", "tsne")


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """What maps are made by, and of how many images."""

    method: str = option("umap", "UMAP, the first two principal components, or t-SNE.", choices=METHODS)
    sample: int = option(
        2000,
        "Images drawn, at most, classes in their shares and the same at every tap; memory grows with its square.",
    )
    components: int = option(50, "Principal components of a tap that UMAP and t-SNE are made of.")
    neighbours: int = option(15, "Nearest images that UMAP keeps together, and that trustworthiness looks for.")
    min_dist: float = option(0.1, "How close UMAP lets points lie, from 0 to 1.")
    perplexity: float = option(30.0, "How many neighbours, about, t-SNE keeps together.")

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("sample", "components", "neighbours"):
            if getattr(self, name) < 2:
                raise ProbeError(f"{name} is {getattr(self, name)}; it must be at least 2")
        if not 0 <= self.min_dist <= 1:
            raise ProbeError(f"min_dist is {self.min_dist}; it must lie between 0 and 1")
        if not 1 < self.perplexity < float("inf"):
            raise ProbeError(f"perplexity is {self.perplexity}; it must be a number above 1")
