"""Pretraining: a file that every loader takes, what it holds, and a run that goes on where it was."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from conftest import StoppedAt
from helpers import QUICK, SIZE, same, some_data, write_npz
from safetensors.torch import load_file, save_file

import probe
from probe.backbones.state_dicts import hash_tensors
from probe.commands import main
from probe.data import Dataset
from probe.finetuning import Pretrained, pretrain, read_pretraining
from probe.finetuning.training import Run
from probe.records.record import Record
from probe.records.result_rows import read_rows
from probe.settings import Network, Training

NETWORK = Network(image_size=SIZE)


def quick(place: Path, arch: str = "test_resnet", data: Dataset | None = None, **changes: Any) -> Pretrained:
    settings = {name: changes.pop(name) for name in ("epochs", "lr") if name in changes}
    training = Training(**{**QUICK, "lr": 1e-3, **settings})
    return pretrain(arch, data or some_data(), place, network=NETWORK, training=training, **changes)


@pytest.fixture
def last_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last epoch is kept, so that what training moved can be seen."""
    monkeypatch.setattr(Run, "_scores", lambda self: list(range(len(self.history))))


def test_a_start_that_nothing_beats_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert quick(tmp_path / "w.safetensors", epochs=1).training.best_epoch == 1
    assert "it began with" not in caplog.text
    monkeypatch.setattr(Run, "_scores", lambda self: [-line["epoch"] for line in self.history])
    assert quick(tmp_path / "w.safetensors", epochs=1).training.best_epoch == 0
    assert "holds the weights it began with" in caplog.text


@pytest.mark.usefixtures("last_kept")
@pytest.mark.parametrize("arch", ["test_resnet", "test_vit", "cbr:small"])
def test_the_file_is_taken_as_weights(arch: str, tmp_path: Path) -> None:
    """Bit by bit up to the last tap; the classifier is not kept."""
    made = quick(tmp_path / "w.safetensors", arch, epochs=1)
    net = probe.backbone(arch, tmp_path / "w.safetensors", image_size=SIZE)
    assert same(net.weights(), made.training.model.trunk.weights())
    assert not same(net.weights(), probe.backbone(arch, "scratch", image_size=SIZE).weights())
    tensors = load_file(tmp_path / "w.safetensors")
    assert not any(name.startswith(("fc.", "head.fc", "head.weight")) for name in tensors)
    assert made.card["hash"] == hash_tensors(tensors)
    model = probe.truncate(net, 1, ["a", "b"])
    assert probe.finetune(model, some_data(), "lp", training=Training(**QUICK)).best_epoch >= 0


def test_another_image_size_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = quick(tmp_path / "w.safetensors", "test_vit", epochs=1).path
    caplog.clear()
    assert probe.backbone("test_vit", file, image_size=SIZE).taps
    assert not caplog.records or "px" not in caplog.text
    assert probe.backbone("test_vit", file, image_size=2 * SIZE).taps  # its position embeddings are resampled
    assert f"was trained on images of {SIZE} px and is read at {2 * SIZE} px" in caplog.text
    with pytest.raises(probe.ProbeError, match=f"was trained on images of {SIZE} px; give that image size"):
        probe.backbone("test_vit", file)


def test_the_card_says_what_it_was_trained_on(tmp_path: Path) -> None:
    data = some_data()
    made = quick(tmp_path / "w.safetensors", seed=3)
    card = read_pretraining(made.path)
    assert card == json.loads(json.dumps(made.card))
    assert (card["arch"], card["trained_to"], card["seed"]) == ("test_resnet", "layer4.0", 3)
    assert (card["data"]["name"], card["data"]["classes"], card["data"]["images"]) == ("some", ["a", "b"], len(data))
    assert card["preprocessing"]["image_size"] == SIZE
    assert card["start"]["hash"] == probe.backbone("test_resnet", "scratch", seed=3, image_size=SIZE).weights_hash()
    rows = made.training.rows
    assert set(rows["study"]) == {"pretrain"}
    assert card["auroc"]["val"] == pytest.approx(made.training.history["val_auroc"].max())
    torch.save({"a": torch.ones(1)}, tmp_path / "other.pth")
    with pytest.raises(probe.ProbeError, match="cannot read a card from"):
        read_pretraining(tmp_path / "other.pth")
    probe.save(made.training.model, tmp_path / "model.safetensors")
    with pytest.raises(probe.ProbeError, match="has no card of pretraining; 'probe pretrain' makes one"):
        read_pretraining(tmp_path / "model.safetensors")


def test_pretraining_goes_on_from_weights_and_the_final_norm_stays(tmp_path: Path) -> None:
    first = quick(tmp_path / "first.safetensors", "test_vit", epochs=1)
    state = load_file(first.path)
    state["norm.weight"] += 1  # above the last tap
    save_file(state, tmp_path / "given.safetensors")
    second = quick(tmp_path / "second.safetensors", "test_vit", epochs=1, weights=tmp_path / "given.safetensors")
    assert second.card["start"]["hash"] == first.training.model.trunk.weights_hash()
    assert torch.equal(load_file(second.path)["norm.weight"], state["norm.weight"])


def test_a_run_that_was_stopped_goes_on(tmp_path: Path, stopped_at: StoppedAt) -> None:
    whole = quick(tmp_path / "whole.safetensors", epochs=3)
    with stopped_at(2):
        quick(tmp_path / "w.safetensors", epochs=3, checkpoint=tmp_path / "kept.pt")
    assert not (tmp_path / "w.safetensors").exists()
    again = quick(tmp_path / "w.safetensors", epochs=3, checkpoint=tmp_path / "kept.pt")
    assert again.card["hash"] == whole.card["hash"]


def test_a_place_that_cannot_be_written_is_told_first(tmp_path: Path) -> None:
    with pytest.raises(probe.ProbeError, match=r"a model is a .safetensors file"):
        quick(tmp_path / "weights.pth")


def test_the_command_gives_weights_to_the_others(tmp_path: Path) -> None:
    data = some_data()
    write_npz(tmp_path / "some.npz", data, data.splits)
    common = ["--arch", "test_resnet", "--data", tmp_path / "some.npz", "--image-size", SIZE, "--epochs", 1,
              "--draws", 100]  # fmt: skip
    first = ["pretrain", *common, "--out", tmp_path / "one", "--seed", 1, "--json"]
    found = CliRunner().invoke(main, list(map(str, first)))
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert told["files"][0] == str(tmp_path / "one" / "weights.safetensors")
    assert all(Path(file).is_file() for file in told["files"])
    assert set(told["scores"]) == {"train", "val", "test"}
    (entry,) = Record(tmp_path / "one").entries("pretrain")
    assert (entry.facts["card"]["seed"], entry.asked["Training"]["epochs"]) == (1, 1)
    assert set(read_rows(tmp_path / "one" / "results.jsonl")["study"]) == {"pretrain"}
    second = ["finetune", *common, "--at", "layer2.0", "--weights", told["files"][0], "--out", tmp_path / "two"]
    found = CliRunner().invoke(main, list(map(str, second)))
    assert found.exit_code == 0, found.output
    assert "model.safetensors" in found.stdout
