"""Predictions of a saved network: `probe predict`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import click

from probe.base.errors import ProbeError
from probe.commands.options import Command, as_json, cache_folder, settings
from probe.settings import Batches, Reading

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(cls=Command)
@click.argument("model", type=FILE)
@click.argument("images", nargs=-1, required=True)
@click.option("--out", type=FILE, help="CSV file for the probabilities.  [default: stdout]")
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
    """Predict class probabilities of IMAGES with a saved MODEL, as CSV: a row per image, a column per class.

    IMAGES are files, folders, manifests (whose labels are ignored), or a data set such as digits.

    \b
    Example:
      probe predict model.safetensors my_images/ --out probabilities.csv
    """
    from probe.base.runtime import check_folder
    from probe.data import find_images
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
