"""Networks are in eval mode, whatever they are made by; only training switches that, and switches back."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from networks import PREPROCESSING
from test_finetune import small, some_data, tune
from torch import Tensor, nn

import probe
from probe.backbones import Origin, from_list, from_module
from probe.finetuning.training import Run

SIZE = 32
Make = Callable[[], nn.Module]


class Own(nn.Module):
    """Two modules, one after the other, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.Dropout(0.5))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)))


def origin() -> Origin:
    return Origin(arch="own", weights="scratch", seed=0, level="layer", preprocessing=PREPROCESSING)


def in_eval_mode(network: nn.Module) -> bool:
    return not any(module.training for module in network.modules())


def images(size: int = SIZE) -> Tensor:
    return torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(1))


MADE: dict[str, Make] = {
    "backbone": lambda: probe.backbone("test_resnet", "scratch", image_size=SIZE),
    "module": lambda: from_module(Own(), origin()),
    "list": lambda: from_list(Own(), origin(), ["stem", "body", "head"]),
    "cut": lambda: MADE["backbone"]().cut(2),
    "rest": lambda: MADE["backbone"]().split(2)[1],
    "head alone": lambda: MADE["backbone"]().split(-1)[1],
    "copy": lambda: copy.deepcopy(MADE["backbone"]()),
    "truncated": lambda: probe.truncate(MADE["backbone"](), 2, 3, dropout=0.5),
    "truncated in training": lambda: probe.truncate(MADE["backbone"]().train(), 2, 3),
}


@pytest.mark.parametrize("made", MADE)
def test_what_is_made_is_in_eval_mode(made: str) -> None:
    assert in_eval_mode(MADE[made]())


def test_a_file_is_loaded_in_eval_mode(tmp_path: Path) -> None:
    probe.save(MADE["truncated"]().train(), tmp_path / "model.safetensors")
    assert in_eval_mode(probe.load(tmp_path / "model.safetensors"))


def test_a_pass_and_a_walk_change_no_buffer() -> None:
    net = probe.backbone("test_resnet", "scratch", image_size=SIZE)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with torch.no_grad():
        net(images())
        list(net.walk(images()))
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("arch", ["test_resnet", "test_vit", "torchvision:resnet18"])
def test_a_network_gives_what_its_library_gives_in_eval_mode(arch: str) -> None:
    net = probe.backbone(arch, "scratch", image_size=64, seed=3)
    torch.manual_seed(3)
    name = arch.partition(":")[2]
    sized = {"img_size": 64} if "vit" in arch else {}
    library = torchvision.models.get_model(name, weights=None) if name else timm.create_model(arch, **sized)
    with torch.no_grad():
        assert torch.equal(net(images(64)), library.eval()(images(64)))


def test_a_part_of_a_network_in_training_is_in_training() -> None:
    net = MADE["backbone"]().train()
    assert all(module.training for part in net.split(2) for module in part.modules())
    assert all(module.training for module in net.modules())


def test_training_switches_modes_and_switches_back(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, step = list[set[bool]](), Run._gradients

    def noted(run: Run, *given: Any) -> float:
        seen.append(
            {module.training for part in (*run.model.trunk.stages, run.model.head) for module in part.modules()}
        )
        return step(run, *given)

    monkeypatch.setattr(Run, "_gradients", noted)
    model = small()
    found = tune(model, some_data(), "ftl", epochs=1)
    assert seen
    assert all(modes == {True} for modes in seen)
    assert in_eval_mode(model)
    assert in_eval_mode(found.model)
