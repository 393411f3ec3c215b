"""The commands: each parses, calls the library, prints. Whatever is slow to load is loaded inside one."""

import click

from probe.commands.archs import archs
from probe.commands.attribute import attribute
from probe.commands.cache import cache_group
from probe.commands.check import check
from probe.commands.cost import cost
from probe.commands.data import audit
from probe.commands.demo import demo
from probe.commands.depth import depth
from probe.commands.embed import embed
from probe.commands.exits import Commands
from probe.commands.extract import extract
from probe.commands.figure import figure
from probe.commands.finetune import finetune
from probe.commands.layerwise import layerwise
from probe.commands.predict import predict
from probe.commands.pretrain import pretrain
from probe.commands.results import results
from probe.commands.similarity import similarity
from probe.commands.taps import taps
from probe.commands.truncate import truncate


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="truncated-probe", prog_name="probe")
def main() -> None:
    """At which depth are a network's features good enough for your images, and where to cut it.

    \b
    Example:
      probe layerwise --arch resnet50
    """


for command in (
    archs, taps, audit, extract, layerwise, depth, similarity, embed, attribute, cost, truncate, finetune, pretrain,
    check, predict, figure, results, demo, cache_group,
):  # fmt: skip
    main.add_command(command)
