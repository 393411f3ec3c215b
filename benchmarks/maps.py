"""CKA of whole maps in one pass over the images: against the bare forward pass, pytorch-cka and torch_cka.

Command: `pip install pytorch-cka torch_cka && python benchmarks/maps.py [--weights W] [--data DATA] [--images N]
[--rounds R] [--threads T] [--small]` (default torchvision's ResNet-50 from scratch on digits at 224 px, 64 images in
batches of 32, all 17 taps, one thread). Each side sees the same normalised images in memory, in turn, round by round,
in eager float32; the ratio to the bare pass is the median over rounds with the smallest and largest. With one thread it
is processor time that counts, so that other programs do not. The error is the largest difference to the same estimate
from float64 kernels. torch_cka runs the network twice even when it compares it with itself; a peer that stops is told
with what it says.
"""

import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import clock_for, in_turn, new_parser, parse, peer, ratio_words
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import get_model

import probe
from analysis.similarity import MinibatchCKA
from probe.features.network_reader import moments, normalised
from probe.features.walk import read_batches, transform
from probe.settings import Extraction

BATCH = 32
Floats = NDArray[np.float64]


def pixels(net: probe.Backbone, data: probe.Dataset, images: int) -> Tensor:
    """Normalised images, drawn at random."""
    order = np.random.default_rng(0).permutation(len(data))[:images].tolist()
    settings = Extraction(batch_size=BATCH)
    read = torch.cat(list(read_batches(data.images, transform(net.origin.preprocessing), settings, order)))
    return normalised(read, *moments(net.origin.preprocessing, "cpu"))


def ours(net: probe.Backbone, x: Tensor) -> Floats:
    """CKA between all taps."""
    seen = MinibatchCKA()
    for batch in x.split(BATCH):
        seen.update((stage.name, out) for stage, out in net.walk(batch))
    return seen.matrix()


def by_float64(net: probe.Backbone, x: Tensor) -> Floats:
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
    return np.asarray(total / np.sqrt(np.outer(np.diag(total), np.diag(total))))


def by_pytorch_cka(cka: Any, module: nn.Module, layers: Sequence[str], x: Tensor) -> Floats:
    """CKA between all layers, by the package pytorch-cka."""
    loader = DataLoader(TensorDataset(x), batch_size=BATCH)
    return np.asarray(cka.compute_cka(module, module, loader, layers=list(layers), progress=False)[0])


def by_torch_cka(torch_cka: Any, module: nn.Module, layers: Sequence[str], x: Tensor) -> Floats:
    """CKA between all layers, by the package torch_cka."""
    compared = torch_cka.CKA(module, module, model1_layers=list(layers), model2_layers=list(layers))
    compared.compare(DataLoader(TensorDataset(x), batch_size=BATCH))
    return np.asarray(compared.hsic_matrix)


def or_error(work: Callable[[], Floats]) -> Floats | str:
    """What a peer gives, or the error it stops with."""
    try:
        return work()
    except Exception as error:  # a peer's, to be told
        return f"{type(error).__name__}: {error}"


def networks(arch: str, weights: str | None, size: int) -> tuple[nn.Module, probe.Backbone]:
    """The same network as torchvision builds it, and as stages."""
    torch.manual_seed(0)
    module = get_model(arch, weights=None).eval()
    if weights:
        module.load_state_dict(load_file(weights))
    with tempfile.TemporaryDirectory() as folder:
        save_file(module.state_dict(), file := Path(folder) / f"{arch}.safetensors")
        return module, probe.backbone(f"torchvision:{arch}", file, image_size=size)


def sides(module: nn.Module, net: probe.Backbone, x: Tensor) -> dict[str, Callable[[], Any]]:
    """What is timed: the bare pass, ours, and the peers that are installed."""
    layers = ["maxpool", *net.taps[1:]]  # what the stem ends with
    all_sides: dict[str, Callable[[], Any]] = {
        "bare forward": lambda: [module(batch) for batch in x.split(BATCH)],
        "MinibatchCKA": partial(ours, net, x),
    }
    if cka := peer("cka", "pytorch-cka"):
        all_sides["pytorch-cka"] = partial(or_error, partial(by_pytorch_cka, cka, module, layers, x))
    if torch_cka := peer("torch_cka", "torch_cka"):
        all_sides["torch_cka"] = partial(or_error, partial(by_torch_cka, torch_cka, module, layers, x))
    return all_sides


def main() -> None:
    """Print the table."""
    parser = new_parser(__doc__)
    parser.add_argument("--arch", default="resnet50", help="a ResNet of torchvision's")
    parser.add_argument("--weights")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--size", type=int, default=224, help="of an image, in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="set OMP_NUM_THREADS to the same")
    options = parse(parser, arch="resnet18", images=8, size=32, rounds=1)
    warnings.simplefilter("ignore")  # the peers'
    torch.set_num_threads(options.threads)
    module, net = networks(options.arch, options.weights, options.size)
    x = pixels(net, probe.dataset(options.data), options.images)
    with torch.inference_mode():
        expected = by_float64(net, x)
        seconds, results = in_turn(sides(module, net, x), options.rounds, clock_for(options.threads))
    print(f"{options.images} images of {options.data}, {len(net.taps)} taps, {options.threads} threads")
    for times, (name, result) in zip(seconds.T, results.items(), strict=True):
        words = result if isinstance(result, str) else ""
        if isinstance(result, np.ndarray):
            words = f"largest error {np.abs(result - expected).max():.1e}"
        print(f"{name:13} {np.median(times):7.2f} s  {ratio_words(times, seconds[:, 0])}  {words}")


if __name__ == "__main__":
    main()
