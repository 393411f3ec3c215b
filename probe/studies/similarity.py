"""Networks side by side: pooled features of the same images, and what `probe similarity` compares, these or maps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from probe.backbones import NetworkSpec
from probe.base.errors import ProbeError
from probe.settings import Comparison, Extraction, Network

BATCH = 32  # images compared with each other when maps are; whatever the batch size


def features_by_arm(
    archs: Sequence[str], weights: Sequence[str], images: Any, seed: int, network: Network, extraction: Extraction,
    given: Sequence[Path], cache: Path | None,
) -> tuple[dict[str, Any], list[dict[str, str]]]:  # fmt: skip
    """Pooled features of the same images, read off networks and made elsewhere, and the arms that were skipped."""
    from probe.base.runtime import default_folder
    from probe.features import read_features
    from probe.features.named import features_of
    from probe.studies.layerwise import for_each_arm

    place = cache or default_folder()

    def read(arch: str, source: str) -> Any:
        return features_of(NetworkSpec.of(network, arch, source, seed), images, extraction, place)

    found, skipped = for_each_arm(archs, weights, read) if archs else ({}, [])
    every = [*found.values(), *(read_features(source, seed) for source in given)]
    for each in every[1:]:
        if list(each.ids) != list(every[0].ids):
            raise ProbeError(f"'{every[0].folder}' and '{each.folder}' are not of the same images in the same order")
    return dict(zip(_arm_names([each.origin for each in every]), every, strict=True)), skipped


def of_features(
    archs: Sequence[str], weights: Sequence[str], images: Any, seed: int, network: Network, extraction: Extraction,
    given: Sequence[Path], comparison: Comparison, cache: Path | None,
) -> tuple[Any, dict[str, Any], dict[str, Any]]:  # fmt: skip
    """Pooled features, all images: rows, what is to be said, and the features by arm."""
    import numpy as np

    from analysis.similarity import half_samples, measure
    from analysis.similarity.tables import compare_arms

    arms, skipped = features_by_arm(archs, weights, images, seed, network, extraction, given, cache)
    first = next(iter(arms.values()))
    generator = np.random.default_rng(seed)
    rows = len(first.ids)
    halves = half_samples(rows, first.groups, comparison.draws, generator)
    orders = generator.permuted(np.tile(np.arange(rows), (comparison.permutations, 1)), axis=1)
    chosen = {key: value for key, value in asdict(comparison).items() if key in ("unbiased", "bandwidth", "keep", "k")}
    name = f"unbiased {comparison.measure}" if comparison.unbiased else comparison.measure
    return compare_arms(arms, name, measure(comparison.measure, **chosen), halves, orders), {"skipped": skipped}, arms


def of_maps(
    archs: Sequence[str], weights: Sequence[str], images: Any, seed: int, network: Network, extraction: Extraction,
    comparison: Comparison,
) -> tuple[Any, dict[str, Any], dict[str, Any]]:  # fmt: skip
    """The same of whole maps, in one pass over batches of images in random order; the networks by arm."""
    import numpy as np
    import torch

    from analysis.similarity import MinibatchCKA
    from analysis.similarity.tables import rows_of_maps
    from probe.base.runtime import pick_device
    from probe.studies.layerwise import for_each_arm

    def build(arch: str, source: str) -> Any:
        return NetworkSpec.of(network, arch, source, seed).sized(images.image_size).build()

    found, skipped = for_each_arm(archs, weights, build)
    device = pick_device(extraction.device)
    arms = {
        name: net.to(device)
        for name, net in zip(_arm_names([net.describe() for net in found.values()]), found.values(), strict=True)
    }
    order = np.random.default_rng(seed).permutation(len(images)).tolist()
    seen = MinibatchCKA(comparison.permutations, seed)
    with torch.inference_mode():
        for batch in _batches(arms, images, order, extraction):
            seen.update(_maps(arms, batch, device))
    places = [(arm, tap) for arm, net in arms.items() for tap in net.taps]
    facts = {"images": seen.images, "left_out": seen.left_out, "batches": seen.batches}
    return rows_of_maps(places, "minibatch cka", seen.estimate(comparison.draws)), {"skipped": skipped, **facts}, arms


def _batches(
    arms: Mapping[str, Any], images: Any, order: Sequence[int], extraction: Extraction
) -> Iterator[tuple[Any, ...]]:
    """The same images as each network takes them."""
    from dataclasses import replace

    from probe.features.batches import read_batches, transform

    same = replace(extraction, batch_size=BATCH)
    prepared = [transform(net.origin.preprocessing) for net in arms.values()]
    yield from zip(*(read_batches(images.images, prepare, same, order) for prepare in prepared), strict=True)


def _maps(arms: Mapping[str, Any], batch: Sequence[Any], device: str) -> Iterator[tuple[str, Any]]:
    from probe.features.reader import moments, normalised

    for (name, net), pixels in zip(arms.items(), batch, strict=True):
        mean, std = moments(net.origin.preprocessing, device)
        for stage, out in net.walk(normalised(pixels.to(device), mean, std)):
            yield f"{name}, {stage.name}", out


def _arm_names(origins: Sequence[Mapping[str, Any]]) -> list[str]:
    """What tells networks apart: files of weights by as much of their paths as it takes."""
    from probe.records.labels import weights_names

    called = weights_names(origin["weights"] for origin in origins)
    names = [f"{origin['arch']}, {called[origin['weights']]}" for origin in origins]
    if len(set(names)) < len(names):
        raise ProbeError(f"two sets of features are both called '{max(names, key=names.count)}'; compare one of them")
    return names
