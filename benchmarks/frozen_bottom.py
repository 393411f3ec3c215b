"""An epoch of the top of a network, with what the frozen bottom makes of each image computed once, and every time.

Command: `python benchmarks/frozen_bottom.py [ARCH ...] [--small]` (default resnet18 and resnet50; some minutes on two
cores). Last block and head (top-k, k = 1), 160 random images of 112 pixels as JPEG files, one thread, scratch weights;
epochs of both ways in turn. What one should see: an epoch, validation included, at least 3 times as fast; the same
losses to about 1e-4 of them.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import new_parser, parse
from PIL import Image

import probe

REPEATS = 3
TRAINING: dict[str, Any] = {"epochs": 2, "draws": 100, "device": "cpu", "lr": 1e-4, "optimizer": "sgd"}


def write_images(folder: Path, count: int, size: int) -> Path:
    """A manifest of two classes of noise."""
    rng = np.random.default_rng(0)
    lines = ["file,label,split"]
    for i in range(count):
        pixels = rng.integers(0, 200 + 50 * (i % 2), (size, size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.jpg")
        lines.append(f"{i}.jpg,{'ab'[i % 2]},{['train', 'train', 'train', 'val', 'test'][i // 2 % 5]}")
    place = folder / "labels.csv"
    place.write_text("\n".join(lines) + "\n")
    return place


def main() -> None:
    """Print a line per architecture."""
    parser = new_parser(__doc__)
    parser.add_argument("archs", nargs="*", metavar="ARCH", default=["resnet18", "resnet50"])
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--size", type=int, default=112, help="of an image, in pixels")
    options = parse(parser, archs=["test_resnet"], images=30, size=32)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = probe.dataset(write_images(folder, options.images, options.size), cache=folder / "cache")
        print("arch       seconds/epoch: every time  once  ratio  (low-high)   largest difference of a loss")
        for arch in options.archs:
            model = probe.truncate(probe.backbone(arch, "scratch", image_size=options.size), -1, data.classes)
            seconds: dict[bool, list[float]] = {True: [], False: []}
            losses = {}
            for _ in range(REPEATS):
                for reuse in (False, True):
                    settings = probe.Training(reuse=reuse, **TRAINING)
                    found = probe.finetune(model, data, "top-k", training=settings, cache=folder / "cache")
                    seconds[reuse] += found.history["seconds"][1:].tolist()
                    losses[reuse] = found.history["val_loss"].to_numpy()
            ratios = np.array(seconds[False]) / np.array(seconds[True])
            apart = np.abs(losses[True] / losses[False] - 1).max()
            print(
                f"{arch:10} {np.median(seconds[False]):24.2f} {np.median(seconds[True]):6.2f} "
                f"{np.median(ratios):5.1f}   ({ratios.min():.1f}-{ratios.max():.1f})   {apart:.1e}"
            )


if __name__ == "__main__":
    main()
