"""Two processes under torchrun against one: the same weights from the same steps.

Command: `python benchmarks/processes.py` (under a minute, with `--small` less; CPU, gloo). Frozen statistics of
BatchNorm, whose batch statistics each process would take from its own part of a step; SGD; class weights and masked
labels. What one should see: differences of weights around 1e-6 of the largest, and rows that are equal to three digits.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from measuring import new_parser, parse

import probe
from probe.data import Dataset, make_dataset
from probe.data.image_sources import ImageArrays
from probe.finetuning.devices import is_first

COUNT = 60


def images() -> Dataset:
    """Two labels of which some are unknown."""
    rng = np.random.default_rng(0)
    labels = np.stack([np.arange(COUNT) % 2, rng.integers(-1, 2, COUNT)], axis=1)
    pixels = (rng.integers(0, 200, (COUNT, 32, 32, 3)) + 40 * labels[:, :1, None, None]).astype(np.uint8)
    splits = ["train"] * 33 + ["val"] * 15 + ["test"] * 12
    return make_dataset(
        "some", ImageArrays([pixels]), [f"{i}" for i in range(COUNT)], labels, ["a", "b"], splits=splits
    )


def train(out: Path, cache: Path, epochs: int) -> None:
    """Fine-tune in this process, or as one of several, and write the weights."""
    torch.set_num_threads(1)
    model = probe.truncate(probe.backbone("test_resnet", "scratch", image_size=32), -1, probe.Labels(["a", "b"]))
    training = probe.Training(
        epochs=epochs, batch_size=12, optimizer="sgd", lr=1e-2, class_weights="balanced", metric="brier", draws=100,
        augment="light", grad_clip=1.0, device="cpu",
    )  # fmt: skip
    tuning = probe.Tuning(batchnorm="frozen")
    found = probe.finetune(model, images(), "ftl", training=training, tuning=tuning, cache=cache)
    if is_first():
        torch.save({"weights": found.model.state_dict(), "scores": found.rows["value"].tolist()}, out)


def main() -> None:
    """Run both and print how far apart they are."""
    parser = new_parser(__doc__)
    parser.add_argument("--epochs", type=int, default=3)
    options = parse(parser, epochs=1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = {}
        for count in (1, 2):
            out = folder / f"{count}.pt"
            way = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"] if count > 1 else []
            command = [sys.executable, *way, __file__, "as-one", str(out), str(folder / "cache"), f"{options.epochs}"]
            subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
            results[count] = torch.load(out, weights_only=True)
        one, two = results[1]["weights"], results[2]["weights"]
        apart = max(float((one[n] - two[n]).abs().max() / one[n].abs().max().clamp(min=1)) for n in one)
        scores = np.nanmax(np.abs(np.array(results[1]["scores"], float) - np.array(results[2]["scores"], float)))
        print(f"largest difference: weights {apart:.1e}, scores {scores:.1e}")
        if not (apart < 1e-4 and scores < 1e-3):
            raise SystemExit("two processes gave other weights than one")


if __name__ == "__main__":
    if sys.argv[1:2] == ["as-one"]:
        train(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
