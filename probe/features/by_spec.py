"""The features of a network that is named: from the cache without building it, else extracted."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe.backbones import NetworkSpec
from probe.base.runtime import pick_device
from probe.cache.requests import Notebook
from probe.data import Dataset, FileHashes
from probe.features import Features, extract
from probe.features.extraction import recall
from probe.settings import Extraction

if TYPE_CHECKING:
    from probe.backbones import Backbone


def features_of(
    spec: NetworkSpec,
    data: Dataset,
    extraction: Extraction,
    cache: Path,
    build: "Callable[[NetworkSpec], Backbone]" = NetworkSpec.build,
) -> Features:
    """Features from the cache if they are complete there, without building the network; else extracted.

    `build` makes the network where it is needed, such as `Networks`, which builds it once. Images have the size that
    the spec asks for, or else the data. Raises ProbeError as `backbone` and `extract` do.
    """
    spec = spec.sized(data.image_size)
    recipe = _recipe(spec, len(data), extraction, cache)
    notebook = Notebook(cache)
    known = notebook.recall(recipe) if recipe else None
    found = recall(known, data, cache) if known else None
    if found is not None:
        return found
    features = extract(build(spec), data, extraction, cache=cache)
    recipe = recipe or _recipe(spec, len(data), extraction, cache)
    if recipe:  # a download has put the weights on this machine by now
        taps = [tap.to_dict() for tap in features.taps]
        notebook.note(recipe, {"request": features.details, "origin": features.origin, "taps": taps})
    return features


def _recipe(spec: NetworkSpec, count: int, extraction: Extraction, cache: Path) -> dict[str, Any] | None:
    """What decides a network, its name and the numbers it gives; None when that is not all on this machine."""
    known = spec.identity(lambda file: FileHashes(cache).hash([file])[0])
    if known is None:
        return None
    numerics = {name: value for name, value in asdict(extraction).items() if name not in ("batch_size", "num_workers")}
    return {
        **known,
        "weights": spec.weights,
        "content": known["weights"],
        "size": spec.image_size,
        **numerics,
        "images": count if extraction.compile == "auto" else None,  # a long job is compiled
        "device": pick_device(extraction.device).partition(":")[0],
    }
