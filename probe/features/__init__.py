"""Features: one vector per image and tap, read off a network or made elsewhere."""

from probe.features.extraction import extract
from probe.features.features import Features
from probe.features.given import make_features, read_features

__all__ = ["Features", "extract", "make_features", "read_features"]
