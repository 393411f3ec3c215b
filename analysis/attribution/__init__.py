"""What a class's logit rests on in an image, and whether such a map can be trusted.

A model is a callable from images (n, c, h, w) to logits (n, k); for Grad-CAM it is an `AtTap`, two callables with the
tap between them. Nothing is hooked, and nothing about the model or the global random state changes.
"""

from analysis.attribution.baselines import make_baseline
from analysis.attribution.faithfulness import agreement, completeness_gap, perturbation_curves
from analysis.attribution.gradcam import AtTap, grad_cam
from analysis.attribution.methods import METHODS, attribute, raw_maps
from analysis.attribution.pointing import area_share, energy_in_mask, pointing_game
from probe.settings.attribution import BASELINES

__all__ = [
    "BASELINES", "METHODS", "AtTap", "agreement", "area_share", "attribute", "completeness_gap", "energy_in_mask",
    "grad_cam", "make_baseline", "perturbation_curves", "pointing_game", "raw_maps",
]  # fmt: skip
