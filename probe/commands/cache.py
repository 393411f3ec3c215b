"""The feature cache: `probe cache ls | verify | rm | size`."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from probe.base.errors import ProbeError
from probe.commands.options import as_json, cache_folder
from probe.records.text_tables import text_table


@click.group("cache")
def cache_group() -> None:
    """List, check, measure or empty the feature cache.

    \b
    Example:
      probe cache ls
    """


@cache_group.command("ls")
@cache_folder
@as_json
def cache_ls(cache: Path | None, as_json: bool) -> None:
    """List the features in the cache, the last used first.

    \b
    Example:
      probe cache ls
    """
    from probe.base.runtime import default_folder
    from probe.cache.inventory import entries

    found = entries(cache or default_folder())
    if as_json:
        click.echo(json.dumps([asdict(entry) for entry in found]))
        return
    head = ["digest", "state", "arch", "weights", "data", "taps", "images", "MB", "last used"]
    click.echo(text_table(head, [entry.cells() for entry in found]))


@cache_group.command("verify")
@click.argument("digests", nargs=-1)
@cache_folder
@as_json
def cache_verify(digests: Sequence[str], cache: Path | None, as_json: bool) -> None:
    """Compare features with their checksums: all of them, or those whose digests begin with DIGESTS.

    The exit code is 1 when something is damaged. The next run that needs it computes it again.

    \b
    Example:
      probe cache verify
    """
    from probe.base.runtime import default_folder
    from probe.cache.upkeep import verify_all

    findings = verify_all(cache or default_folder(), digests)
    if as_json:
        click.echo(json.dumps(findings))
    else:
        lines = [
            [finding["name"], finding["state"], fault] for finding in findings for fault in finding["faults"] or [""]
        ]
        click.echo(text_table(["what", "state", "damage"], lines))
    if any(finding["faults"] for finding in findings):
        sys.exit(1)


@cache_group.command("rm")
@click.argument("digests", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Delete all features, and all notes about files and networks.")
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    metavar="DAYS",
    help="Delete features that were not used for this many days.",
)
@cache_folder
@as_json
def cache_rm(
    digests: Sequence[str], everything: bool, older_than: float | None, cache: Path | None, as_json: bool
) -> None:
    """Delete the features whose digests begin with DIGESTS. Features in use by a running process are kept.

    \b
    Example:
      probe cache rm --older-than 90
    """
    if bool(digests) + everything + (older_than is not None) != 1:
        raise click.UsageError("name DIGESTS, or give --all, or --older-than DAYS: one of the three")
    from probe.base.runtime import default_folder
    from probe.cache.upkeep import remove_all

    removed, kept = remove_all(cache or default_folder(), digests, older_than)
    freed = sum(entry.bytes for entry in removed)
    gone = [entry.digest for entry in removed]
    click.echo(
        json.dumps({"removed": gone, "bytes": freed, "in_use": kept})
        if as_json
        else "\n".join([*gone, f"{len(gone)} removed, {freed / 1e6:.1f} MB"])
    )
    if kept:
        raise ProbeError(f"in use by another process and kept: {', '.join(kept)}")


@cache_group.command("size")
@cache_folder
@as_json
def cache_size(cache: Path | None, as_json: bool) -> None:
    """Show how much disk space the cache takes, and how much is free.

    \b
    Example:
      probe cache size
    """
    from probe.base.runtime import default_folder
    from probe.cache.inventory import size

    found = size(cache or default_folder())
    if as_json:
        click.echo(json.dumps(found))
        return
    parts = [f"{found[name] / 1e6:.1f} MB {name}" for name in ("features", "index", "free")]
    click.echo(f"{found['cache']}: {found['entries']} sets of features, {', '.join(parts)}")
