"""Every tap of seven architectures cut, trained one step, saved, loaded, exported: what is equal, and how nearly.

Command: `python benchmarks/truncation.py [ARCH ...] [--small]` (default all seven; about 15 minutes on two free cores).
Scratch weights, images of 64 pixels (128 for Inception), three classes, one thread. Per architecture: at how many taps
every kept parameter got a gradient, and the loaded model's and the exported program's logits were equal bit for
bit; the largest difference of ONNX Runtime's logits as a share of the largest logit; and the time at which a
walk reaches a tap over the time of the network cut there (median over taps, and the extremes), interleaved.
What one should see: equal at every tap; ONNX within 1e-5; ratios around 1, but at the first taps of the fastest
networks, whose microseconds depend on what ran before.
"""

import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from measuring import new_parser, parse, peer
from torch import Tensor
from torch.nn.functional import cross_entropy

import probe
from probe.truncation import Truncated
from probe.truncation.exports import export

ARCHS = [
    "resnet50", "densenet121", "vgg19", "inception_v3", "mobilenetv2_100", "convnext_tiny", "vit_tiny_patch16_224",
]  # fmt: skip
SIZES = {"inception_v3": 128, "test_resnet": 32}  # pixels; of all others 64
REPEATS = 7


def gradients(model: Truncated, images: Tensor) -> bool:
    """Whether one training step reaches every parameter."""
    optimizer = torch.optim.SGD(model.train().parameters(), 1e-3)
    cross_entropy(model(images), torch.arange(len(images)) % 3).backward()
    optimizer.step()
    return all(parameter.grad is not None for parameter in model.parameters())


@torch.no_grad()
def compare(model: Truncated, images: Tensor, folder: Path, onnxruntime: Any) -> tuple[bool, bool, float]:
    """Whether loading and exporting give equal logits, and how far ONNX is off (NaN without it)."""
    card = probe.save(model, folder / "m.safetensors")
    expected = model.eval()(images)
    loaded = torch.equal(probe.load(folder / "m.safetensors")(images), expected)
    export(model, card, folder / "m.pt2", "torch")
    program = torch.equal(torch.export.load(folder / "m.pt2").module()(images), expected)
    if onnxruntime is None:
        return loaded, program, float("nan")
    export(model, card, folder / "m.onnx", "onnx")
    (found,) = onnxruntime.InferenceSession(folder / "m.onnx").run(None, {"images": images.numpy()})
    return loaded, program, float(np.abs(found - expected.numpy()).max() / expected.abs().max())


@torch.inference_mode()
def times(net: probe.Backbone, images: Tensor) -> list[float]:
    """Per tap: time at which a walk reaches it, over the time of the network cut there."""
    cuts = [net.cut(tap) for tap in net.taps]
    ratios = []
    for _ in range(REPEATS):
        start = perf_counter()
        walk = [perf_counter() - start for _ in net.walk(images)]
        alone = []
        for cut in cuts:
            start = perf_counter()
            cut(images)
            alone.append(perf_counter() - start)
        ratios.append(np.array(walk) / alone)
    return list(np.median(ratios, axis=0))


def line(arch: str, size: int, onnxruntime: Any) -> str:
    """A line of the table."""
    net = probe.backbone(arch, "scratch", image_size=size)
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    found = []
    for tap in net.taps:
        model = probe.truncate(net, tap, 3)
        with tempfile.TemporaryDirectory() as folder:
            found.append((gradients(model, images), *compare(model, images, Path(folder), onnxruntime)))
    reached, loaded, program, off = zip(*found, strict=True)
    counts = [f"{sum(each)}/{len(net.taps)}" for each in (reached, loaded, program)]
    ratio = times(net, images)
    fields = [arch, *counts, f"{max(off):.1e}", f"{np.median(ratio):.2f} ({min(ratio):.2f}-{max(ratio):.2f})"]
    return f"| {' | '.join(fields)} |"


def main() -> None:
    """Print the table, in Markdown."""
    parser = new_parser(__doc__)
    parser.add_argument("archs", nargs="*", metavar="ARCH", default=ARCHS)
    options = parse(parser, archs=["test_resnet"])
    onnxruntime = peer("onnxruntime", "onnxruntime")
    torch.set_num_threads(1)
    names = ("network", "gradients", "loaded equal", "torch.export equal", "ONNX off by", "walk / cut")
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for arch in options.archs:
        print(line(arch, SIZES.get(arch, 64), onnxruntime), flush=True)


if __name__ == "__main__":
    main()
