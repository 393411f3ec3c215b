"""Features: `probe extract`."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from probe.commands.options import Command, as_json, cache_folder, data_source, one_arch, one_weights, settings
from probe.records.text_tables import text_table
from probe.settings import Extraction, Network, Reading


@click.command(cls=Command)
@one_arch
@one_weights
@data_source
@click.option("--seed", default=0, show_default=True, help="Seed of scratch weights and of drawn splits.")
@cache_folder
@as_json
@settings(Reading, Network, Extraction)
def extract(
    arch: str,
    weights: str,
    data: str,
    seed: int,
    cache: Path | None,
    as_json: bool,
    reading: Reading,
    network: Network,
    extraction: Extraction,
) -> None:
    """Extract the features of every tap into the cache, and print where they are.

    \b
    Example:
      probe extract --arch resnet50 --weights scratch
    """
    from probe.backbones import NetworkSpec
    from probe.base.runtime import default_folder
    from probe.data import dataset
    from probe.features.by_spec import features_of

    table = dataset(data, seed=seed, cache=cache, **asdict(reading))
    features = features_of(NetworkSpec.of(network, arch, weights, seed), table, extraction, cache or default_folder())
    if as_json:
        shapes = {tap: list(array.shape) for tap, array in features.items()}
        click.echo(json.dumps({"folder": str(features.folder), "taps": shapes, "skipped": table.skipped}))
        return
    click.echo(text_table(["tap", "rows", "width"], [[tap, *array.shape] for tap, array in features.items()]))
    click.echo(str(features.folder))
