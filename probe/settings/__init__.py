"""What a run is configured by; one field per option of the command line, whose help and default it states.

Nothing here loads a library, so that `--help` answers at once.
"""

from probe.settings.attribution import Attribution
from probe.settings.embedding import Embedding
from probe.settings.image_reading import Reading
from probe.settings.networks import Batches, Extraction, Head, Network
from probe.settings.probing import Controls, Depths, MLPSetting, ProbeGrid
from probe.settings.similarity import Comparison
from probe.settings.training import Training, Tuning

__all__ = [
    "Attribution",
    "Batches",
    "Comparison",
    "Controls",
    "Depths",
    "Embedding",
    "Extraction",
    "Head",
    "MLPSetting",
    "Network",
    "ProbeGrid",
    "Reading",
    "Training",
    "Tuning",
]
