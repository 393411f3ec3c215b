"""Full fine-tuning in bfloat16 against float32 on a CPU: seconds per epoch, and the score on test.

Command: `python benchmarks/precision.py [--arch ARCH] [--weights W] [--data DATA] [--image-size S] [--epochs E]
[--rounds R] [--threads T] [--small]` (default ResNet-18 from scratch on digits at 64 px, 2 epochs, 2 rounds). Both ways
in turn, seed by seed, each round another seed; the ratio is the median over epochs of the same number with the smallest
and largest. The difference in test AUROC is paired over the test images, of means over rounds, with its 95 % interval.
What one should see: a CPU that multiplies bfloat16 (avx512_bf16, amx) is faster by it, others slower; the interval
holds zero.
"""

import numpy as np
import torch
from measuring import add_network, new_parser, parse, ratio_words
from numpy.typing import NDArray

import probe
from probe.scoring.statistics import paired_difference

KINDS = ("float32", "bfloat16")


def main() -> None:
    """Print seconds per epoch, their ratio, and the scores."""
    parser = new_parser(__doc__)
    add_network(parser)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2, help="set OMP_NUM_THREADS to the same")
    options = parse(parser, arch="test_resnet", image_size=32, rounds=1, threads=1)
    torch.set_num_threads(options.threads)
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    draws: dict[str, list[NDArray[np.float64]]] = {kind: [] for kind in KINDS}
    for seed in range(options.rounds):
        data = probe.dataset(options.data, seed=seed)
        size = options.image_size or data.image_size
        net = probe.backbone(options.arch, options.weights, seed=seed, image_size=size)
        for kind in KINDS:
            model = probe.truncate(net, -1, data.task, seed=seed)
            training = probe.Training(epochs=options.epochs, precision=kind, device="cpu", class_weights="balanced")
            found = probe.finetune(model, data, "ftl", seed=seed, training=training)
            seconds[kind] += found.history["seconds"][1:].tolist()
            draws[kind].append(found.draws["test"])
    print(f"{options.arch} on {options.data}, {size} px, {options.threads} threads")
    for kind in KINDS:
        print(
            f"{kind:9} {np.median(seconds[kind]):6.1f} s/epoch   test AUROC {np.mean([d[0] for d in draws[kind]]):.4f}"
        )
    print(f"ratio     {ratio_words(np.array(seconds['float32']), np.array(seconds['bfloat16']))}")
    apart = paired_difference(*(np.mean(draws[kind], axis=0) for kind in reversed(KINDS)))
    print(f"bfloat16 minus float32 {float(apart.estimate):+.4f} [{float(apart.low):+.4f}, {float(apart.high):+.4f}]")


if __name__ == "__main__":
    main()
