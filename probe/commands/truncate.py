"""Truncated networks: `probe truncate`."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from probe.commands.options import Names, as_json, cache_folder, one_arch, one_weights, settings
from probe.settings import Head, Network

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@one_arch
@click.option("--at", "tap", required=True, help="The tap to cut at; 'probe taps ARCH' lists them.")
@one_weights
@click.option("--classes", type=Names(), help="How many classes, or their names: 7 or a,b,c.")
@click.option("--data", help="Take the classes, and the image size they suit, from a data set.")
@click.option("--seed", default=0, show_default=True, help="Of scratch weights and of the head.")
@click.option("--export", "forms", multiple=True, type=click.Choice(["onnx", "torch"]), help="Export too; repeatable.")
@click.option("--out", type=FILE, required=True, help="The .safetensors file to write; exports lie beside it.")
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
    """Cut a network, put a head on it, and save both as one file with a card.

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
    from probe.truncation.files import check_model_file

    check_model_file(out)
    files = {form: out.with_suffix(SUFFIXES[form]) for form in forms}
    for form, file in files.items():
        check_export(file, form)
    target, size = _target(classes, data, cache)
    net = NetworkSpec.of(network, arch, weights, seed).sized(size).build()
    model = cut(net, tap, **target, seed=seed, **asdict(head))
    card = save(model, out)
    for form, file in files.items():
        export(model, card, file, form)
    written = [str(file) for file in (out, *files.values())]
    click.echo(json.dumps({"card": card, "files": written}) if as_json else "\n".join(_lines(card, written)))


def _target(classes: Sequence[str] | None, data: str | None, cache: Path | None) -> tuple[dict[str, Any], int | None]:
    """The classes, as `truncate` takes them, and the image size that the data ask for."""
    if data is not None:
        from probe.data import dataset

        table = dataset(data, cache=cache)
        return {"classes": table.classes, "multilabel": table.task == "multilabel"}, table.image_size
    given = tuple(classes or ())
    return {"classes": int(given[0]) if len(given) == 1 and given[0].isdecimal() else given}, None


def _lines(card: dict[str, Any], written: Sequence[str]) -> list[str]:
    speed, size = card["latency"], card["preprocessing"]["image_size"]
    return [
        f"{card['arch']} cut at {card['tap']}, {card['head']['head']} for {len(card['classes'])} classes: "
        f"{card['params'] / 1e6:.3f}M parameters, {card['macs'] / 1e9:.3f}G MACs at {size} px",
        f"{speed['ms_per_image']:.1f} ms for one image ({speed['device']}, threads: {speed['threads']})",
        "written: " + ", ".join(written),
    ]
