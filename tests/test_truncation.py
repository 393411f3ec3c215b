"""Truncated networks: heads by their definition, training as the original, files that give back what was saved."""

import copy
import csv
import io
import json
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from networks import make_backbone, make_network
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import probe
from probe.backbones import Backbone, Origin, from_module
from probe.base.runtime import optional
from probe.commands import main
from probe.data import find_images
from probe.features.walk import transform
from probe.probes import fit_path
from probe.settings import Batches
from probe.tasks import Classes, Labels, Task
from probe.truncation import head_from_probe, read_card
from probe.truncation.exports import export
from probe.truncation.prediction import predict

SMALL = {"test_resnet": "nchw", "test_mambaout": "nhwc", "test_vit": "ntd"}  # timm's smallest of each layout
SIZE = 32  # pixels


@cache
def net(arch: str = "test_resnet") -> Backbone:
    return probe.backbone(arch, "scratch", image_size=SIZE)


def images(count: int = 2, size: int = SIZE) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(count))


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# heads


@pytest.mark.parametrize("arch", SMALL)
def test_gap_is_the_mean_over_the_images_own_positions(arch: str) -> None:
    model = probe.truncate(net(arch), 2, 3)
    x = model.trunk(images())
    axes = {"nchw": (2, 3), "nhwc": (1, 2), "ntd": (1,)}[SMALL[arch]]
    places = x[:, 1:] if SMALL[arch] == "ntd" else x  # without the class token
    expected = places.mean(axes) @ model.head.linear.weight.T + model.head.linear.bias
    torch.testing.assert_close(model(images()), expected)


@pytest.mark.parametrize("arch", SMALL)
def test_flatten_keeps_every_position(arch: str) -> None:
    model = probe.truncate(net(arch), 1, 3, head="flatten+linear")
    x = model.trunk(images())
    assert model.head.linear.in_features == math.prod(x.shape[1:])
    expected = x.reshape(2, -1) @ model.head.linear.weight.T + model.head.linear.bias
    torch.testing.assert_close(model(images()), expected)


def test_cls_reads_the_class_token_where_there_is_one() -> None:
    model = probe.truncate(net("test_vit"), 1, 3, head="cls+linear")
    expected = model.trunk(images())[:, 0] @ model.head.linear.weight.T + model.head.linear.bias
    torch.testing.assert_close(model(images()), expected)
    with pytest.raises(probe.ProbeError, match="no class token at 'stem'"):
        probe.truncate(net(), 0, 3, head="cls+linear")


@pytest.mark.parametrize(("activation", "kind"), [("relu", nn.ReLU), ("gelu", nn.GELU)])
def test_the_mlp_has_one_hidden_layer(activation: str, kind: type[nn.Module]) -> None:
    model = probe.truncate(net(), 1, 3, head="mlp", hidden=5, activation=activation, dropout=0.5)
    _, dropout, hidden, between, linear = model.head
    assert (type(dropout), dropout.p, type(between)) == (nn.Dropout, 0.5, kind)
    assert (hidden.in_features, hidden.out_features, linear.in_features, linear.out_features) == (32, 5, 5, 3)
    x = model.trunk(images()).mean((2, 3))
    torch.testing.assert_close(model(images()), linear(between(hidden(x))))
    assert not torch.equal(model.train()(images()), model(images()))  # dropout draws anew


def test_heads_are_drawn_from_their_seed() -> None:
    first, again, other = (probe.truncate(net(), 1, 3, seed=seed).head.linear.weight for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "the classifier": ({"tap": "fc"}, "unknown tap 'fc'; choose from stem, layer1.0"),
    "near a tap": ({"tap": "layer1.1"}, "did you mean 'layer1.0'"),
    "beyond the end": ({"tap": 9}, "out of range"),
    "one class": ({"task": 1}, "1 classes cannot be told apart"),
    "one name": ({"task": ["a"]}, "at least two"),
    "no label": ({"task": Labels([])}, "at least one label"),
    "twice": ({"task": ["a", "b", "a"]}, "two classes are called 'a'"),
    "head": ({"head": "conv"}, "head is 'conv'; choose from gap.linear"),
    "activation": ({"head": "mlp", "activation": "tanh"}, "choose from relu, gelu"),
    "hidden": ({"head": "mlp", "hidden": 0}, "at least 1"),
    "dropout": ({"dropout": 1.0}, "below 1"),
    "seed": ({"seed": -1}, "seed -1 is out of range"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_built_is_refused(case: str) -> None:
    changes, words = REFUSED[case]
    with pytest.raises(probe.ProbeError, match=words):
        probe.truncate(**{"net": net(), "tap": "layer1.0", "task": 3, **changes})


# training


def test_truncating_changes_nothing_and_training_leaves_the_network_alone() -> None:
    whole = copy.deepcopy(net())
    before, random = state(whole), torch.random.get_rng_state()
    model = probe.truncate(whole, "layer2.0", 3, head="mlp")
    assert torch.equal(torch.random.get_rng_state(), random)
    assert same(state(whole), before)
    assert not any(module.training for module in model.modules())
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    cross_entropy(model(images()), torch.tensor([0, 2])).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    optimizer.step()
    assert not torch.equal(model.weights()["trunk.conv1.0.weight"], before["stages.0.conv1.0.weight"])
    assert same(state(whole), before)


def test_in_train_mode_the_trunk_is_the_prefix_of_the_original() -> None:
    """Drop rates on, the same seed: the tensor at the tap, and every gradient, are the original network's."""
    original = make_network("resnet18").train()
    for parameter in original.parameters():
        parameter.data.add_(0.1 * (parameter.ndim == 1))  # norms that start at zero would hide what is dropped
    whole = make_backbone(copy.deepcopy(original), "resnet18")
    tap = whole.taps[-2]
    model = probe.truncate(whole, tap, 3).train()
    seen: list[Tensor] = []
    handle = original.get_submodule(tap).register_forward_hook(lambda _module, _given, made: seen.append(made))
    torch.manual_seed(7)
    original(images(3, 64))
    handle.remove()
    torch.manual_seed(7)
    mine = model.trunk(images(3, 64))
    assert torch.equal(mine, seen[0])
    for tensor in (mine, seen[0]):
        tensor.square().mean().backward()
    grads = {name: parameter.grad for name, parameter in original.named_parameters()}
    kept = {name: p for stage in model.trunk.stages for name, p in stage.named_parameters()}
    assert len(kept) > 20
    assert all(torch.equal(parameter.grad, grads[name]) for name, parameter in kept.items())
    torch.manual_seed(8)
    assert not torch.equal(model.trunk(images(3, 64)), mine)  # another seed, other paths are dropped


@pytest.mark.parametrize("task", [Classes(2), Classes(3), Labels(2)], ids=str)
def test_a_head_starts_from_a_probe(task: Task) -> None:
    model = probe.truncate(net(), 2, task)
    batch, rng = images(24), np.random.default_rng(0)
    with torch.no_grad():
        features = net().tap(2).pool(model.trunk(batch), "mean").numpy()
    labels = rng.integers(0, 2, (24, 2)) if task.independent else np.arange(24) % task.outputs
    path = fit_path(features, labels, task, [1.0])
    head_from_probe(model, path)
    with torch.no_grad():
        found = task.prediction(model(batch)).numpy()
    np.testing.assert_allclose(found, path.probabilities(features, 0), atol=1e-5)
    assert np.ptp(found) > 0.2  # the probe tells them apart
    with pytest.raises(probe.ProbeError, match="is not one of this head"):
        head_from_probe(probe.truncate(net(), 1, 4), path)
    with pytest.raises(probe.ProbeError, match="cannot start the head 'mlp'"):
        head_from_probe(probe.truncate(net(), 2, task, head="mlp"), path)


# files


@pytest.mark.parametrize(
    ("arch", "tap", "head"),
    [("test_resnet", 0, "mlp"), ("test_resnet", 2, "gap+linear"), ("test_resnet", -1, "flatten+linear"),
     ("test_mambaout", 5, "gap+linear"), ("test_vit", 3, "cls+linear")],
)  # fmt: skip
def test_a_file_gives_back_the_model(arch: str, tap: int, head: str, tmp_path: Path) -> None:
    whole = net(arch).cut(-1)
    moments = replace(net(arch).origin.preprocessing, mean=(0.1, 0.2, 0.3), crop="center")
    whole.origin = replace(net(arch).origin, weights="mine.pth", seed=5, preprocessing=moments)
    model = probe.truncate(whole, tap, ["ä", "b", "c"], head=head, dropout=0.1, activation="gelu").train()
    model(images())  # BatchNorm's statistics move
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    before = state(model)
    card = probe.save(model, tmp_path / "new" / "m.safetensors")
    assert same(state(model), before)  # measuring the latency changes nothing
    assert all(module.training for module in model.modules())
    random = torch.random.get_rng_state()
    found = probe.load(tmp_path / "new" / "m.safetensors")
    assert torch.equal(torch.random.get_rng_state(), random)
    assert not any(module.training for module in found.modules())
    assert torch.equal(found(images()), model.eval()(images()))
    assert (found.task, found.tap, found.settings) == (Classes(["ä", "b", "c"]), model.tap, model.settings)
    assert found.trunk.origin == model.trunk.origin
    assert found.source_hash == net(arch).cut(tap).weights_hash() != found.trunk.weights_hash()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["m.safetensors"]
    assert read_card(tmp_path / "new" / "m.safetensors") == json.loads(json.dumps(card))


def test_the_card_says_what_is_in_the_file(tmp_path: Path) -> None:
    model = probe.truncate(net(), "layer2.0", 7)
    card = probe.save(model, tmp_path / "m.safetensors")
    tap = net().tap("layer2.0")
    assert (card["arch"], card["level"], card["tap"], card["task"]) == (
        "test_resnet",
        "block",
        "layer2.0",
        "multiclass",
    )
    assert card["params"] == tap.params + 7 * (tap.width + 1)
    assert card["macs"] == tap.macs + 7 * tap.width
    assert card["params"] == sum(parameter.numel() for parameter in model.parameters())
    assert card["preprocessing"] == net().describe()["preprocessing"]
    assert card["source"] == {"weights": "scratch", "seed": 0, "hash": net().cut("layer2.0").weights_hash()}
    assert card["latency"]["ms_per_image"] > 0
    assert card["latency"]["threads"] == torch.get_num_threads()
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "m.safetensors").stat().st_mode & 0o777 == 0o666 & ~mask  # as any file of the user's
    assert set(load_file(tmp_path / "m.safetensors")) == set(model.weights())


def saved(folder: Path) -> Path:
    probe.save(probe.truncate(net(), "layer1.0", 3), folder / "m.safetensors")
    return folder / "m.safetensors"


def rewrite(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    """Change the card of a file and leave its tensors."""
    card = read_card(path)
    change(card)
    save_file(load_file(path), path, {"card": json.dumps(card)})


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone": (lambda path: path.unlink(), "no model at"),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:-100]), "is not a readable .safetensors file"),
    "no header": (lambda path: flip(path, 1), "is not a readable .safetensors file"),
    "a flipped bit of a weight": (lambda path: flip(path, -1), "is damaged: its tensors are not those"),
    "text": (lambda path: path.write_text("weights"), "is not a readable .safetensors file"),
    "a pickle": (lambda path: torch.save({"a": torch.ones(1)}, path), "is not a readable .safetensors file"),
    "another kind": (lambda path: save_file({"a": torch.ones(1)}, path), "holds tensors but no card"),
    "no JSON": (lambda path: save_file({"a": torch.ones(1)}, path, {"card": "{"}), "the card of .* is damaged"),
    "a list": (lambda path: save_file({"a": torch.ones(1)}, path, {"card": "[]"}), "the card of .* is damaged"),
    "format": (lambda path: rewrite(path, lambda card: card.update(format=2)), "is of format 2"),
    "incomplete": (lambda path: rewrite(path, lambda card: card.pop("head")), "its card is damaged: KeyError"),
    "task": (lambda path: rewrite(path, lambda card: card.update(task="guess")), "there is no task 'guess' of"),
    "number": (lambda path: rewrite(path, lambda card: card.update(classes=3)), "its card is damaged"),
    "another cut": (
        lambda path: rewrite(path, lambda card: card.update(tap="layer2.0")), "only the network has trunk.layer2.0",
    ),
    "a shorter cut": (
        lambda path: rewrite(path, lambda card: card.update(tap="stem")), "only the file has trunk.layer1.0",
    ),
    "another tap": (lambda path: rewrite(path, lambda card: card.update(tap="layer9")), "unknown tap 'layer9'"),
    "another arch": (lambda path: rewrite(path, lambda card: card.update(arch="resnet5")), "unknown arch 'resnet5'"),
    "more classes": (
        lambda path: rewrite(path, lambda card: card.update(classes=list("abcd"))), r"head.linear.weight is \(3, 32",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_a_file_that_is_not_what_was_saved_is_refused(case: str, tmp_path: Path) -> None:
    damage, words = DAMAGE[case]
    path = saved(tmp_path)
    damage(path)
    with pytest.raises(probe.ProbeError, match=words) as error:
        probe.load(path)
    assert "\n" not in str(error.value)


def test_a_network_that_could_not_be_loaded_back_is_not_saved(tmp_path: Path) -> None:
    mine = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    origin = Origin(arch="mine", weights="scratch", seed=0, level="layer", preprocessing=net().origin.preprocessing)
    with pytest.raises(probe.ProbeError, match="unknown arch 'mine'"):
        probe.save(probe.truncate(from_module(mine, origin), 0, 2), tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_list_of_modules_stands_on_the_card(tmp_path: Path) -> None:
    modules = ("stem", "stages.0", "stages.1", "stages.2", "stages.3", "norm_pre", "head")
    listed = probe.backbone("test_convnext", "scratch", image_size=SIZE, modules=modules)
    model = probe.truncate(listed, "stages.1", 2)
    probe.save(model, tmp_path / "m.safetensors")
    assert torch.equal(probe.load(tmp_path / "m.safetensors")(images()), model(images()))


# exports


def test_onnx_gives_the_same_logits_for_any_batch(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")
    model = probe.truncate(net("test_vit"), 3, 3)
    export(model, {"tap": model.tap}, tmp_path / "m.onnx", "onnx")
    session = runtime.InferenceSession(tmp_path / "m.onnx")
    assert json.loads(session.get_modelmeta().custom_metadata_map["card"]) == {"tap": model.tap}
    for count in (1, 5):
        (found,) = session.run(["logits"], {"images": images(count).numpy()})
        np.testing.assert_allclose(found, model(images(count)).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_an_exported_program_gives_the_same_logits_for_any_batch(tmp_path: Path) -> None:
    model = probe.truncate(net("test_vit"), 3, 3, head="mlp", dropout=0.5).train()
    export(model, {"tap": model.tap}, tmp_path / "m.pt2", "torch")
    assert all(module.training for module in model.modules())
    extra = {"card": ""}
    program = torch.export.load(tmp_path / "m.pt2", extra_files=extra).module()
    assert json.loads(extra["card"]) == {"tap": model.tap}
    for count in (1, 5):
        assert torch.equal(program(images(count)), model.eval()(images(count)))


def test_onnx_without_its_packages_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(package: str, extra: str, purpose: str) -> object:
        return optional("no_such_package", extra, purpose)

    monkeypatch.setattr("probe.truncation.exports.optional", missing)
    with pytest.raises(probe.ProbeError, match=r"truncated-probe\[onnx\]"):
        export(probe.truncate(net(), 1, 2), {}, tmp_path / "m.onnx", "onnx")
    with pytest.raises(probe.ProbeError, match="export is 'tflite'; choose from onnx, torch"):
        export(probe.truncate(net(), 1, 2), {}, tmp_path / "m.tflite", "tflite")


# predictions and commands


def pictures(folder: Path, count: int = 5) -> list[Path]:
    rng = np.random.default_rng(0)
    files = [folder / f"{i}.png" for i in range(count)]
    for file in files:
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(file)
    return files


def test_probabilities_are_the_models_own(tmp_path: Path) -> None:
    files = pictures(tmp_path)
    model = probe.truncate(net(), 2, 3)
    with torch.no_grad():
        model.head.linear.weight.mul_(50)  # probabilities that differ
    ids, source = find_images([tmp_path])
    assert ids == [file.name for file in files]
    size, mean, std = (getattr(model.preprocessing, name) for name in ("image_size", "mean", "std"))
    assert size == SIZE
    pixels = torch.stack([transform(model.preprocessing)(Image.open(file)) for file in files]) / 255
    x = (pixels - torch.tensor(mean).reshape(3, 1, 1)) / torch.tensor(std).reshape(3, 1, 1)
    expected = model(x).softmax(1).detach().numpy()
    assert np.ptp(expected, axis=0).max() > 0.01
    for size in (1, 2, 64):
        np.testing.assert_allclose(predict(model, source, Batches(batch_size=size)), expected, rtol=1e-5, atol=1e-6)
    several = probe.truncate(net(), 2, Labels(3))
    expected = several(x).sigmoid().detach().numpy()
    np.testing.assert_allclose(predict(several, source), expected, rtol=1e-5)


def test_images_may_be_named_in_every_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "a" / "b", 2)
    pictures(tmp_path / "c", 1)
    (tmp_path / "m.csv").write_text("file,age\na/b/1.png,3\nc/0.png,4\n")
    named = {("a",): ["b/0.png", "b/1.png"], ("a", "c"): ["a/b/0.png", "a/b/1.png", "c/0.png"]}
    named |= {("m.csv",): ["a/b/1.png", "c/0.png"], ("c/0.png",): ["c/0.png"]}
    for sources, ids in named.items():
        found, source = find_images(sources)
        assert (found, len(source)) == (ids, len(ids))
        assert source.load(0).size == (30, 20)
    assert find_images(["digits"])[0][:2] == ["digit-0000", "digit-0001"]


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="probe")


def cut(**changes: str) -> list[str]:
    given = {"arch": "test_resnet", "at": "layer1.0", "weights": "scratch", "image_size": "32", "out": "m.safetensors"}
    given |= {} if "data" in changes else {"classes": "a,b"}
    options = [part for name, text in (given | changes).items() for part in (f"--{name.replace('_', '-')}", text)]
    return ["truncate", *options]


def test_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "x", 3)
    assert invoke(*cut(export="torch", head="mlp")).exit_code == 0
    assert sorted(path.name for path in tmp_path.glob("m.*")) == ["m.pt2", "m.safetensors"]
    table = list(csv.reader(io.StringIO(invoke("predict", "m.safetensors", "x").stdout)))
    assert table[0] == ["id", "a", "b"]
    assert [row[0] for row in table[1:]] == ["0.png", "1.png", "2.png"]
    assert [sum(map(float, row[1:])) for row in table[1:]] == pytest.approx([1, 1, 1], abs=1e-5)
    rows = json.loads(invoke("predict", "m.safetensors", "x", "--json").stdout)
    assert [f"{row['probabilities']['a']:.6g}" for row in rows] == [row[1] for row in table[1:]]
    assert invoke("predict", "m.safetensors", "x", "--out", "new/t.csv").stdout == "written: new/t.csv\n"
    assert list(csv.reader(io.StringIO((tmp_path / "new" / "t.csv").read_text()))) == table
    found = json.loads(invoke(*cut(data="digits", out="d.safetensors"), "--json").stdout)
    assert found["card"]["classes"] == [str(i) for i in range(10)]
    assert found["files"] == ["d.safetensors"]


ERRORS: dict[str, tuple[Sequence[str], str]] = {
    "tap": (cut(at="fc"), "unknown tap 'fc'; choose from stem"),
    "classes": (cut(classes="1"), "1 classes cannot be told apart"),
    "head": (cut(head="cls+linear"), "no class token at 'layer1.0'"),
    "arch": (cut(arch="resnet5"), "did you mean 'resnet50'"),
    "pretrained": (cut(weights="pretrained"), "are not on this machine and cannot be fetched"),
    "suffix": (cut(out="m.pth"), "a model is a .safetensors file, which 'm.pth' is not called"),
    "in the way": (cut(out="file/m.safetensors"), "cannot write a model to 'file': 'file' is no folder"),
    "data": (cut(data="nowhere"), "no data at 'nowhere'"),
    "no model": (["predict", "gone.safetensors", "x"], "no model at 'gone.safetensors'"),
    "no card": (["predict", "plain.safetensors", "x"], "holds tensors but no card"),
    "no images": (["predict", "good.safetensors", "gone"], "no images at 'gone': give image files"),
    "no image in a folder": (["predict", "good.safetensors", "empty"], "'empty' holds no images"),
    "size": (["predict", "good.safetensors", "file", "--size", "64"], "size is for medmnist: data sets alone"),
    "not an image": (["predict", "good.safetensors", "file"], "'file' is not an image that Pillow can read"),
    "not there": (["predict", "good.safetensors", "m.csv"], r"names 'gone\.png', which is not there"),
    "table in the way": (["predict", "good.safetensors", "x", "--out", "file/t.csv"], "cannot write probabilities to"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_a_request_that_cannot_be_met(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("in the way")
    Path("empty").mkdir()
    Path("m.csv").write_text("file\ngone.png\n")
    save_file({"a": torch.ones(1)}, "plain.safetensors")
    arguments, words = ERRORS[case]
    if "good.safetensors" in arguments:
        saved(tmp_path).rename("good.safetensors")
    before = sorted(tmp_path.iterdir())
    result = invoke(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("probe: "))
    assert re.search(words, line), line
    assert sorted(path for path in tmp_path.iterdir() if path.name != "cache") == before
