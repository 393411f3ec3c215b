"""Probes compared with training: `probe check`."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from probe.commands.drawing import draw_all
from probe.commands.options import (
    Command,
    as_json,
    cache_folder,
    data_source,
    one_arch,
    out_folder,
    settings,
    several_weights,
)
from probe.settings import Network, Reading, Training, Tuning
from probe.settings.training import SEARCHES, STRATEGIES


@click.command(cls=Command)
@one_arch
@several_weights
@data_source
@click.option(
    "--tap",
    "taps",
    multiple=True,
    help="Tap at which to cut, by name or index; repeatable.  [default: spread over depth, and recommended]",
)
@click.option(
    "--strategy", "strategies", multiple=True, type=click.Choice(STRATEGIES), default=["lp", "ftl", "lp-ft"],
    show_default=True,
    help="Fine-tuning strategy; repeatable. Scratch weights are trained by ftl alone.",
)  # fmt: skip
@click.option(
    "--search", type=click.Choice(SEARCHES), default="none", show_default=True,
    help="How the taps are found. two-stage: train at the ends of stages, then around the best of them.",
)  # fmt: skip
@click.option("--seeds", default=2, show_default=True, help="Number of seeds from which each network is trained.")
@out_folder
@cache_folder
@as_json
@settings(Reading, Network, Training, Tuning)
def check(
    arch: str, weights: Sequence[str], data: str, taps: Sequence[str], strategies: Sequence[str], search: str,
    seeds: int, out: Path, cache: Path | None, as_json: bool,
    reading: Reading, network: Network, training: Training, tuning: Tuning,
) -> None:  # fmt: skip
    """Check the probes by training: cut the network at several taps, fine-tune each, and compare.

    \b
    Example:
      probe check --arch resnet50 --data my_images/labels.csv
    """
    if seeds < 1:
        raise click.BadParameter("at least 1", param_hint="--seeds")
    from probe.base.runtime import check_folder
    from probe.records.result_rows import to_json
    from probe.studies.check import cell_table, write_check
    from probe.studies.check import check as compare

    check_folder(out)
    comparison = compare(
        arch, weights, data, taps=taps, strategies=strategies, seeds=range(seeds), search=search,
        out=out, reading=reading, network=network, training=training, tuning=tuning, cache=cache,
    )  # fmt: skip
    files = write_check(comparison)
    files += draw_all(
        ["probe-and-trained", "strategies"], comparison.record, comparison.study.data.name, training.metric
    )
    if as_json:
        verdicts = [
            {"weights": source, "strategy": strategy, **asdict(verdict)}
            for source, strategy, verdict in comparison.verdicts
        ]
        table: Any = cell_table(comparison).to_dict(orient="records")
        searches = [{"weights": source, "strategy": name, **asdict(each)} for source, name, each in comparison.searches]
        facts = {"verdicts": verdicts, "searches": searches, "cells": table}
        click.echo(to_json({**facts, "seconds": comparison.seconds, "files": files}))
        return
    click.echo("\n".join([*_lines(comparison, training.metric), "written: " + ", ".join(files)]))


def _lines(found: Any, metric: str) -> list[str]:
    from probe.records.display_names import metric_label
    from probe.records.text_tables import text_table
    from probe.studies.check import cell_table

    means = cell_table(found).groupby(["weights", "tap", "strategy"], sort=False).mean(numeric_only=True).reset_index()
    cells = [
        [
            *(line["weights"], line["tap"], line["strategy"], f"{line['params'] / 1e6:.2f}M"),
            *(f"{line['val']:.3f}", f"{line['test']:.3f}", f"{line['seconds']:.0f}"),
        ]
        for line in means.to_dict(orient="records")
    ]
    lines = [text_table(["weights", "tap", "strategy", "params", "val", "test", "seconds"], cells)]
    for weights, strategy, verdict in found.verdicts:
        order = f"Spearman {_told(verdict.spearman)}, Kendall {_told(verdict.kendall)}"
        regrets = f"{_told(verdict.regret)} (oracle {verdict.oracle}: {_told(verdict.oracle_regret)})"
        lines += [
            f"{weights}, {strategy}: order of the taps, probe on validation against trained on test: {order}",
            f"  the probe says {verdict.followed}, training everywhere {verdict.chosen}; "
            f"regret in {metric_label(metric)} {regrets}",
        ]
    lines += [line for source, name, each in found.searches for line in _searched(source, name, each, metric)]
    spent = found.seconds
    return [*lines, f"probing took {spent['probing']:.0f} s, training {spent['training']:.0f} s"]


def _searched(weights: str, strategy: str, search: Any, metric: str) -> list[str]:
    from probe.records.display_names import metric_label

    lines = [
        f"{weights}, {strategy}: searched at {', '.join(search.ends)}, then at {', '.join(search.around) or 'none'}: "
        f"{search.found}, with {search.trained} networks trained where training everywhere takes {search.every}"
    ]
    if search.regret is None:
        return [*lines, f"  no oracle: of the other taps, {search.missing} have not been trained with these settings"]
    regrets = f"{_told(search.regret)} (oracle {search.oracle}: {_told(search.oracle_regret)})"
    return [*lines, f"  training everywhere says {search.chosen}; regret in {metric_label(metric)} {regrets}"]


def _told(estimate: Any) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
