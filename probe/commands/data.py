"""The audit: `probe data`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from probe.commands.options import Command, as_json, cache_folder, out_folder, settings
from probe.settings import Reading


@click.command("data", cls=Command)
@click.argument("path")
@click.option("--seed", default=0, show_default=True, help="Seed of drawn splits, samples and permutations.")
@out_folder
@cache_folder
@as_json
@settings(Reading)
@click.pass_context
def audit(
    context: click.Context, path: str, seed: int, out: Path, cache: Path | None, as_json: bool, reading: Reading
) -> None:
    """Audit the data set at PATH before training; the exit code is 1 when one split leaks into another.

    \b
    Example:
      probe data my_images/labels.csv
    """
    from probe.audit import audit_dataset
    from probe.audit.report import audit_lines, write_audit
    from probe.base.runtime import check_folder
    from probe.data import TornGroups, dataset
    from probe.records.result_rows import to_json

    check_folder(out)
    try:
        table = dataset(path, seed=seed, cache=cache, **asdict(reading))
    except TornGroups as error:  # refused elsewhere; here one finding among others
        table = error.data
    found = audit_dataset(table, seed)
    files = write_audit(found, out) + _draw_sheets(found, seed, out)
    if as_json:
        click.echo(to_json({**found.to_dict(), "files": files}))
    else:
        click.echo("\n".join([*audit_lines(found), "written: " + ", ".join(files)]))
    context.exit(1 if found.leaks else 0)


def _draw_sheets(found: Any, seed: int, out: Path) -> list[str]:
    from figures.contact_sheet import contact_sheet
    from figures.style import save
    from probe.audit.sample_images import samples

    return [
        file
        for stem, sheet in samples(found.data, found.readable, seed)
        for file in save(contact_sheet(**sheet), out / f"contact-{stem}", ("png",), dpi=200)
    ]
