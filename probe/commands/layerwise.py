"""The main job: `probe layerwise`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from probe.commands.drawing import draw_all
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
from probe.settings import Controls, Extraction, Network, ProbeGrid, Reading
from probe.settings.probing import PROBES


@click.command(cls=Command)
@several_archs
@several_weights
@data_source
@made_elsewhere("Probe", "in place of --arch")
@click.option(
    "--probe",
    "probes",
    multiple=True,
    default=["linear"],
    show_default=True,
    type=click.Choice(PROBES),
    help="Kind of probe: linear, MLP, nearest neighbours (knn), nearest class mean (ncm); repeatable.",
)
@click.option(
    "--seeds", default=1, show_default=True, help="Number of seeds, for scratch weights and for drawn splits."
)
@out_folder
@cache_folder
@as_json
@settings(Reading, Network, Extraction, ProbeGrid, Controls)
def layerwise(
    archs: Sequence[str], weights: Sequence[str], data: str, features: Sequence[Path], probes: Sequence[str],
    seeds: int, out: Path, cache: Path | None, as_json: bool,
    reading: Reading, network: Network, extraction: Extraction, probegrid: ProbeGrid, controls: Controls,
) -> None:  # fmt: skip
    """Probe every tap: how well the labels can be predicted at each depth, and where to cut.

    \b
    Example:
      probe layerwise --arch resnet50 --data my_images/labels.csv
    """
    if seeds < 1:
        raise click.BadParameter("at least 1", param_hint="--seeds")
    if bool(archs) == bool(features):
        raise click.UsageError("Missing option '--arch', or '--features': give one of the two")
    from probe.base.runtime import check_folder
    from probe.records.result_rows import to_json
    from probe.studies.given_features import run_features
    from probe.studies.layerwise import run_layerwise
    from probe.studies.layerwise_report import summary_lines, write_study

    check_folder(out)
    how: dict[str, Any] = {"probes": probes, "grid": probegrid, "controls": controls, "out": out}
    if features:
        study = run_features(features, seeds=range(seeds), device=extraction.device, **how)
    else:
        study = run_layerwise(
            archs, weights, data, seeds=range(seeds),
            reading=reading, network=network, extraction=extraction, cache=cache, **how,
        )  # fmt: skip
    files = write_study(study)
    names = ["depth-curve", *(["training-sizes"] if controls.n_train else [])]
    files += draw_all(names, study.record, study.data.name, probegrid.metric)
    if as_json:
        answer = {"arms": study.summaries(), "skipped": study.skipped, "skipped_images": study.data.skipped}
        click.echo(to_json({**answer, "files": files}))
        return
    click.echo("\n".join(summary_lines(study)))
    click.echo("written: " + ", ".join(files))
