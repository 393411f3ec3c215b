"""How alike two sets of features of the same images are.

Every measure is a function of two arrays whose rows are the same images. What is not defined is a ProbeError, and
nothing is clamped: an estimate may lie outside the range of what it estimates.
"""

from analysis.similarity.bands import Estimate, estimate, half_samples
from analysis.similarity.cca import CCACurve, cca_coefficients, cca_curve, pwcca, svcca
from analysis.similarity.cka import linear_cka, rbf_cka
from analysis.similarity.cka_of_all_pairs import cka_matrix
from analysis.similarity.measures import measure
from analysis.similarity.minibatch import MinibatchCKA
from analysis.similarity.neighbours import mutual_knn
from analysis.similarity.rotation import procrustes
from probe.settings.similarity import MEASURES

__all__ = [
    "MEASURES", "CCACurve", "Estimate", "MinibatchCKA", "cca_coefficients", "cca_curve", "cka_matrix", "estimate",
    "half_samples", "linear_cka", "measure", "mutual_knn", "procrustes", "pwcca", "rbf_cka", "svcca",
]  # fmt: skip
