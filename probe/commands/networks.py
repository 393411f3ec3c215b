"""Networks: `probe archs`, `probe taps`."""

import json
from dataclasses import asdict

import click

from probe.commands.options import as_json, settings
from probe.settings import Network
from probe.tables import text_table


@click.command()
@click.argument("pattern", default="*")
@as_json
def archs(pattern: str, as_json: bool) -> None:
    """List the networks that can be probed, by name or shell PATTERN.

    \b
    Example:
      probe archs 'vit_*'
    """
    from probe.backbones import list_archs
    from probe.names import unknown

    names = list_archs(pattern)
    if not names:
        raise unknown("arch", pattern, list_archs())
    click.echo(json.dumps(names) if as_json else "\n".join(names))


@click.command()
@click.argument("arch")
@as_json
@settings(Network)
def taps(arch: str, as_json: bool, network: Network) -> None:
    """List where ARCH can be read and cut, and what it costs up to there.

    \b
    Example:
      probe taps resnet50 --level stage
    """
    from probe.backbones import backbone

    net = backbone(arch, "scratch", **asdict(network))
    table = net.table()
    if as_json:
        click.echo(json.dumps(table))
        return
    cells = [
        [
            *(row["index"], row["tap"], row["layout"], "x".join(map(str, row["shape"])), row["width"]),
            *(f"{row['params'] / 1e6:.3f}M", f"{row['macs'] / 1e9:.3f}G", f"{row['depth']:.2f}"),
        ]
        for row in table
    ]
    click.echo(text_table(["", "tap", "layout", "shape", "width", "params", "macs", "depth"], cells))
