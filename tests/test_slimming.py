"""A halved top: shapes against the architecture built narrower, what is kept below, and what becomes of the result."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from conftest import StoppedAt
from helpers import same, small, some_data, tiny_resnet, tune, weights
from networks import ARCHS, make_backbone, make_network
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

import probe
from probe import finetuning
from probe.backbones import Backbone
from probe.base.runtime import optional
from probe.finetuning import State, Strategy
from probe.finetuning.initialisation import draw_weights
from probe.finetuning.strategies import find_strategy
from probe.finetuning.training import Run
from probe.settings import Tuning
from probe.truncation import Truncated, read_card
from probe.truncation.exports import export
from probe.truncation.halved_top import halve_top
from probe.truncation.prediction import predict

BEGIN = {  # network: the stage from which on it is halved
    "resnet18": "layer3.0", "resnext50_32x4d": "layer4.0", "torchvision:vgg11": "features.12",
    "torchvision:densenet121": "features.denseblock3", "torchvision:mobilenet_v2": "features.14",
    "torchvision:inception_v3": "Mixed_6b", "efficientnet_b0": "blocks.5.0", "cbr:larget": "layers.2",
}  # fmt: skip


@cache
def net(arch: str) -> Backbone:
    return make_backbone(make_network(arch), arch)


def images(size: int = 64, count: int = 2) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(count))


def slim(top_k: int = 2, seed: int = 0) -> Truncated:
    model = small()
    draw_weights(model, find_strategy("tf", len(model.trunk.stages), Tuning(top_k=top_k)), seed)
    return model


def kernels(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.ndim == 4)


# what is halved


def test_the_top_is_the_architecture_built_narrower() -> None:
    """torchvision's own layer4 of 256 planes over a layer3 of full width: names, shapes and outputs."""
    whole = make_backbone(torchvision.models.resnet50(weights=None), "torchvision:resnet18")
    found = halve_top(whole, 3).eval()
    narrow = torchvision.models.resnet50(weights=None)
    narrow.inplanes = 1024
    layer = narrow._make_layer(Bottleneck, 256, 3, stride=2).eval()
    state = {name: tensor for stage in found.stages[-3:] for name, tensor in stage.state_dict().items()}
    layer.load_state_dict({name.removeprefix("layer4."): tensor for name, tensor in state.items()})
    with torch.no_grad():
        assert torch.equal(found(images()), layer(whole.eval().cut("layer3.5")(images())))
    assert found.tap(-1).shape == (1024, 2, 2)
    # 12.9 million is what the published table of truncated networks has for this arm (Peng et al. 2023)
    assert round(sum(parameter.numel() for parameter in found.parameters()) / 1e6, 1) == 12.9


@pytest.mark.slow
@pytest.mark.parametrize("arch", BEGIN)
def test_halved_networks_run_and_train(arch: str) -> None:
    whole, size = net(arch), ARCHS[arch]
    count = len(whole.taps) - whole.taps.index(BEGIN[arch])
    random, before = torch.random.get_rng_state(), weights(whole)
    found = halve_top(whole, count, seed=1)
    assert torch.equal(torch.random.get_rng_state(), random)
    assert same(weights(whole), before)
    assert found.taps == whole.taps
    assert list(found.stages[:-count]) == list(whole.stages[:-count])
    for old, new in zip(whole.stages[-count:], found.stages[-count:], strict=True):
        assert old.state_dict().keys() == new.state_dict().keys()
        assert old.shape[1:] == new.shape[1:]
    last, first = whole.stages[-1], found.stages[-1]
    if "densenet" not in arch and count > 1:  # whose last block takes what came through, of which a part is whole
        assert first.shape[0] == last.shape[0] / 2
        assert kernels(first) == pytest.approx(kernels(last) / 4)
        assert first.macs == pytest.approx(last.macs / 4)
    with torch.no_grad():
        for stage, x in found.eval().walk(images(size)):
            assert tuple(x.shape[1:]) == stage.shape
            assert x.isfinite().all()
    found.train()(images(size, 3)).square().mean().backward()
    assert [name for name, parameter in found.named_parameters() if parameter.grad is None] == []


def test_a_depthwise_convolution_keeps_a_filter_per_channel() -> None:
    """Of all channels that come in from the stage of full width: the next convolution is the first to halve."""
    found = halve_top(net("torchvision:mobilenet_v2").cut("features.1"), 1).stages[-1].state_dict()
    assert {tuple(x.shape) for x in found.values() if x.ndim == 4} == {(32, 1, 3, 3), (8, 32, 1, 1)}


def test_weights_are_drawn_from_the_seed_as_he_did() -> None:
    first, again, other = (halve_top(tiny_resnet(), 2, seed).weights() for seed in (3, 3, 4))
    assert same(first, again)
    assert not same(first, other)
    found = halve_top(net("resnet18"), 2)
    for stage in found.stages[-2:]:
        for name, tensor in stage.state_dict().items():
            if tensor.ndim == 4:
                assert float(tensor.std()) == pytest.approx((2 / tensor[0].numel()) ** 0.5, rel=0.05), name
            elif name.endswith(("running_var", "weight")):
                assert (tensor == 1).all(), name
            else:
                assert (tensor == 0).all(), name


REFUSED = {
    "vit_tiny_patch16_224": "only networks of convolutions .* and vit_tiny_patch16_224 has Linear in blocks.11",
    "convnext_atto": "only networks of convolutions .* and convnext_atto has a parameter in stages.3.blocks.1",
    "torchvision:shufflenet_v2_x0_5": "cannot be halved from .* up: .*; it can begin at conv5 .top_k 1.",
    "resnet18": "cannot be halved from layer4.1 up: .*; it can begin at stem .top_k 9., layer2.0",
}


@pytest.mark.parametrize("arch", REFUSED)
def test_what_cannot_be_halved_is_said(arch: str) -> None:
    with pytest.raises(probe.ProbeError, match=REFUSED[arch]):
        halve_top(net(arch), 2 if "shuffle" in arch else 1)


# the strategy


@pytest.fixture
def last_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "_scores", lambda self: list(range(len(self.history))))


def test_the_bottom_is_kept_bit_by_bit_and_the_top_is_new() -> None:
    model, before = slim(), small()
    assert model.halved == 2
    for old, new in zip(before.trunk.stages[:3], model.trunk.stages[:3], strict=True):
        assert same(weights(old), weights(new))
    assert model.head.linear.in_features == before.head.linear.in_features / 2
    assert model.macs < before.macs
    assert model.trunk.origin == before.trunk.origin
    whole = slim(top_k=5, seed=2)
    assert (whole.trunk.origin.weights, whole.trunk.origin.seed) == ("scratch", 2)


@pytest.mark.usefixtures("last_kept")
def test_all_of_it_is_trained_and_the_given_model_stands() -> None:
    model = small()
    before = weights(model)
    found = tune(model, some_data(), "tf", tuning=Tuning(top_k=2), lr=1e-3, seed=4)
    assert same(weights(model), before)
    start, end = slim(seed=4).weights(), found.model.weights()
    assert start.keys() == end.keys() == model.weights().keys()
    assert all(not torch.equal(start[name], end[name]) for name in start)


def test_a_run_that_was_stopped_goes_on_bit_by_bit(tmp_path: Path, stopped_at: StoppedAt) -> None:
    model, data = small(), some_data()
    how: dict[str, Any] = {"tuning": Tuning(top_k=2), "lr": 1e-3, "epochs": 3}
    whole = tune(model, data, "tf", **how)
    with stopped_at(2):
        tune(model, data, "tf", checkpoint=tmp_path / "kept.pt", **how)
    again = tune(model, data, "tf", checkpoint=tmp_path / "kept.pt", **how)
    assert same(weights(again.model), weights(whole.model))
    assert len(again.history) == 4


def test_a_file_gives_the_halved_network_back(tmp_path: Path) -> None:
    model, data = slim().eval(), some_data()
    probe.save(model, tmp_path / "slim.safetensors")
    assert read_card(tmp_path / "slim.safetensors")["halved"] == 2
    loaded = probe.load(tmp_path / "slim.safetensors")
    assert loaded.halved == 2
    assert (loaded.macs, loaded.params) == (model.macs, model.params)
    with torch.no_grad():
        assert torch.equal(loaded(images(32)), model(images(32)))
    assert (predict(loaded, data.images) == predict(model, data.images)).all()
    probe.save(small(), tmp_path / "whole.safetensors")
    assert probe.load(tmp_path / "whole.safetensors").halved == 0


def test_a_halved_network_can_be_exported(tmp_path: Path) -> None:
    optional("onnxscript", "onnx", "this test")
    onnxruntime = pytest.importorskip("onnxruntime")
    model = slim().eval()
    export(model, {}, tmp_path / "slim.onnx", "onnx")
    session = onnxruntime.InferenceSession(tmp_path / "slim.onnx")
    (found,) = session.run(None, {"images": images(32, 3).numpy()})
    torch.testing.assert_close(torch.from_numpy(found), model(images(32, 3)).detach(), rtol=1e-4, atol=1e-5)


def test_a_halved_network_is_trained_further_but_not_halved_again() -> None:
    model, data = slim(), some_data()
    found = tune(model, data, "scratch", epochs=1)
    assert {name: x.shape for name, x in found.model.weights().items()} == {
        name: x.shape for name, x in model.weights().items()
    }
    fresh = slim()
    draw_weights(fresh, find_strategy("scratch", 5, Tuning()), 0)
    assert same(fresh.trunk.cut(2).weights(), tiny_resnet().cut(2).weights())
    with pytest.raises(probe.ProbeError, match=re.escape("layer3.0 of test_resnet has been halved already")):
        tune(model, data, "tf", tuning=Tuning(top_k=2))


def test_only_a_top_can_be_halved_and_given_weights_be_kept() -> None:
    mixed = Strategy(name="mine", stages=(*[State(weights="slim")] * 2, *[State()] * 3))
    with pytest.raises(probe.ProbeError, match="must be the highest"):
        finetuning.finetune(small(), some_data(), mixed)
    with pytest.raises(probe.ProbeError, match="tf is about the given weights, and this network's are random"):
        tune(probe.truncate(tiny_resnet(), -1, ["a", "b"]), some_data(), "tf")
