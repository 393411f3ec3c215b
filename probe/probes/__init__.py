"""Probes: how well labels can be read off features, at every tap."""

from probe.probes.all_taps import PROBES, Draws, Sweep, check_request, layerwise, sweep
from probe.probes.centroids import fit_centroids
from probe.probes.fitting import fit_taps
from probe.probes.linear import TrainingSet, fit_path, fit_paths
from probe.probes.methods import METHODS, find_method
from probe.probes.mlp import MLPSet, fit_mlps
from probe.probes.neighbours import fit_neighbours
from probe.records.result_rows import TRAINING_SIZE
from probe.scoring.score_rows import gap_of
from probe.scoring.trials import Trial, whole_trial

__all__ = [
    "METHODS",
    "PROBES",
    "TRAINING_SIZE",
    "Draws",
    "MLPSet",
    "Sweep",
    "TrainingSet",
    "Trial",
    "check_request",
    "find_method",
    "fit_centroids",
    "fit_mlps",
    "fit_neighbours",
    "fit_path",
    "fit_paths",
    "fit_taps",
    "gap_of",
    "layerwise",
    "sweep",
    "whole_trial",
]
