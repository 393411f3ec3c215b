"""Embeddings, images as taps see them: `probe embed`."""

from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Any

import click

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
from probe.settings import Embedding, Extraction, Network, Reading


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
    from probe.commands.drawing import draw_all
    from probe.features import read_features
    from probe.records.result_rows import records, to_json
    from probe.studies.embedding import embed as embed_images

    check_folder(out)
    embedded = embed_images(
        [*archs, *(read_features(source, seed) for source in features)], weights, data, taps=taps, label=label,
        thumbnails=thumbnails, seed=seed, embedding=embedding, reading=reading, network=network, extraction=extraction,
        cache=cache, out=out,
    )  # fmt: skip
    tables = {"": embedded.points, "_maps": embedded.maps}
    stem = f"embedding_{embedding.method}"
    files = embedded.record.export({f"{stem}{end}.csv": table.to_csv(index=False) for end, table in tables.items()})
    files += draw_all(["embedding"], embedded.record, embedded.run.facts["data"]["name"], run=embedded.run)
    if as_json:
        click.echo(to_json({"rows": records(embedded.maps), "skipped": embedded.skipped, "files": files}))
        return
    click.echo("\n".join([_lines(embedded.maps), *([f"skipped: {embedded.skipped}"] if embedded.skipped else [])]))
    click.echo("written: " + ", ".join(files))


def _lines(maps: Any) -> str:
    from probe.records.text_tables import text_table

    names = ["trustworthiness", "silhouette", "silhouette_map"]
    cells = [
        [row["arm"], row["tap"], *("-" if isnan(row[name]) else f"{row[name]:.3f}" for name in names)]
        for row in maps.to_dict(orient="records")
    ]
    return text_table(["network", "tap", "trustworthiness", "silhouette", "on the map"], cells)
