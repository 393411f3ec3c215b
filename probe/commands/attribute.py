"""Attribution, what a class rests on in an image: `probe attribute`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from probe.commands.options import (
    Command,
    arch_text,
    as_json,
    cache_folder,
    data_source,
    out_folder,
    settings,
    weights_text,
)
from probe.settings import Attribution, Batches, Network, Reading

FILE = click.Path(path_type=Path, dir_okay=False)
WHERE = {  # metric: head of its column
    "energy_in_mask": "energy in mask",
    "mask_area": "its area",
    "pointing_game": "pointing game",
    "completeness_gap": "completeness gap",
}
CURVES = {
    "deletion_area": "deletion",
    "deletion_area_random": "at random",
    "insertion_area": "insertion",
    "insertion_area_random": "at random",
}
DRAWN = "rank correlation of the maps with those of re-initialised weights"


@click.command(cls=Command)
@click.option("--arch", help=f"{arch_text[:-1]}, with linear probes as heads.")
@click.option(
    "--at", "taps", multiple=True, help="Tap whose linear probe is the head; repeatable.  [default: the last]"
)
@click.option("--weights", multiple=True, help=f"Weights: {weights_text[:-1]}; repeatable.  [default: pretrained]")
@click.option("--model", "models", multiple=True, type=FILE, help="Network saved by truncate or finetune; repeatable.")
@data_source
@click.option(
    "--masks",
    type=click.Path(path_type=Path),
    help="Masks of the labelled objects: a folder of images, or a .csv of boxes (file,x0,y0,x1,y1).",
)
@click.option(
    "--seed", default=0, show_default=True, help="Seed of scratch weights, splits, sampled images and baselines."
)
@out_folder
@cache_folder
@as_json
@settings(Attribution, Reading, Network, Batches)
def attribute(
    arch: str | None, taps: Sequence[str], weights: Sequence[str], models: Sequence[Path], data: str,
    masks: Path | None, seed: int, out: Path, cache: Path | None, as_json: bool,
    attribution: Attribution, reading: Reading, network: Network, batches: Batches,
) -> None:  # fmt: skip
    """Attribute the logit of a class to pixels: for linear probes at taps of a network, or for a saved network.

    \b
    Example:
      probe attribute --arch resnet50 --at layer2.3 --at layer4.2 --data my_images/labels.csv
    """
    if not arch and not models:
        raise click.UsageError("Missing option '--arch', or '--model': give one or both")
    if not arch and (taps or weights):
        raise click.UsageError("--at and --weights go with --arch; a saved network has its own")
    from probe.base.runtime import check_folder
    from probe.commands.drawing import draw_all
    from probe.records.result_rows import records, to_json
    from probe.studies.attribution import attribute as explain

    check_folder(out)
    explained = explain(
        arch, data, weights=weights, taps=taps, models=models, masks=masks, seed=seed, attribution=attribution,
        reading=reading, network=network, batches=batches, cache=cache, out=out,
    )  # fmt: skip
    name, record = f"attribution_{attribution.method}.csv", explained.record
    files = record.export({name: explained.table.to_csv(index=False)}) + record.rebuild()
    files += draw_all(["attribution"], record, explained.run.facts["data"]["name"], run=explained.run)
    if as_json:
        click.echo(to_json({"rows": records(explained.rows), "files": files}))
        return
    click.echo("\n".join([*_lines(explained.rows), "written: " + ", ".join(files)]))


def _lines(rows: Any) -> list[str]:
    """Means over all images: of the maps, of curves, and of how maps change as weights are re-initialised."""
    from probe.studies.attribution import RANDOMISED

    whole = rows[rows["class"] == "micro"]
    plain = whole[whole["strategy"].isna()]
    tables = [_table(plain, "metric", WHERE), _table(plain, "metric", CURVES)]
    ranks = whole[whole["metric"] == "rank_correlation"]
    last = ranks.groupby(["arm", "tap"], sort=False)["strategy"].transform("last")
    ends = ranks[ranks["strategy"].isin([f"{RANDOMISED}head"]) | (ranks["strategy"] == last)]
    heads = {part: part.removeprefix(RANDOMISED) for part in ends["strategy"]}
    drawn = _table(ends, "strategy", {part: end if end == "head" else f"down to {end}" for part, end in heads.items()})
    return [line for table in (*tables, [f"{DRAWN}:", *drawn] if drawn else []) for line in table]


def _table(rows: Any, column: str, heads: dict[str, str]) -> list[str]:
    """A line per network and tap, a column per known one of `heads`."""
    from probe.records.text_tables import text_table

    found = {name: head for name, head in heads.items() if rows[column].eq(name).any()}
    rows = rows[rows[column].isin(found)]
    cells = []
    for (arm, tap), part in rows.groupby(["arm", "tap"], sort=False):
        known = dict(zip(part[column], part.apply(_number, axis=1), strict=True))
        cells.append([arm, tap, *(known.get(name, "-") for name in found)])
    return [text_table(["network", "tap", *found.values()], cells), ""] if cells else []


def _number(row: Any) -> str:
    if row.value != row.value:
        return "-"
    interval = "" if row.ci_low != row.ci_low else f" ({row.ci_low:.3f}-{row.ci_high:.3f})"
    return f"{row.value:.3f}{interval}"
