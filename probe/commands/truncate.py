"""Truncated networks: `probe truncate`, `probe predict`."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import click

from probe.commands.options import Names, as_json, cache_folder, one_arch, one_weights, settings
from probe.errors import ProbeError
from probe.settings import Batches, Head, Network, Reading

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
    from probe.backbones import backbone
    from probe.truncation import save
    from probe.truncation import truncate as cut
    from probe.truncation.exports import SUFFIXES, check_export, export
    from probe.truncation.files import check_model_file

    check_model_file(out)
    files = {form: out.with_suffix(SUFFIXES[form]) for form in forms}
    for form, file in files.items():
        check_export(file, form)
    target, size = _target(classes, data, cache)
    options = asdict(network) | {"image_size": network.image_size or size}
    model = cut(backbone(arch, weights, seed=seed, **options), tap, **target, seed=seed, **asdict(head))
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


@click.command()
@click.argument("model", type=FILE)
@click.argument("images", nargs=-1, required=True)
@click.option("--out", type=FILE, help="CSV file to write; by default the table goes to stdout.")
@cache_folder
@as_json
@settings(Reading, Batches)
def predict(
    model: Path,
    images: Sequence[str],
    out: Path | None,
    cache: Path | None,
    as_json: bool,
    reading: Reading,
    batches: Batches,
) -> None:
    """Give the probabilities of IMAGES by the saved MODEL: CSV with a row per image and a column per class.

    IMAGES are files, folders or manifests (labels are ignored), or a data set such as digits.

    \b
    Example:
      probe predict model.safetensors my_images/ --out probabilities.csv
    """
    from probe.data import find_images
    from probe.runtime import check_folder
    from probe.truncation import load
    from probe.truncation.prediction import predict as probabilities

    if out is not None:
        check_folder(out.parent, "probabilities")
    network = load(model)
    ids, source = find_images(images, reading, cache)
    found = probabilities(network, source, batches)
    rows = [dict(zip(network.classes, map(float, row), strict=True)) for row in found]
    if out is not None:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            with out.open("w", encoding="utf-8", newline="") as file:
                _write(file, network.classes, ids, rows)
        except OSError as error:
            raise ProbeError(f"cannot write probabilities to '{out}': {error.strerror or error}") from None
    if as_json:
        click.echo(json.dumps([{"id": name, "probabilities": row} for name, row in zip(ids, rows, strict=True)]))
    elif out is None:
        _write(sys.stdout, network.classes, ids, rows)
    else:
        click.echo(f"written: {out}")


def _write(file: IO[str], classes: Sequence[str], ids: Sequence[str], rows: Sequence[dict[str, float]]) -> None:
    import csv

    table = csv.writer(file, lineterminator="\n")
    table.writerow(["id", *classes])
    table.writerows([name, *(f"{row[label]:.6g}" for label in classes)] for name, row in zip(ids, rows, strict=True))
