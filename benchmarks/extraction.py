"""Reading every tap of a network against the plain way and against a bare forward pass.

Command: `python benchmarks/extraction.py [--arch A] [--weights W] [--data D] [--batch 32] [--pairs 10] [--device cpu]
[--dtype auto]`
(default ResNet-50 from scratch, 17 taps at 224 pixels, on the scaled-up digits). All sides take the same
batch of decoded bytes, in turns, in one run. `plain` is what a user would write: eager float32, a forward
hook on every block, the mean over positions. `bare` is the network alone at the setting of the reader.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

import probe
from probe.features.batches import read_batches, transform
from probe.features.reader import Reader, settle
from probe.settings import Extraction


def plain(net: probe.Backbone, device: str) -> Callable[[torch.Tensor], object]:
    """Eager float32 in the default memory format, hooks on the stages, one mean each."""
    model = net.to(device).eval()
    mean, std = (torch.tensor(x, device=device).view(-1, 1, 1) for x in moments(net))
    kept: dict[str, torch.Tensor] = {}
    for stage in model.stages:
        stage.register_forward_hook(lambda module, _, out: kept.__setitem__(module.name, out.mean((2, 3)).cpu()))

    def run(images: torch.Tensor) -> object:
        with torch.no_grad():
            model((images.to(device).float() / 255 - mean) / std)
        return kept

    return run


def bare(net: probe.Backbone, settings: Extraction, device: str) -> Callable[[torch.Tensor], object]:
    """The network's own output and nothing else, eager or compiled as the reader is."""
    layout = torch.channels_last
    model = net.to(device).eval().to(memory_format=layout)
    mean, std = (torch.tensor(x, device=device).view(-1, 1, 1) for x in moments(net))
    dtype = getattr(torch, settings.dtype)

    def forward(images: torch.Tensor) -> torch.Tensor:
        x = ((images.float() / 255 - mean) / std).contiguous(memory_format=layout)
        with torch.autocast(torch.device(device).type, dtype, dtype != torch.float32):
            return model(x)

    if settings.compile == "on":
        forward = torch.compile(forward, dynamic=False, options={"freezing": True})

    def run(images: torch.Tensor) -> object:
        with torch.no_grad() if settings.compile == "on" else torch.inference_mode():
            return forward(images.to(device)).float().cpu()

    return run


def moments(net: probe.Backbone) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and spread of the input."""
    return net.origin.preprocessing.mean, net.origin.preprocessing.std


def read(net: probe.Backbone, settings: Extraction, device: str) -> Callable[[torch.Tensor], object]:
    """All taps through `Reader`."""
    reader = Reader(net, settings, device)
    return lambda images: {tap: vector.cpu() for tap, vector in reader(images).items()}


def main() -> None:
    """Print images per second of every side, and the ratios with their spread over the rounds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--arch", default="resnet50")
    parser.add_argument("--weights", default="scratch")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto", help="of the compiled sides")
    given = parser.parse_args()

    def build() -> probe.Backbone:
        return probe.backbone(given.arch, given.weights, image_size=224)

    eager = Extraction(compile="off", dtype="float32", batch_size=given.batch)
    dtype = "bfloat16" if (given.dtype, given.device) == ("auto", "cuda") else given.dtype
    fast = settle(Extraction(compile="on", dtype=dtype, batch_size=given.batch), np.inf, given.device)
    data, net = probe.dataset(given.data), build()
    images = next(read_batches(data.images, transform(net.origin.preprocessing), eager, range(given.batch)))
    sides = {
        "plain": plain(build(), given.device),
        "bare eager": bare(build(), eager, given.device),
        "taps eager": read(build(), eager, given.device),
        "bare compiled": bare(build(), fast, given.device),
        "taps compiled": read(build(), fast, given.device),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for round_ in range(given.pairs + 2):  # the first two warm up
        for name, run in sides.items():
            start = time.perf_counter()
            run(images)
            if round_ >= 2:
                seconds[name].append(time.perf_counter() - start)
    print(
        f"{given.arch}, {len(net.taps)} taps, batch {given.batch}, {given.pairs} rounds, {given.device}, {fast.dtype}"
    )
    for name, spent in seconds.items():
        print(f"  {name:14} {given.batch / np.median(spent):8.1f} images/s")
    for over, under in (("plain", "taps compiled"), ("plain", "taps eager"), ("taps eager", "bare eager"),
                        ("taps compiled", "bare compiled")):  # fmt: skip
        ratios = np.array(seconds[over]) / np.array(seconds[under])
        low, middle, high = np.quantile(ratios, [0, 0.5, 1])
        print(f"  {over} takes {middle:.2f} times as long as {under} ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
