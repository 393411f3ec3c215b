"""Full fine-tuning in bfloat16 against float32 on a CPU: seconds per epoch, and the score on test.

Command: `python benchmarks/precision.py [--arch ARCH] [--weights W] [--data DATA] [--size S] [--epochs E] [--rounds R]
[--threads T]` (default ResNet-18 from scratch on digits at 64 px, 2 epochs, 2 rounds). Both ways in turn, seed by seed,
each round another seed; the ratio is the median over epochs of the same number with the smallest and largest. The
difference in test AUROC is paired over the test images, of means over rounds, with its 95 % interval. What one should
see: a CPU that multiplies bfloat16 (avx512_bf16, amx) is faster by it, others slower; the interval holds zero.
"""

import argparse

import numpy as np
import torch

import probe
from probe.scoring.statistics import paired_difference
from probe.settings import Training

KINDS = ("float32", "bfloat16")


def main() -> None:
    """Print seconds per epoch, their ratio, and the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="torchvision:resnet18")
    parser.add_argument("--weights", default="scratch")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2, help="set OMP_NUM_THREADS to the same")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    draws: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
    for seed in range(given.rounds):
        data = probe.dataset(given.data, seed=seed)
        net = probe.backbone(given.arch, given.weights, seed=seed, image_size=given.size)
        for kind in KINDS:
            model = probe.truncate(net, -1, data.task, seed=seed)
            training = Training(epochs=given.epochs, precision=kind, device="cpu", class_weights="balanced")
            found = probe.finetune(model, data, "ftl", seed=seed, training=training)
            seconds[kind] += found.history["seconds"][1:].tolist()
            draws[kind].append(found.draws["test"])
    ratios = np.array(seconds["float32"]) / np.array(seconds["bfloat16"])
    print(f"{given.arch} on {given.data}, {given.size} px, {given.threads} threads")
    for kind in KINDS:
        print(
            f"{kind:9} {np.median(seconds[kind]):6.1f} s/epoch   test AUROC {np.mean([d[0] for d in draws[kind]]):.4f}"
        )
    print(f"ratio     {np.median(ratios):6.2f}   [{ratios.min():.2f}, {ratios.max():.2f}]")
    apart = paired_difference(*(np.mean(draws[kind], axis=0) for kind in reversed(KINDS)))
    print(f"bfloat16 minus float32 {float(apart.estimate):+.4f} [{float(apart.low):+.4f}, {float(apart.high):+.4f}]")


if __name__ == "__main__":
    main()
