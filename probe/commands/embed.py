"""Embeddings, images as taps see them: `probe embed`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import Any

import click

from probe.base.errors import ProbeError
from probe.base.lookup import find_index
from probe.commands.options import (
    Command,
    as_json,
    cache_folder,
    data_source,
    made_elsewhere,
    out_folder,
    settings,
    several_archs,
    several_weights,
)
from probe.records.text import text_table
from probe.settings import Embedding, Extraction, Network, Reading
from probe.studies.similarity import features_by_arm

SPREAD = 6  # taps drawn by default
THUMBNAIL = 64  # pixels


@click.command(cls=Command)
@several_archs
@several_weights
@data_source
@click.option("--tap", "taps", multiple=True, help="Tap to embed; repeatable.  [default: six, spread over the depth]")
@made_elsewhere("Embed", "as further networks")
@click.option(
    "--label", default="", help="Label that gives the colour, where images have several.  [default: whether any]"
)
@click.option("--thumbnails", is_flag=True, help="Also draw a figure with images in place of points.")
@click.option("--seed", default=0, show_default=True, help="Seed of maps, sampled images and scratch weights.")
@out_folder
@cache_folder
@as_json
@settings(Embedding, Reading, Network, Extraction)
def embed(
    archs: Sequence[str], weights: Sequence[str], data: str, taps: Sequence[str], features: Sequence[Path],
    label: str, thumbnails: bool, seed: int, out: Path, cache: Path | None, as_json: bool,
    embedding: Embedding, reading: Reading, network: Network, extraction: Extraction,
) -> None:  # fmt: skip
    """Embed images in two dimensions, as several taps see them: coordinates, their quality, a figure.

    \b
    Example:
      probe embed --arch resnet50 --weights pretrained --weights scratch --data my_images/labels.csv
    """
    if not archs and not features:
        raise click.UsageError("Missing option '--arch', or '--features': give one or both")
    if thumbnails and not archs:
        raise click.UsageError("--thumbnails shows images, and features made elsewhere come without: give '--arch' too")
    from probe.base.runtime import check_folder
    from probe.data import dataset
    from probe.records.rows import to_json

    check_folder(out)
    images = dataset(data, seed=seed, cache=cache, **asdict(reading)) if archs else None
    arms, skipped = features_by_arm(archs, weights, images, seed, network, extraction, features, cache)
    points, maps = _embed(arms, taps, label, seed, embedding)
    try:
        out.mkdir(parents=True, exist_ok=True)
        files = _write(points, maps, images if thumbnails else None, out / f"embedding_{embedding.method}")
    except OSError as error:
        raise ProbeError(f"cannot write results to '{out}': {error.strerror or error}; the features are kept") from None
    if as_json:
        click.echo(to_json({"rows": maps.to_dict(orient="records"), "skipped": skipped, "files": files}))
        return
    click.echo("\n".join([_lines(maps), *([f"skipped: {skipped}"] if skipped else [])]))
    click.echo("written: " + ", ".join(files))


def _embed(arms: Mapping[str, Any], taps: Sequence[str], label: str, seed: int, embedding: Embedding) -> Any:
    """Points and maps of some taps of every arm, and in the latter what they are maps of."""
    import numpy as np

    from analysis.embedding import embed_arms, one_label, subsample

    data = next(iter(arms.values())).data
    for arm, each in arms.items():
        if each.data.classes != data.classes or not np.array_equal(each.labels, data.labels):
            raise ProbeError(f"'{next(iter(arms))}' and '{arm}' do not have the same labels")
    labels = one_label(data.labels, data.classes, label)
    rows = subsample(labels, embedding.sample, np.random.default_rng(seed))
    chosen = {arm: {tap: each[tap] for tap in _some(list(each), taps)} for arm, each in arms.items()}
    how = {name: value for name, value in asdict(embedding).items() if name != "sample"}
    points, maps = embed_arms(chosen, data.ids, labels, rows, silhouettes=data.task != "multilabel", seed=seed, **how)
    known = {"dataset": data.name, "images": len(rows), "of": len(data), "seed": seed}
    return points, maps.assign(**known, **how)


def _some(every: list[str], wanted: Sequence[str]) -> list[str]:
    """The taps asked for, or some spread over the depth, bottom to top."""
    if wanted:
        return [every[place] for place in sorted({find_index("tap", tap, every) for tap in wanted})]
    count = min(SPREAD, len(every))
    return [every[round(at * (len(every) - 1) / max(1, count - 1))] for at in range(count)]


def _write(points: Any, maps: Any, images: Any, stem: Path) -> list[str]:
    from figures.embedding_grid import embedding_grid
    from figures.style import save

    tables = [f"{stem}.csv", f"{stem}_maps.csv"]
    for table, name in zip((points, maps), tables, strict=True):
        table.to_csv(name, index=False)
    files = [*tables, *save(embedding_grid(points, maps), stem)]
    if images:
        files += save(embedding_grid(points, maps, _pictures(points, images)), f"{stem}_images")
    return files


def _pictures(points: Any, images: Any) -> dict[str, Any]:
    """Small pictures of the images that the figure has room for."""
    import numpy as np

    from figures.embedding_panel import spread_images

    place = {name: row for row, name in enumerate(images.ids.tolist())}
    found = {}
    for name in spread_images(points)["image"].unique():
        picture = images.images.load(place[name])
        picture.thumbnail((THUMBNAIL, THUMBNAIL))
        found[name] = np.asarray(picture)
    return found


def _lines(maps: Any) -> str:
    names = ["trustworthiness", "silhouette", "silhouette_map"]
    cells = [
        [row["arm"], row["tap"], *("-" if isnan(row[name]) else f"{row[name]:.3f}" for name in names)]
        for row in maps.to_dict(orient="records")
    ]
    return text_table(["network", "tap", "trustworthiness", "silhouette", "on the map"], cells)
