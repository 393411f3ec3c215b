"""The small networks of Raghu et al. 2019: what they are made of, and that they are backbones like any other."""

import json

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import probe
from probe.backbones.catalog import find_source, list_archs
from probe.base.errors import Unreachable
from probe.commands import main

MADE = {  # kernel size, widths, poolings: arXiv:1902.07208, appendix
    "larget": (7, [32, 64, 128, 256, 512], 4),
    "largew": (7, [64, 128, 256, 512], 4),
    "small": (7, [32, 64, 128, 256], 4),
    "tiny": (5, [64, 128, 256, 512], 4),
}


@pytest.mark.parametrize("name", MADE)
def test_layers_are_those_of_the_paper(name: str) -> None:
    kernel, widths, poolings = MADE[name]
    network = find_source(f"cbr:{name}").create(None, None)
    seen: list[nn.Module] = []
    for module in network.modules():
        module.register_forward_hook(lambda module, given, made: seen.append(module))
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 1000)
    kinds = [type(module) for module in seen if type(module) in (nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d)]
    block = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d]
    assert kinds == (block * len(widths))[: 3 * len(widths) + poolings]
    convolutions = [module for module in seen if isinstance(module, nn.Conv2d)]
    assert [module.out_channels for module in convolutions] == widths
    assert {(module.kernel_size, module.stride) for module in convolutions} == {((kernel, kernel), (1, 1))}
    assert {(m.kernel_size, m.stride) for m in seen if isinstance(m, nn.MaxPool2d)} == {(3, 2)}
    count = sum(a * b * kernel**2 for a, b in zip([3, *widths], widths, strict=False)) + 2 * sum(widths)
    assert sum(p.numel() for p in network.layers.parameters()) == count


def test_they_are_listed_cut_and_without_published_weights() -> None:
    assert list_archs("cbr:*") == [f"cbr:{name}" for name in MADE]
    net = probe.backbone("cbr:small", "scratch", image_size=32, seed=1)
    assert net.taps == tuple(f"layers.{i}" for i in range(4))
    assert [stage.shape for stage in net.stages] == [(32, 32, 32), (64, 16, 16), (128, 8, 8), (256, 4, 4)]
    assert net.weights_hash() == probe.backbone("cbr:small", "scratch", image_size=32, seed=1).weights_hash()
    with pytest.raises(Unreachable, match="no weights are published for cbr:tiny; use 'scratch' or a file"):
        probe.backbone("cbr:tiny")
    with pytest.raises(probe.ProbeError, match="unknown arch 'cbr:tinny'; did you mean 'cbr:tiny'"):
        probe.backbone("cbr:tinny", "scratch")
    with pytest.raises(probe.ProbeError, match="unknown weights of cbr:tiny"):
        probe.backbone("cbr:tiny", "IMAGENET1K_V1")
    found = CliRunner().invoke(main, ["archs", "cbr:", "--json"])
    assert json.loads(found.stdout) == list_archs("cbr:*")
