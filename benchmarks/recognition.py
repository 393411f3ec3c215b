"""Finished cells recognised from what was asked: no network is built, and torch is not loaded.

Command: `python benchmarks/recognition.py` (`--cells 1000 --images 10000` are the defaults).
A folder of results is made, as a study of trained networks on a manifest of small images would have left it. Then a
process of its own reads the manifest, names every cell and reads it. Printed are its seconds and the libraries that it
loaded.
"""

import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measuring import new_parser, parse
from PIL import Image

from probe.data import Dataset, dataset
from probe.records.cell import Cell, Outcome
from probe.records.record import Record
from probe.records.result_rows import make_row
from probe.settings import Extraction, Head, Network, Reading, Training, Tuning
from probe.studies.arms import Setup
from probe.studies.engine import complete
from probe.studies.trainer import Trainer

SIDE, SEEDS, STRATEGIES = 8, 10, ("ftl", "lp", "lp-ft", "l2-sp", "llrd")
METRICS, SPLITS = 20, ("train", "val", "test")


def write_images(folder: Path, count: int) -> Path:
    """Noise as PNG files and a manifest of two classes; its path."""
    rng = np.random.default_rng(0)
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "label", "split"])
        for row in range(count):
            pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{row}.png")
            table.writerow([f"{row}.png", "ab"[row % 2], ("train", "train", "train", "val", "test")[row % 5]])
    return folder / "labels.csv"


def plan(data: Dataset, out: Path, cache: Path, count: int) -> tuple[Trainer, list[Cell]]:
    """So many trained networks: taps, strategies and seeds."""
    setup = Setup(seed=0, reading=Reading(), network=Network(image_size=SIDE), extraction=Extraction(), cache=cache)
    trainer = Trainer("resnet50", data, setup, Head(), Training(), Tuning(), Record(out))
    ways = [(strategy, f"tap{at}", seed) for at in range(count) for strategy in STRATEGIES for seed in range(SEEDS)]
    return trainer, [trainer.cell("scratch", *way) for way in ways[:count]]


def outcome(cell: Cell) -> Outcome:
    """What a trained network leaves, with numbers that mean nothing."""
    rows = [
        make_row(metric=f"metric{number}", split=split, value=0.5, method="trained", strategy=cell.labels["arm"])
        for number in range(METRICS)
        for split in SPLITS
    ]
    return Outcome(rows=rows, facts={"val": 0.5}, arrays={"draws/test": np.zeros(1001)})


def recognise(folder: Path, count: int) -> None:
    """Name all cells and read what is recorded of them; nothing may be left to compute."""
    start = time.perf_counter()
    data = dataset(folder / "images" / "labels.csv", cache=folder / "cache")
    trainer, cells = plan(data, folder / "out", folder / "cache", count)

    def refuse(cell: Cell) -> Outcome:
        raise AssertionError(f"cell {cell.digest} was not recognised")

    entries = complete(trainer.record, cells, refuse)
    heavy = sorted({"torch", "timm", "sklearn"} & set(sys.modules))
    print(json.dumps({"cells": len(entries), "seconds": time.perf_counter() - start, "loaded": heavy}))


def main() -> None:
    """Make the folder, then recognise its cells in another process."""
    parser = new_parser(__doc__)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--images", type=int, default=10_000)
    options = parse(parser, cells=20, images=50)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "images").mkdir()
        data = dataset(write_images(folder / "images", options.images), cache=folder / "cache")
        trainer, cells = plan(data, folder / "out", folder / "cache", options.cells)
        for cell in cells:
            trainer.record.write(cell, outcome(cell), seconds=1.0)
        code = f"import recognition; from pathlib import Path; recognition.recognise(Path({place!r}), {options.cells})"
        start = time.perf_counter()
        run = [sys.executable, "-c", code]
        found = subprocess.run(run, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
        whole = time.perf_counter() - start
    told = json.loads(found.stdout.splitlines()[-1])
    print(
        f"{told['cells']} cells of {options.images} images recognised in {told['seconds']:.1f} s, "
        f"{whole:.1f} s with the start of Python; heavy libraries loaded: {', '.join(told['loaded']) or 'none'}"
    )


if __name__ == "__main__":
    main()
