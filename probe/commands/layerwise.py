"""The main job: `probe layerwise`."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from probe.base.errors import ProbeError
from probe.commands.options import (
    as_json,
    cache_folder,
    data_source,
    made_elsewhere,
    out_folder,
    settings,
    several_archs,
    several_weights,
)
from probe.settings import Checks, Extraction, Network, ProbeGrid, Reading
from probe.settings.probing import PROBES


@click.command()
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
    help="Linear or MLP probe, nearest neighbours, nearest class mean; repeatable.",
)
@click.option(
    "--seeds", default=1, show_default=True, help="How often to repeat what is random: scratch weights, drawn splits."
)
@out_folder
@cache_folder
@as_json
@settings(Reading, Network, Extraction, ProbeGrid, Checks)
def layerwise(
    archs: Sequence[str], weights: Sequence[str], data: str, features: Sequence[Path], probes: Sequence[str],
    seeds: int, out: Path, cache: Path | None, as_json: bool,
    reading: Reading, network: Network, extraction: Extraction, probegrid: ProbeGrid, checks: Checks,
) -> None:  # fmt: skip
    """Probe every tap: how well the labels can be read at each depth, and where to cut.

    \b
    Example:
      probe layerwise --arch resnet50 --data my_images/labels.csv
    """
    if seeds < 1:
        raise click.BadParameter("at least 1", param_hint="--seeds")
    if bool(archs) == bool(features):
        raise click.UsageError("Missing option '--arch', or '--features': give one of the two")
    from probe.base.runtime import check_folder
    from probe.records.rows import to_json
    from probe.studies.layerwise import run_features, run_layerwise
    from probe.studies.layerwise_words import facts, summary_lines, write_study

    check_folder(out)
    how: dict[str, Any] = {"probes": probes, "grid": probegrid, "checks": checks}
    if features:
        study = run_features(features, seeds=range(seeds), device=extraction.device, **how)
    else:
        study = run_layerwise(
            archs, weights, data, seeds=range(seeds),
            reading=reading, network=network, extraction=extraction, cache=cache, **how,
        )  # fmt: skip
    kinds = (("reading", reading), ("network", network), ("extraction", extraction), ("grid", probegrid))
    chosen: dict[str, Any] = {"probes": list(probes), "checks": asdict(checks)}
    chosen |= {kind: asdict(of) for kind, of in kinds}
    try:
        files = write_study(study, facts(study, chosen, ["probe", *sys.argv[1:]]), out)
        files += _draw(study, out)
    except OSError as error:
        raise ProbeError(f"cannot write results to '{out}': {error.strerror or error}; the features are kept") from None
    if as_json:
        found = {"arms": study.summaries(), "skipped": study.skipped, "skipped_images": study.data.skipped}
        click.echo(to_json({**found, "files": files}))
        return
    click.echo("\n".join(summary_lines(study)))
    click.echo("written: " + ", ".join(files))


def _draw(study: Any, out: Path) -> list[str]:
    from figures.depth_curve import depth_curve
    from figures.style import save
    from figures.training_sizes import training_sizes

    marks = [
        {key: arm[key] for key in ("arch", "weights", "method")}
        | {"tap": (arm["earliest_sufficient"] or arm["best"])["tap"]}
        for arm in study.summaries()
    ]
    files = save(depth_curve(study.rows, marks, study.skipped, metric=study.grid.metric), out / "layerwise")
    if (study.rows["study"] == "training_size").any():
        files += save(training_sizes(study.rows, metric=study.grid.metric), out / "training_sizes")
    return files
