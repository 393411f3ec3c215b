"""Probes: how well labels can be read off features, at every tap."""

from probe.probes.fitting import SELECTS, fit_taps
from probe.probes.linear import TrainingSet, fit_path, fit_paths
from probe.probes.mlp import MLPSet, fit_mlps
from probe.probes.sweep import GAP, PROBES, layerwise

__all__ = [
    "GAP",
    "PROBES",
    "SELECTS",
    "MLPSet",
    "TrainingSet",
    "fit_mlps",
    "fit_path",
    "fit_paths",
    "fit_taps",
    "layerwise",
]
