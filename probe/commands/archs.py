"""`probe archs`: which networks can be probed."""

import json

import click

from probe.commands.options import Command, as_json


@click.command(cls=Command)
@click.argument("pattern", default="*")
@as_json
def archs(pattern: str, as_json: bool) -> None:
    """List the networks that can be probed; PATTERN is a name or a shell pattern.

    \b
    Example:
      probe archs 'vit_*'
    """
    from probe.backbones import list_archs
    from probe.base.lookup import unknown

    names = list_archs(pattern)
    if not names:
        raise unknown("arch", pattern, list_archs())
    click.echo(json.dumps(names) if as_json else "\n".join(names))
