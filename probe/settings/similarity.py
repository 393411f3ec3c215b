"""Similarity: how the features of two taps are compared."""

from dataclasses import dataclass

from probe.base.errors import ProbeError
from probe.settings.option import check_choices, option

MEASURES = ("cka", "rbf-cka", "svcca", "pwcca", "procrustes", "mutual-knn")
FEWEST = 40  # draws for a 95 % band, and permutations for a 95th percentile


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The similarity measure, its settings, and its bands."""

    measure: str = option(
        "cka",
        "Measure: linear CKA, CKA with RBF kernels, SVCCA, PWCCA, orthogonal Procrustes, mutual nearest neighbours.",
        choices=MEASURES,
    )
    unbiased: bool = option(
        False, "Compute CKA from the unbiased HSIC, which does not grow with the number of features."
    )
    bandwidth: float = option(0.5, "Kernel bandwidth of rbf-cka, as a share of the median distance between images.")
    keep: float = option(0.99, "Share of each tap's variance that svcca keeps.")
    k: int = option(10, "Number of nearest neighbours that mutual-knn compares.")
    draws: int = option(100, "Random halves of the images for each 95% band; 0 for no bands.", group="Statistics")
    permutations: int = option(
        40, "Permutations of the images for the null distribution; 0 for none.", group="Statistics"
    )
    maps: bool = option(
        False, "Compare whole feature maps in place of pooled features: unbiased CKA, estimated in batches of 32."
    )

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("draws", "permutations"):
            if getattr(self, name) < FEWEST and getattr(self, name) != 0:
                raise ProbeError(f"{name} is {getattr(self, name)}; take at least {FEWEST}, or 0 for none")
        if self.unbiased and self.measure not in ("cka", "rbf-cka"):
            raise ProbeError(f"there is an unbiased estimate of cka and rbf-cka, and none of {self.measure}")
        if not 0 < self.bandwidth < float("inf"):
            raise ProbeError(f"bandwidth is {self.bandwidth}; it must be a positive share of the median distance")
        if not 0 < self.keep <= 1:
            raise ProbeError(f"keep is {self.keep}; it must lie above 0 and not above 1")
        if self.k < 1:
            raise ProbeError(f"k is {self.k}; at least 1 neighbour must be compared")
        if self.maps and self.measure != "cka":
            raise ProbeError(f"whole maps are compared by cka alone, not by {self.measure}")
