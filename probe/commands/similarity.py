"""Similarity of taps: `probe similarity`."""

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
from probe.settings import Comparison, Extraction, Network, Reading


@click.command(cls=Command)
@several_archs
@several_weights
@data_source
@made_elsewhere("Compare", "as further networks")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    help="With svcca and pwcca, a folder that 'probe layerwise' wrote into: scores over the correlations.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of scratch weights, halves, permutations and batches.")
@out_folder
@cache_folder
@as_json
@settings(Comparison, Reading, Network, Extraction)
def similarity(
    archs: Sequence[str], weights: Sequence[str], data: str, features: Sequence[Path], results: Path | None,
    seed: int, out: Path, cache: Path | None, as_json: bool,
    comparison: Comparison, reading: Reading, network: Network, extraction: Extraction,
) -> None:  # fmt: skip
    """Compare the features of all taps, within a network and between networks: similarity, bands and figures.

    \b
    Example:
      probe similarity --arch resnet50 --weights pretrained --weights scratch --data my_images/labels.csv
    """
    if not archs and not features:
        raise click.UsageError("Missing option '--arch', or '--features': give one or both")
    if comparison.maps and features:
        raise click.UsageError("--maps reads images; features made elsewhere are pooled already")
    if results and comparison.measure not in ("svcca", "pwcca"):
        raise click.UsageError("--results draws scores over canonical correlations: take --measure svcca or pwcca")
    from probe.base.runtime import check_folder
    from probe.commands.drawing import draw_all
    from probe.features import read_features
    from probe.records.result_rows import records, to_json
    from probe.studies.similarity import similarity as compare

    check_folder(out)
    compared = compare(
        [*archs, *(read_features(source, seed) for source in features)], weights, data, seed=seed, results=results,
        comparison=comparison, reading=reading, network=network, extraction=extraction, cache=cache, out=out,
    )  # fmt: skip
    tables = {"similarity": compared.table, **compared.correlations}
    files = compared.record.export({f"{stem}.csv": table.to_csv(index=False) for stem, table in tables.items()})
    names = ["similarity", *(["cca-boxes"] if compared.correlations else [])]
    files += draw_all(names, compared.record, compared.run.facts["data"]["name"], run=compared.run)
    notes: dict[str, Any] = {"skipped": compared.skipped, **compared.counts}
    if as_json:
        click.echo(to_json({"rows": records(compared.table), **notes, "files": files}))
        return
    click.echo("\n".join([_lines(compared.table), *(f"{key}: {value}" for key, value in notes.items() if value)]))
    click.echo("written: " + ", ".join(files))


def _lines(table: Any) -> str:
    """Equal taps of two networks; of a single one, every tap against the last."""
    from figures.similarity import shared_taps
    from probe.records.text_tables import text_table

    shown = shared_taps(table)
    if shown.empty:
        shown = table[
            (table["arm_a"] == table["arm_b"]) & (table["tap_b"] == table.groupby("arm_b")["tap_b"].transform("last"))
        ]
    cells = [
        [row.arm_a, row.tap_a, row.arm_b, row.tap_b, f"{row.value:.3f}", _band(row), _number(row.null)]
        for row in shown.itertuples()
    ]
    return text_table(["network", "tap", "network", "tap", table["measure"].iloc[0], "95 % band", "permuted"], cells)


def _band(row: Any) -> str:
    return "-" if isnan(row.ci_low) else f"{row.ci_low:.3f}-{row.ci_high:.3f}"


def _number(value: Any) -> str:
    return "-" if isnan(value) else f"{value:.3f}"
