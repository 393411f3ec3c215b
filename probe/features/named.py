"""The features of a network that is named: from the cache without building it, else extracted."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from probe.base.lookup import is_file
from probe.base.runtime import pick_device, versions
from probe.cache.requests import Notebook
from probe.data import Dataset, FileHashes
from probe.features import Features, extract
from probe.features.extraction import recall
from probe.settings import Extraction, Network


def features_of(
    arch: str, weights: str, data: Dataset, seed: int, network: Network, extraction: Extraction, cache: Path
) -> Features:
    """Features from the cache if they are complete there, without building the network; else extracted."""
    size = network.image_size or data.image_size
    recipe = _recipe(arch, weights, seed, size, len(data), network, extraction, cache)
    notebook = Notebook(cache)
    known = notebook.recall(recipe) if recipe else None
    found = recall(known, data, cache) if known else None
    if found is not None:
        return found
    from probe.backbones import backbone  # loads the model libraries, which a warm run does without

    net = backbone(arch, weights, seed=seed, **asdict(replace(network, image_size=size)))
    features = extract(net, data, extraction, cache=cache)
    recipe = recipe or _recipe(arch, weights, seed, size, len(data), network, extraction, cache)
    if recipe:  # a download has put the weights on this machine by now
        notebook.note(
            recipe,
            {"request": features.details, "origin": features.origin, "taps": [tap.to_dict() for tap in features.taps]},
        )
    return features


def _recipe(
    arch: str,
    weights: str,
    seed: int,
    size: int | None,
    count: int,
    network: Network,
    extraction: Extraction,
    cache: Path,
) -> dict[str, Any] | None:
    """What decides a network and the numbers it gives; None when that is not all on this machine."""
    if arch.startswith("hf-hub:"):  # its configuration may change under the same name
        return None
    file = Path(weights) if is_file(weights) else published_file(arch, weights)
    if file is None and weights != "scratch":
        return None
    content = FileHashes(cache).hash([file])[0] if file else f"seed {seed}"
    device = pick_device(extraction.device).partition(":")[0]
    numerics = {name: value for name, value in asdict(extraction).items() if name not in ("batch_size", "num_workers")}
    return {
        "arch": arch,
        "weights": weights,
        "content": content,
        "size": size,
        **asdict(replace(network, image_size=size)),
        **numerics,
        "images": count if extraction.compile == "auto" else None,  # a long job is compiled
        "device": device,
        "versions": versions(),
    }


def published_file(arch: str, weights: str) -> Path | None:
    """Where published weights lie on this machine; None for scratch, or where they have not been fetched yet."""
    if weights == "scratch":
        return None
    from probe.backbones import published_tag
    from probe.backbones.catalog import find_source

    source = find_source(arch)
    return source.published(published_tag(source, weights) or "").file
