"""Similarity of taps: `probe similarity`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from math import isnan
from pathlib import Path
from typing import Any

import click

from probe.base.errors import ProbeError
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
from probe.settings import Comparison, Extraction, Network, Reading
from probe.studies.similarity import of_features, of_maps


@click.command(cls=Command)
@several_archs
@several_weights
@data_source
@made_elsewhere("Compare", "as further networks")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    help="With svcca and pwcca, the results.jsonl of 'probe layerwise': scores over the correlations.",
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
    from figures.similarity import figures_of
    from figures.style import save
    from probe.base.runtime import check_folder
    from probe.data import dataset
    from probe.records.rows import to_json

    check_folder(out)
    images = dataset(data, seed=seed, cache=cache, **asdict(reading)) if archs else None
    how = (archs, weights, images, seed, network, extraction)
    if comparison.maps:
        table, notes, arms = of_maps(*how, comparison)
    else:
        table, notes, arms = of_features(*how, features, comparison, cache)
    try:
        out.mkdir(parents=True, exist_ok=True)
        table = table.assign(dataset=images.name if images else "")
        table.to_csv(out / "similarity.csv", index=False)
        drawn = figures_of(table).items()
        files = [str(out / "similarity.csv"), *(file for stem, figure in drawn for file in save(figure, out / stem))]
        if comparison.measure in ("svcca", "pwcca"):
            files += _correlations(arms, comparison, results, seed, out)
    except OSError as error:
        raise ProbeError(f"cannot write results to '{out}': {error.strerror or error}; the features are kept") from None
    if as_json:
        click.echo(to_json({"rows": table.to_dict(orient="records"), **notes, "files": files}))
        return
    click.echo("\n".join([*_lines(table), *(f"{key}: {value}" for key, value in notes.items() if value)]))
    click.echo("written: " + ", ".join(files))


def _lines(table: Any) -> list[str]:
    """Equal taps of two networks; of a single one, every tap against the last."""
    from figures.similarity import shared_taps

    shown = shared_taps(table)
    if shown.empty:
        shown = table[
            (table["arm_a"] == table["arm_b"]) & (table["tap_b"] == table.groupby("arm_b")["tap_b"].transform("last"))
        ]
    cells = [
        [row.arm_a, row.tap_a, row.arm_b, row.tap_b, f"{row.value:.3f}", _band(row), _number(row.null)]
        for row in shown.itertuples()
    ]
    return [text_table(["network", "tap", "network", "tap", table["measure"].iloc[0], "95 % band", "permuted"], cells)]


def _band(row: Any) -> str:
    return "-" if isnan(row.ci_low) else f"{row.ci_low:.3f}-{row.ci_high:.3f}"


def _number(value: Any) -> str:
    return "-" if isnan(value) else f"{value:.3f}"


def _correlations(
    arms: Mapping[str, Any], comparison: Comparison, results: Path | None, seed: int, out: Path
) -> list[str]:
    """For every two networks with the same taps: the canonical correlations behind SVCCA or PWCCA.

    Those of an earlier run are removed, for they would be drawn again as if they were of this one.
    """
    import numpy as np

    from analysis.similarity.tables import cca_table
    from figures.cca_boxes import figure_of
    from figures.style import save

    files: list[str] = []
    keep = comparison.keep if comparison.measure == "svcca" else 1.0
    shared = [(a, b) for a, b in combinations(arms, 2) if list(arms[a]) == list(arms[b])]
    for earlier in out.glob("cca*.csv"):
        if re.fullmatch(r"cca(_\d+)?", earlier.stem):
            earlier.unlink()
    for number, (a, b) in enumerate(shared, 1):
        table = cca_table(arms[a], arms[b], keep, np.random.default_rng(seed))
        stem = out / ("cca" if number == 1 else f"cca_{number}")
        scores = {} if results is None else _scores(results, arms[b].origin)
        table = table.assign(arm_a=a, arm_b=b, score=table["tap"].map(scores))
        table.to_csv(f"{stem}.csv", index=False)
        files += [f"{stem}.csv", *save(figure_of(table), stem)]
    return files


def _scores(results: Path, origin: Mapping[str, Any]) -> dict[str, float]:
    """The test AUROC of every tap of a network in results, the mean over seeds."""
    from probe.records.rows import read_rows

    rows = read_rows(results)
    wanted = {
        "arch": origin["arch"],
        "weights": origin["weights"],
        "metric": "auroc",
        "class": "macro",
        "split": "test",
    }
    for column, value in wanted.items():
        rows = rows[rows[column].eq(value)]
    if rows.empty:
        raise ProbeError(f"'{results}' has no test AUROC of {origin['arch']} with the weights {origin['weights']}")
    means = rows.groupby("tap")["value"].mean()
    return dict(zip(means.index, means, strict=True))
