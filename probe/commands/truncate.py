"""Truncated networks: `probe truncate`."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from probe.commands.options import Command, Names, as_json, cache_folder, one_arch, one_weights, settings
from probe.settings import Head, Network
from probe.settings.networks import EXPORTS

if TYPE_CHECKING:
    from probe.tasks import Task

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(cls=Command)
@one_arch
@click.option("--at", "tap", required=True, help="Tap at which the network is cut; 'probe taps ARCH' lists them.")
@one_weights
@click.option("--classes", type=Names(), help="Number of classes, or their names: 7 or a,b,c.")
@click.option("--data", help="Data set from which the classes and the image size are taken.")
@click.option("--seed", default=0, show_default=True, help="Seed of scratch weights and of the head.")
@click.option(
    "--export", "forms", multiple=True, type=click.Choice(EXPORTS), help="Also export to this format; repeatable."
)
@click.option("--out", type=FILE, required=True, help="The .safetensors file to write; exports are written beside it.")
@cache_folder
@as_json
@settings(Network, Head)
def truncate(
    arch: str,
    tap: str,
    weights: str,
    classes: Sequence[str] | None,
    data: str | None,
    seed: int,
    forms: Sequence[str],
    out: Path,
    cache: Path | None,
    as_json: bool,
    network: Network,
    head: Head,
) -> None:
    """Cut a network, add a head, and save both as one file with a model card.

    \b
    Example:
      probe truncate --arch resnet50 --at layer3.2 --classes 7 --weights scratch --out model.safetensors
    """
    if (classes is None) == (data is None):
        raise click.UsageError("say what the head is for: either --classes or --data")
    from probe.backbones import NetworkSpec
    from probe.truncation import save
    from probe.truncation import truncate as cut
    from probe.truncation.exports import SUFFIXES, check_export, export
    from probe.truncation.model_file import check_model_file

    check_model_file(out)
    files = {form: out.with_suffix(SUFFIXES[form]) for form in forms}
    for form, file in files.items():
        check_export(file, form)
    task, size = _target(classes, data, cache)
    net = NetworkSpec.of(network, arch, weights, seed).sized(size).build()
    model = cut(net, tap, task, seed=seed, **asdict(head))
    card = save(model, out)
    for form, file in files.items():
        export(model, card, file, form)
    written = [str(file) for file in (out, *files.values())]
    click.echo(json.dumps({"card": card, "files": written}) if as_json else "\n".join(_lines(card, written)))


def _target(
    classes: Sequence[str] | None, data: str | None, cache: Path | None
) -> tuple["Task | Sequence[str] | int", int | None]:
    """The task, as `truncate` takes it, and the image size that the data ask for."""
    if data is not None:
        from probe.data import dataset

        table = dataset(data, cache=cache)
        return table.task, table.image_size
    given = tuple(classes or ())
    return int(given[0]) if len(given) == 1 and given[0].isdecimal() else given, None


def _lines(card: dict[str, Any], written: Sequence[str]) -> list[str]:
    speed, size = card["latency"], card["preprocessing"]["image_size"]
    return [
        f"{card['arch']} cut at {card['tap']}, {card['head']['head']} for {len(card['classes'])} classes: "
        f"{card['params'] / 1e6:.3f}M parameters, {card['macs'] / 1e9:.3f}G MACs at {size} px",
        f"{speed['ms_per_image']:.1f} ms for one image ({speed['device']}, threads: {speed['threads']})",
        "written: " + ", ".join(written),
    ]
