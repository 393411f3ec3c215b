"""Features of many columns drawn on a plane, and how far such a map is to be trusted.

Maps are seeded and made in one thread, so that the same features give the same coordinates in every process.
"""

from analysis.embedding.all_taps import embed_arms
from analysis.embedding.methods import embed
from analysis.embedding.principal_components import reduced
from analysis.embedding.quality import Quality, judge
from analysis.embedding.sampling import subsample
from probe.settings.embedding import METHODS

__all__ = ["METHODS", "Quality", "embed", "embed_arms", "judge", "reduced", "subsample"]
