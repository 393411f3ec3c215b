"""Probes: how well labels can be read off features, at every tap."""

from probe.probes.centroids import fit_centroids
from probe.probes.fitting import SELECTS, fit_taps
from probe.probes.linear import TrainingSet, fit_path, fit_paths
from probe.probes.neighbours import fit_neighbours
from probe.probes.sweep import GAP, PROBES, layerwise

__all__ = [
    "GAP",
    "PROBES",
    "SELECTS",
    "TrainingSet",
    "fit_centroids",
    "fit_neighbours",
    "fit_path",
    "fit_paths",
    "fit_taps",
    "layerwise",
]
