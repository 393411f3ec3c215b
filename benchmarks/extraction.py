"""Reading every tap of a network against the plain way and against a bare forward pass.

Command: `python benchmarks/extraction.py [--arch A] [--weights W] [--data D] [--batch 32] [--pairs 10] [--device cpu]
[--dtype auto] [--image-size 224] [--small]`
(default ResNet-50 from scratch, 17 taps at 224 pixels, on the scaled-up digits). All sides take the same
batch of decoded bytes, in turns, in one run. `plain` is what a user would write: eager float32, a forward
hook on every block, the mean over positions. `bare` is the network alone at the setting of the reader.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from measuring import add_network, in_turn, new_parser, parse, ratio_words

import probe
from probe.features.network_reader import Reader, settle
from probe.features.walk import read_batches, transform

PAIRS = (
    ("plain", "taps compiled"),
    ("plain", "taps eager"),
    ("taps eager", "bare eager"),
    ("taps compiled", "bare compiled"),
)


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


def bare(net: probe.Backbone, settings: probe.Extraction, device: str) -> Callable[[torch.Tensor], object]:
    """The network's own output and nothing else, eager or compiled as the reader is."""
    layout = torch.channels_last
    model = net.to(device).eval().to(memory_format=layout)
    mean, std = (torch.tensor(x, device=device).view(-1, 1, 1) for x in moments(net))
    dtype = getattr(torch, settings.dtype)

    def forward(images: torch.Tensor) -> torch.Tensor:
        x = ((images.float() / 255 - mean) / std).contiguous(memory_format=layout)
        with torch.autocast(torch.device(device).type, dtype, dtype != torch.float32):
            logits: torch.Tensor = model(x)
            return logits

    if settings.compile == "on":
        forward = torch.compile(forward, dynamic=False, options={"freezing": True})

    def run(images: torch.Tensor) -> object:
        with torch.no_grad() if settings.compile == "on" else torch.inference_mode():
            return forward(images.to(device)).float().cpu()

    return run


def moments(net: probe.Backbone) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and spread of the input."""
    return net.origin.preprocessing.mean, net.origin.preprocessing.std


def read(net: probe.Backbone, settings: probe.Extraction, device: str) -> Callable[[torch.Tensor], object]:
    """All taps through `Reader`."""
    reader = Reader(net, settings, device)
    return lambda images: {tap: vector.cpu() for tap, vector in reader(images).items()}


def main() -> None:
    """Print images per second of every side, and the ratios with their spread over the rounds."""
    parser = new_parser(__doc__)
    add_network(parser, "resnet50")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto", help="of the compiled sides")
    options = parse(parser, arch="test_resnet", image_size=32, batch=2, pairs=1)
    batch, device = options.batch, options.device
    eager = probe.Extraction(compile="off", dtype="float32", batch_size=batch)
    dtype = "bfloat16" if (options.dtype, device) == ("auto", "cuda") else options.dtype
    fast = settle(probe.Extraction(compile="on", dtype=dtype, batch_size=batch), np.inf, device)

    def build() -> probe.Backbone:
        return probe.backbone(options.arch, options.weights, image_size=options.image_size or 224)

    net = build()
    data, to_tensor = probe.dataset(options.data), transform(net.origin.preprocessing)
    images = next(read_batches(data.images, to_tensor, eager, range(batch)))
    sides = {
        "plain": plain(build(), device),
        "bare eager": bare(build(), eager, device),
        "taps eager": read(build(), eager, device),
        "bare compiled": bare(build(), fast, device),
        "taps compiled": read(build(), fast, device),
    }
    seconds, _ = in_turn({name: partial(run, images) for name, run in sides.items()}, options.pairs, warm_up=2)
    by_side = dict(zip(sides, seconds.T, strict=True))
    print(f"{options.arch}, {len(net.taps)} taps, batch {batch}, {options.pairs} rounds, {device}, {fast.dtype}")
    for name, spent in by_side.items():
        print(f"  {name:14} {batch / np.median(spent):8.1f} images/s")
    for over, under in PAIRS:
        print(f"  {over} takes {ratio_words(by_side[over], by_side[under])} of {under}")


if __name__ == "__main__":
    main()
