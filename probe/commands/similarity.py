"""What taps have in common: `probe similarity`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from probe.commands.options import as_json, cache_folder, data_source, out_folder, settings, weights_text
from probe.errors import ProbeError
from probe.settings import Comparison, Extraction, Network, Reading
from probe.tables import text_table

BATCH = 32  # images compared with each other when maps are; whatever the batch size


@click.command()
@click.option("--arch", "archs", multiple=True, help="A timm id, torchvision:NAME or hf-hub:ORG/NAME; repeatable.")
@click.option("--weights", multiple=True, help=f"{weights_text[:-1]}; repeatable.  [default: pretrained and scratch]")
@data_source
@click.option(
    "--features",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Compare features made elsewhere, a folder of .npy with rows.csv or an .npz, too; repeatable.",
)
@click.option("--seed", default=0, show_default=True, help="Of scratch weights, halves, permutations and batches.")
@out_folder
@cache_folder
@as_json
@settings(Comparison, Reading, Network, Extraction)
def similarity(
    archs: Sequence[str], weights: Sequence[str], data: str, features: Sequence[Path], seed: int, out: Path,
    cache: Path | None, as_json: bool,
    comparison: Comparison, reading: Reading, network: Network, extraction: Extraction,
) -> None:  # fmt: skip
    """Compare the features of all taps, of one network and of every two: how alike they are, with bands and figures.

    \b
    Example:
      probe similarity --arch resnet50 --weights pretrained --weights scratch --data my_images/labels.csv
    """
    if not archs and not features:
        raise click.UsageError("Missing option '--arch', or '--features': give one or both")
    if comparison.maps and features:
        raise click.UsageError("--maps reads images; features made elsewhere are pooled already")
    from probe.data import dataset
    from probe.results import to_json
    from probe.runtime import check_folder

    check_folder(out)
    images = dataset(data, seed=seed, cache=cache, **asdict(reading)) if archs else None
    how = (archs, weights, images, seed, network, extraction)
    if comparison.maps:
        table, notes = _of_maps(*how)
    else:
        table, notes = _of_features(*how, features, comparison, cache)
    try:
        out.mkdir(parents=True, exist_ok=True)
        table.to_csv(out / "similarity.csv", index=False)
        files = [str(out / "similarity.csv"), *_draw(table, images.name if images else "", out)]
    except OSError as error:
        raise ProbeError(f"cannot write results to '{out}': {error.strerror or error}; the features are kept") from None
    if as_json:
        click.echo(to_json({"rows": table.to_dict(orient="records"), **notes, "files": files}))
        return
    click.echo("\n".join([*_lines(table), *(f"{key}: {value}" for key, value in notes.items() if value)]))
    click.echo("written: " + ", ".join(files))


def _of_features(
    archs: Sequence[str], weights: Sequence[str], images: Any, seed: int, network: Network, extraction: Extraction,
    given: Sequence[Path], comparison: Comparison, cache: Path | None,
) -> tuple[Any, dict[str, Any]]:  # fmt: skip
    """Pooled features, all images."""
    import numpy as np

    from analysis.similarity import half_samples, measure
    from analysis.similarity.tables import compare_arms
    from probe.cache import default_folder, read_features
    from probe.recipes import features_of
    from probe.study import for_each_arm

    place = cache or default_folder()
    read = partial(features_of, data=images, seed=seed, network=network, extraction=extraction, cache=place)
    found, skipped = for_each_arm(archs, weights, read) if archs else ({}, [])
    every = [*found.values(), *(read_features(source, seed) for source in given)]
    for each in every[1:]:
        if list(each.ids) != list(every[0].ids):
            raise ProbeError(f"'{every[0].folder}' and '{each.folder}' are not of the same images in the same order")
    generator = np.random.default_rng(seed)
    rows = len(every[0].ids)
    halves = half_samples(rows, every[0].groups, comparison.draws, generator)
    orders = generator.permuted(np.tile(np.arange(rows), (comparison.permutations, 1)), axis=1)
    chosen = {key: value for key, value in asdict(comparison).items() if key in ("unbiased", "bandwidth", "keep", "k")}
    arms = dict(zip(_arm_names([each.origin for each in every]), every, strict=True))
    name = f"unbiased {comparison.measure}" if comparison.unbiased else comparison.measure
    return compare_arms(arms, name, measure(comparison.measure, **chosen), halves, orders), {"skipped": skipped}


def _of_maps(
    archs: Sequence[str], weights: Sequence[str], images: Any, seed: int, network: Network, extraction: Extraction
) -> tuple[Any, dict[str, Any]]:
    """Whole maps, in one pass over batches of images in random order."""
    import numpy as np
    import torch

    from analysis.similarity import MinibatchCKA
    from analysis.similarity.tables import rows_of_maps
    from probe.backbones import backbone
    from probe.runtime import pick_device
    from probe.study import for_each_arm

    how = asdict(network) | {"image_size": network.image_size or images.image_size}
    found, skipped = for_each_arm(archs, weights, partial(backbone, seed=seed, **how))
    device = pick_device(extraction.device)
    arms = {
        name: net.eval().to(device)
        for name, net in zip(_arm_names([net.describe() for net in found.values()]), found.values(), strict=True)
    }
    order = np.random.default_rng(seed).permutation(len(images)).tolist()
    seen = MinibatchCKA()
    with torch.inference_mode():
        for batch in _batches(arms, images, order, extraction):
            seen.update(_maps(arms, batch, device))
    places = [(arm, tap) for arm, net in arms.items() for tap in net.taps]
    facts = {"images": seen.images, "left_out": seen.left_out, "batches": seen.batches}
    return rows_of_maps(places, "minibatch cka", seen.matrix()), {"skipped": skipped, **facts}


def _batches(
    arms: Mapping[str, Any], images: Any, order: Sequence[int], extraction: Extraction
) -> Iterator[tuple[Any, ...]]:
    """The same images as each network takes them."""
    from dataclasses import replace

    from probe.extraction import read_batches, transform

    same = replace(extraction, batch_size=BATCH)
    prepared = [transform(net.origin.preprocessing) for net in arms.values()]
    yield from zip(*(read_batches(images.images, prepare, same, order) for prepare in prepared), strict=True)


def _maps(arms: Mapping[str, Any], batch: Sequence[Any], device: str) -> Iterator[tuple[str, Any]]:
    from probe.readers import moments, normalised

    for (name, net), pixels in zip(arms.items(), batch, strict=True):
        mean, std = moments(net.origin.preprocessing, device)
        for stage, out in net.walk(normalised(pixels.to(device), mean, std)):
            yield f"{name}, {stage.name}", out.float().cpu().numpy()


def _arm_names(origins: Sequence[Mapping[str, Any]]) -> list[str]:
    """What tells networks apart: a file of weights by its stem, unless two have the same."""
    from figures.depth_curve import weights_name

    short = [f"{origin['arch']}, {weights_name(origin['weights'])}" for origin in origins]
    names = short if len(set(short)) == len(short) else [f"{each['arch']}, {each['weights']}" for each in origins]
    if len(set(names)) < len(names):
        raise ProbeError(f"two sets of features are both called '{max(names, key=names.count)}'; compare one of them")
    return names


def _lines(table: Any) -> list[str]:
    """Equal taps of two networks; of a single one, every tap against the last."""
    from figures.similarity import shared_taps

    shown = shared_taps(table)
    if shown.empty:
        shown = table[
            (table["arm_a"] == table["arm_b"]) & (table["tap_b"] == table.groupby("arm_b")["tap_b"].transform("last"))
        ]
    cells = [
        [
            row.arm_a,
            row.tap_a,
            row.arm_b,
            row.tap_b,
            f"{row.value:.3f}",
            f"{row.ci_low:.3f}-{row.ci_high:.3f}",
            f"{row.null:.3f}",
        ]
        for row in shown.itertuples()
    ]
    return [text_table(["network", "tap", "network", "tap", table["measure"].iloc[0], "95 % band", "permuted"], cells)]


def _draw(table: Any, title: str, out: Path) -> list[str]:
    from figures.similarity import heatmaps, lines, shared_taps
    from figures.style import save

    files = []
    for page, figure in enumerate(heatmaps(table, title), 1):
        files += save(figure, out / ("similarity" if page == 1 else f"similarity_{page}"))
    if not shared_taps(table).empty:
        files += save(lines(table, title), out / "similarity_lines")
    return files
