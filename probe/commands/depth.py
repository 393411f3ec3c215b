"""Prediction depth of every image: `probe depth`."""

from pathlib import Path
from typing import Any

import click

from probe.commands.options import (
    Command,
    as_json,
    cache_folder,
    data_source,
    one_arch,
    one_weights,
    out_folder,
    settings,
)
from probe.settings import Depths, Extraction, Network, Reading


@click.command(cls=Command)
@one_arch
@one_weights
@data_source
@click.option("--seed", default=0, show_default=True, help="Seed of scratch weights and of drawn splits.")
@out_folder
@cache_folder
@as_json
@settings(Depths, Reading, Network, Extraction)
def depth(
    arch: str, weights: str, data: str, seed: int, out: Path, cache: Path | None, as_json: bool,
    depths: Depths, reading: Reading, network: Network, extraction: Extraction,
) -> None:  # fmt: skip
    """Measure prediction depth: for every image, the tap from which on its prediction stays the same.

    \b
    Example:
      probe depth --arch resnet50 --data my_images/labels.csv
    """
    from probe.base.runtime import check_folder
    from probe.commands.drawing import draw_all
    from probe.records.result_rows import records, to_json
    from probe.studies.depth import depth as settle

    check_folder(out)
    settled = settle(
        arch, weights, data, seed=seed, depths=depths, reading=reading, network=network, extraction=extraction,
        cache=cache, out=out,
    )  # fmt: skip
    files = settled.record.export({"depth.csv": settled.table.to_csv(index=False)}) + settled.record.rebuild()
    files += draw_all(["prediction-depth"], settled.record, settled.run.facts["data"]["name"], run=settled.run)
    if as_json:
        click.echo(to_json({"rows": records(settled.rows), "files": files}))
        return
    click.echo("\n".join(_lines(settled.rows)))
    click.echo("written: " + ", ".join(files))


def _lines(rows: Any) -> list[str]:
    """Two tables: shares settled by tap, mean depths by class."""
    from probe.records.text_tables import text_table

    settled, means = rows[rows["metric"] == "settled"], rows[rows["metric"].str.startswith("prediction_depth")]
    by_tap = [[row.tap, f"{row.depth:.2f}", *_interval(row)] for row in settled.itertuples()]
    by_kind = [
        [row.metric.removeprefix("prediction_depth").lstrip("_") or kind, *_interval(row)]
        for row, kind in zip(means.itertuples(), means["class"], strict=True)
    ]
    return [
        text_table(["tap", "depth", "settled", "95 % interval"], by_tap),
        "",
        text_table(["images", "mean depth", "95 % interval"], by_kind),
    ]


def _interval(row: Any) -> list[str]:
    return [f"{row.value:.3f}", f"{row.ci_low:.3f}-{row.ci_high:.3f}"]
