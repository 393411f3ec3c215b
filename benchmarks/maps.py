"""CKA of whole maps in one pass over the images: against the bare forward pass, pytorch-cka and torch_cka.

Command: `pip install pytorch-cka torch_cka && python benchmarks/maps.py [--weights W] [--data DATA] [--images N]
[--rounds R] [--threads T]` (default torchvision's ResNet-50 from scratch on digits at 224 px, 64 images in batches of
32, all 17 taps, one thread). Each side sees the same normalised images in memory, in turn, round by round, in eager
float32; the ratio to the bare pass is the median over rounds with the smallest and largest. With one thread it is
processor time that counts, so that other programs do not. The error is the largest difference to the same estimate
from float64 kernels. torch_cka runs the network twice even when it compares it with itself; a peer that stops is told
with what it says.
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet50

import probe
from analysis.similarity import MinibatchCKA
from probe.features.batches import read_batches, transform
from probe.features.reader import moments, normalised
from probe.settings import Extraction

BATCH = 32


def pixels(net: probe.Backbone, data: probe.Dataset, images: int) -> Tensor:
    """Normalised images, drawn at random."""
    order = np.random.default_rng(0).permutation(len(data))[:images].tolist()
    settings = Extraction(batch_size=BATCH)
    read = torch.cat(list(read_batches(data.images, transform(net.origin.preprocessing), settings, order)))
    return normalised(read, *moments(net.origin.preprocessing, "cpu"))


def ours(net: probe.Backbone, x: Tensor) -> np.ndarray:
    """CKA between all taps."""
    seen = MinibatchCKA()
    for batch in x.split(BATCH):
        seen.update((stage.name, out) for stage, out in net.walk(batch))
    return seen.matrix()


def by_float64(net: probe.Backbone, x: Tensor) -> np.ndarray:
    """The same estimate from the definition, all in float64: Song et al. 2012, equation 5, summed over batches."""
    total: Any = 0
    for batch in x.split(BATCH):
        kernels = []
        for _, out in net.walk(batch):
            flat = out.flatten(1).double()
            flat = flat - flat.mean(0)
            kernels.append((flat @ flat.T).fill_diagonal_(0).numpy())
        n, sums = len(batch), np.array([kernel.sum(0) for kernel in kernels])
        inner, totals = np.array([[np.vdot(k, m) for m in kernels] for k in kernels]), sums.sum(1)
        hsic = inner + np.outer(totals, totals) / ((n - 1) * (n - 2)) - 2 / (n - 2) * sums @ sums.T
        total = total + hsic / (n - 3)
    return total / np.sqrt(np.outer(np.diag(total), np.diag(total)))


def by_pytorch_cka(module: nn.Module, layers: Sequence[str], x: Tensor) -> np.ndarray:
    """CKA between all layers, by the package pytorch-cka."""
    from cka import compute_cka

    loader = DataLoader(TensorDataset(x), batch_size=BATCH)
    return compute_cka(module, module, loader, layers=list(layers), progress=False)[0].numpy()


def by_torch_cka(module: nn.Module, layers: Sequence[str], x: Tensor) -> np.ndarray:
    """CKA between all layers, by the package torch_cka."""
    from torch_cka import CKA

    compared = CKA(module, module, model1_layers=list(layers), model2_layers=list(layers))
    compared.compare(DataLoader(TensorDataset(x), batch_size=BATCH))
    return compared.hsic_matrix.numpy()


def timed(work: Callable[[], Any], clock: Callable[[], float]) -> tuple[Any, float]:
    """What it gives, or the error it stops with, and the seconds it takes."""
    start = clock()
    try:
        found = work()
    except Exception as error:  # a peer's, to be told
        found = f"{type(error).__name__}: {error}"
    return found, clock() - start


def networks(weights: str | None) -> tuple[nn.Module, probe.Backbone]:
    """The same network as torchvision builds it, and as stages."""
    torch.manual_seed(0)
    module = resnet50().eval()
    if weights:
        module.load_state_dict(load_file(weights))
    with tempfile.TemporaryDirectory() as folder:
        save_file(module.state_dict(), file := Path(folder) / "resnet50.safetensors")
        return module, probe.backbone("torchvision:resnet50", file, image_size=224)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="set OMP_NUM_THREADS to the same")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # the peers'
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    module, net = networks(options.weights)
    x = pixels(net, probe.dataset(options.data), options.images)
    layers = ["maxpool", *net.taps[1:]]  # what the stem ends with
    sides: dict[str, Callable[[], Any]] = {
        "bare forward": lambda: [module(batch) for batch in x.split(BATCH)],
        "MinibatchCKA": partial(ours, net, x),
        "pytorch-cka": partial(by_pytorch_cka, module, layers, x),
        "torch_cka": partial(by_torch_cka, module, layers, x),
    }
    seconds, found = np.zeros((options.rounds, len(sides))), {}
    with torch.inference_mode():
        expected = by_float64(net, x)
        for at in range(options.rounds):
            for side, (name, work) in enumerate(sides.items()):
                found[name], seconds[at, side] = timed(work, clock)
    print(f"{options.images} images of {options.data}, {len(net.taps)} taps, {options.threads} threads")
    ratios = seconds / seconds[:, :1]
    for name, times, ratio in zip(sides, seconds.T, ratios.T, strict=True):
        told = found[name] if isinstance(found[name], str) else ""
        if isinstance(found[name], np.ndarray):
            told = f"largest error {np.abs(found[name] - expected).max():.1e}"
        spread = f"[{ratio.min():.2f}, {ratio.max():.2f}]"
        print(f"{name:13} {np.median(times):7.2f} s  {np.median(ratio):5.2f} x {spread}  {told}")


if __name__ == "__main__":
    main()
