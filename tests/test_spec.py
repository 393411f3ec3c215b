"""A network as it is asked for: its rules, its identity without building it, and how often it is built."""

import hashlib
import json
import pickle
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from click.testing import CliRunner
from test_check import FAST
from test_finetune import some_data
from test_study import shapes_data

import probe
from probe import NetworkSpec
from probe.backbones import Networks, building
from probe.commands import main
from probe.features.by_spec import features_of
from probe.settings import Attribution, Batches, Extraction, Network

ARCH = "test_resnet"
SMALL = Extraction(device="cpu", batch_size=32)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[NetworkSpec]:
    """Every network that is built, as it was asked for."""
    seen, build = list[NetworkSpec](), building.build

    def noted(spec: NetworkSpec) -> probe.Backbone:
        seen.append(spec)
        return build(spec)

    monkeypatch.setattr(building, "build", noted)
    return seen


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """A file of weights."""
    torch.save(timm.create_model(ARCH).state_dict(), tmp_path / "w.pth")
    return str(tmp_path / "w.pth")


def scratch(seed: int = 0, **changes: Any) -> NetworkSpec:
    return NetworkSpec(arch=ARCH, weights="scratch", seed=seed, **{"image_size": 32, **changes})


# rules


def test_a_seed_draws_scratch_weights_and_nothing_else(weights: str) -> None:
    assert scratch(3).seed == 3
    assert [NetworkSpec(arch=ARCH, weights=name, seed=3).seed for name in ("pretrained", "a1_in1k", weights)] == [0] * 3
    net = probe.backbone(ARCH, weights, seed=3, image_size=32)
    assert net.origin.seed == 0
    assert replace(scratch(3), weights="pretrained") == NetworkSpec(arch=ARCH, image_size=32)
    with pytest.raises(probe.ProbeError, match="seed -1 is out of range"):
        scratch(-1)


def test_a_size_asked_for_goes_before_that_of_the_data() -> None:
    assert scratch(image_size=None).sized(64).image_size == 64
    assert scratch(image_size=32).sized(64).image_size == 32
    assert scratch(image_size=None).sized(None).image_size is None


def test_a_spec_is_plain_data() -> None:
    settings = Network(level="stage", crop="center", modules=("a", "b"))
    spec = NetworkSpec.of(settings, ARCH, Path("scratch"), 1)
    assert asdict(spec) == asdict(settings) | {"arch": ARCH, "weights": "scratch", "seed": 1}
    assert NetworkSpec(**json.loads(json.dumps(asdict(spec)))) == spec == pickle.loads(pickle.dumps(spec))
    assert len({spec, replace(spec, seed=1), replace(spec, seed=2)}) == 2
    with pytest.raises(probe.ProbeError, match="level is 'blok'; choose from layer, block, stage"):
        probe.backbone(ARCH, "scratch", level="blok")
    with pytest.raises(probe.ProbeError, match="crop is 'centre'; choose from"):
        probe.backbone(ARCH, "scratch", crop="centre")


def test_a_spec_builds_what_backbone_builds() -> None:
    net = scratch(3, level="stage").build()
    other = probe.backbone(ARCH, "scratch", seed=3, image_size=32, level="stage")
    assert net.origin == other.origin
    assert net.weights_hash() == other.weights_hash()
    assert net.origin.from_scratch(3).build().weights_hash() == net.weights_hash()


# identity


def test_identity_says_what_decides_the_numbers(weights: str, built: list[NetworkSpec], tmp_path: Path) -> None:
    plain = scratch().identity()
    others = [
        scratch(1), scratch(level="layer"), scratch(crop="center"), scratch(image_size=64),
        scratch(modules=("conv1", "fc")), replace(scratch(), arch="test_vit"), replace(scratch(), weights=weights),
    ]  # fmt: skip
    told = [json.dumps(spec.identity(), sort_keys=True) for spec in (scratch(), *others)]
    assert len(set(told)) == len(told)
    assert plain is not None
    assert set(plain) == {*asdict(Network()), "arch", "weights", "versions"}
    assert built == []
    copy = tmp_path / "called otherwise.pth"
    copy.write_bytes(Path(weights).read_bytes())
    first, second = (NetworkSpec(arch=ARCH, weights=str(file)).identity() for file in (weights, copy))
    assert first == second
    assert first is not None
    assert first["weights"] == hashlib.sha256(copy.read_bytes()).hexdigest()
    copy.write_bytes(copy.read_bytes() + b"0")
    assert NetworkSpec(arch=ARCH, weights=str(copy)).identity() != first


def test_what_is_not_on_this_machine_has_no_identity_yet() -> None:
    assert NetworkSpec(arch="resnet18").identity() is None
    assert NetworkSpec(arch="hf-hub:nobody/nothing", weights="scratch").identity() is None
    with pytest.raises(probe.ProbeError, match="cannot read 'gone.pth'"):
        NetworkSpec(arch=ARCH, weights="gone.pth").identity()


# how often a network is built


def test_networks_are_built_once(built: list[NetworkSpec]) -> None:
    networks = Networks(2)
    assert networks(scratch()) is networks(scratch())
    networks(scratch(1))
    assert networks(scratch()) is networks(scratch())
    assert built == [scratch(0), scratch(1)]
    networks(scratch(2))  # and the one that was longest not asked for is let go
    networks(scratch(1))
    assert built[2:] == [scratch(2), scratch(1)]


def test_features_build_what_they_are_given_to_build_with(built: list[NetworkSpec], tmp_path: Path) -> None:
    data, networks = some_data(), Networks()
    net = networks(scratch())
    first = features_of(scratch(), data, SMALL, tmp_path, networks)
    assert first.details["state"] == net.weights_hash()
    again = features_of(scratch(), data, SMALL, tmp_path)
    assert (again.folder, again.taps) == (first.folder, first.taps)
    assert len(built) == 1


def test_attribution_builds_its_network_once(built: list[NetworkSpec], tmp_path: Path) -> None:
    batches, network = Batches(device="cpu"), Network(image_size=32)
    found = probe.attribute(
        ARCH, some_data(), weights=["scratch"], taps=[1, 2], seed=3, network=network, batches=batches, cache=tmp_path,
        attribution=Attribution(checked=0),
    )  # fmt: skip
    assert built == [scratch(3)]
    assert len(found.entries) == 1


def test_finetuning_from_several_seeds_builds_given_weights_once(
    built: list[NetworkSpec], weights: str, tmp_path: Path
) -> None:
    def tune(source: str, out: str) -> list[NetworkSpec]:
        built.clear()
        asked = ["finetune", "--arch", ARCH, "--at", "-1", "--weights", source, "--seeds", "2", "--image-size", "16",
                 "--strategy", "lp", "--epochs", "1", "--draws", "100", "--device", "cpu",
                 "--out", str(tmp_path / out)]  # fmt: skip
        result = CliRunner().invoke(main, asked, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return [replace(spec, image_size=32) for spec in built]

    assert tune(weights, "a") == [replace(scratch(), weights=weights)]
    assert tune("scratch", "b") == [scratch(0), scratch(1)]


def test_a_check_builds_a_network_per_seed(
    built: list[NetworkSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check() -> Any:
        return probe.check(
            ARCH, ["scratch"], shapes_data(60), taps=[0, 2, 4], strategies=["ftl"], seeds=(0, 1), out=tmp_path,
            network=Network(image_size=32), training=FAST, cache=tmp_path / "cache",
        )  # fmt: skip

    check()
    for file in (tmp_path / "cells").iterdir():
        file.unlink()
    built.clear()
    assert len(check().cells) == 6
    assert built == [scratch(0), scratch(1)]
