"""At which depth are a pretrained network's features good enough for your images, and where to cut it.

Everything here loads on first use, so that `import probe` is light.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "Attribution": "probe.settings",
    "Backbone": "probe.backbones",
    "Batches": "probe.settings",
    "Classes": "probe.tasks",
    "Comparison": "probe.settings",
    "Controls": "probe.settings",
    "Dataset": "probe.data",
    "Embedding": "probe.settings",
    "Extraction": "probe.settings",
    "Features": "probe.features",
    "Head": "probe.settings",
    "Labels": "probe.tasks",
    "LinearProbe": "probe.probes.estimator",
    "MLPProbe": "probe.probes.estimator",
    "Network": "probe.settings",
    "NetworkSpec": "probe.backbones",
    "ProbeError": "probe.base.errors",
    "ProbeGrid": "probe.settings",
    "Reading": "probe.settings",
    "Task": "probe.tasks",
    "Training": "probe.settings",
    "Tuning": "probe.settings",
    "attribute": "probe.studies.attribution",
    "backbone": "probe.backbones",
    "check": "probe.studies.check",
    "dataset": "probe.data",
    "embed": "probe.studies.embedding",
    "extract": "probe.features",
    "finetune": "probe.finetuning",
    "layerwise": "probe.probes",
    "make_features": "probe.features",
    "read_features": "probe.features",
    "load": "probe.truncation",
    "save": "probe.truncation",
    "similarity": "probe.studies.similarity",
    "truncate": "probe.truncation",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'probe' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
