"""How the features of two taps are compared."""

from dataclasses import dataclass

from probe.base.errors import ProbeError
from probe.settings.option import check_choices, option

MEASURES = ("cka", "rbf-cka", "svcca", "pwcca", "procrustes", "mutual-knn")
FEWEST = 40  # draws and permutations of which a 95 % band and a 95th percentile can be told


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What similarity is measured by, and how sure it is."""

    measure: str = option(
        "cka",
        "Linear CKA, CKA with RBF kernels, SVCCA, PWCCA, orthogonal Procrustes, or mutual nearest neighbours.",
        choices=MEASURES,
    )
    unbiased: bool = option(False, "CKA from the unbiased HSIC, which does not grow with the number of features.")
    bandwidth: float = option(0.5, "Bandwidth of rbf-cka, as a share of the median distance between images.")
    keep: float = option(0.99, "Share of the variance that svcca keeps of each tap.")
    k: int = option(10, "Nearest images that mutual-knn compares.")
    draws: int = option(100, "Random halves of the images behind each band; 0 for none.")
    permutations: int = option(40, "Permutations of the images behind the null; 0 for none.")
    maps: bool = option(
        False, "Compare whole feature maps, not pooled ones: an estimate of unbiased CKA from batches of 32 images."
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
