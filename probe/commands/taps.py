"""`probe taps`: where a network can be read and cut."""

import json

import click

from probe.commands.options import Command, as_json, settings
from probe.records.text_tables import text_table
from probe.settings import Network


@click.command(cls=Command)
@click.argument("arch")
@as_json
@settings(Network)
def taps(arch: str, as_json: bool, network: Network) -> None:
    """List the taps of ARCH: where it can be read and cut, and its cost up to there.

    \b
    Example:
      probe taps resnet50 --level stage
    """
    from probe.backbones import NetworkSpec

    net = NetworkSpec.of(network, arch, "scratch").build()
    table = [tap.to_dict() for tap in net.table()]
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
