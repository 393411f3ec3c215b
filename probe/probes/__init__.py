"""Probes: how well labels can be read off features, at every tap."""

from probe.probes.linear import fit_path
from probe.probes.sweep import GAP, PROBES, SELECTS, choose, layerwise

__all__ = ["GAP", "PROBES", "SELECTS", "choose", "fit_path", "layerwise"]
