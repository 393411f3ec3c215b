"""What a folder of results holds: `probe results`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from probe.commands.options import Command, as_json

if TYPE_CHECKING:
    from probe.records.record import Record


@click.command(cls=Command)
@click.argument("folder", type=click.Path(path_type=Path), default=Path("results"))
@click.option("--rows", is_flag=True, help="Print the rows of all cells, one JSON object per line.")
@as_json
def results(folder: Path, rows: bool, as_json: bool) -> None:
    """List the results in FOLDER: the runs, their cells, and which cells are missing or failed.

    \b
    Example:
      probe results results
    """
    from probe.base.errors import ProbeError
    from probe.records.record import Record, is_record
    from probe.records.result_rows import latest_rows, to_json
    from probe.records.text_tables import text_table

    if not is_record(folder):
        Record(folder)  # which refuses what another version has written
        raise ProbeError(f"there are no results in '{folder}'; give the folder that a command wrote into with --out")
    record = Record(folder)
    if rows:
        latest = latest_rows(row for entry in record.entries() for row in entry.rows)
        click.echo("\n".join(map(to_json, latest)))
        return
    lines = _lines(record)
    if as_json:
        click.echo(to_json(lines))
        return
    click.echo(text_table(list(lines[0]) if lines else ["command"], [list(line.values()) for line in lines]))


def _lines(record: "Record") -> list[dict[str, Any]]:
    """A line per run and cell."""
    lines = []
    for run in record.runs:
        for listed in run.cells:
            entry = record.entry(listed["cell"])
            state = "missing" if entry is None else "done" if entry.error is None else f"failed: {entry.error}"
            labels = {name: "" if value is None else value for name, value in listed.items() if name != "cell"}
            kind = "" if entry is None else entry.kind
            seconds = "" if entry is None else f"{entry.seconds:.0f}"
            named = {"command": run.command, "kind": kind, **labels}
            lines.append({**named, "seconds": seconds, "cell": listed["cell"][:12], "state": state})
    return lines
