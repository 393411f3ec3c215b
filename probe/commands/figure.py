"""Figures drawn again from the files of earlier commands: `probe figure`."""

from pathlib import Path
from typing import Any

import click

from probe.base.errors import ProbeError, reason
from probe.commands.options import Command, as_json


@click.command(cls=Command)
@click.argument("name", required=False)
@click.option("--list", "listed", is_flag=True, help="List the figures that can be drawn.")
@click.option(
    "--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True,
    help="Folder that other commands wrote into.",
)  # fmt: skip
@click.option("--data", "dataset", help="Name of the data set, if the folder has results of several.")
@click.option("--metric", help="Metric that figures of scores show.  [default: the one that the run chose by]")
@click.option("--column", type=click.Choice(["half", "full", "slide"]), help="Width of the figure.  [default: its own]")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for the figures.  [default: the folder of results]"
)
@as_json
def figure(
    name: str | None, listed: bool, results: Path, dataset: str | None, metric: str | None, column: str | None,
    out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Draw the figure NAME, or 'all', from the results of other commands, for print or a slide.

    \b
    Example:
      probe figure depth-curve --results results --column full
    """
    from figures.registry import MODULES, SIZED, about
    from probe.base.lookup import unknown
    from probe.base.runtime import check_folder
    from probe.records.record import Record
    from probe.records.result_rows import to_json
    from probe.records.text_tables import text_table
    from probe.records.view import View

    if listed:
        lines = {each: about(each) for each in MODULES}
        click.echo(to_json(lines) if as_json else text_table(["figure", "shows"], list(lines.items())))
        return
    if name is None:
        raise click.UsageError("Missing argument 'NAME'; --list tells what there is, 'all' draws what can be drawn")
    if name != "all" and name not in MODULES:
        raise unknown("figure", name, [*MODULES, "all"])
    if column and name not in (*SIZED, "all"):
        raise click.UsageError(f"'{name}' has one width; --column is for {', '.join(SIZED)}")
    check_folder(out or results)
    if not results.is_dir():
        raise ProbeError(f"there is no folder '{results}'; --results takes the one that other commands wrote into")
    view = View(Record(results), metric, column, dataset)
    try:
        files, left_out = _draw(list(MODULES) if name == "all" else [name], view, out or results, every=name == "all")
    except OSError as error:
        raise ProbeError(f"cannot write figures to '{out or results}': {reason(error)}") from None
    if as_json:
        click.echo(to_json({"files": files, "left_out": left_out}))
        return
    missing = [f"{key} not drawn: {why}" for key, why in left_out.items()]
    click.echo("\n".join(["written: " + ", ".join(files), *missing]))


def _draw(names: list[str], found: Any, out: Path, every: bool) -> tuple[list[str], dict[str, str]]:
    """The files, and what there is nothing for; when a single figure is asked for, that is an error."""
    from figures.registry import draw
    from probe.records.view import Missing

    out.mkdir(parents=True, exist_ok=True)
    files: list[str] = []
    left_out: dict[str, str] = {}
    faults: list[str] = []
    for name in names:
        try:
            files += draw(name, found, out)
        except Missing as error:
            left_out[name] = str(error)
        except ProbeError as error:
            left_out[name] = str(error)
            faults.append(str(error))
    if left_out and not (every and files):
        nothing = list(dict.fromkeys(faults)) or [f"'{found.record.folder}' holds nothing to draw"]
        raise ProbeError("; ".join(nothing if every else left_out.values()))
    return files, left_out
