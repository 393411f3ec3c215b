"""Checkpoints: the weights in a file are the weights in the network, or one message says why not; nothing is run."""

import io
import pickle
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import timm
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save, save_file
from torch import Tensor, nn

import probe
from probe.backbones.catalog import Unreachable
from probe.backbones.state_dicts import read_state
from probe.base.errors import ProbeError

ARCH, SIZE = "test_resnet", 32  # pixels; timm's smallest network with batch normalisation
State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def _no_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that this machine happens to have are out of sight."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A network whose every tensor, batch statistics too, differs from a new one's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        made: nn.Module = timm.create_model(ARCH)
        for name, tensor in made.state_dict().items():
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor) * 0.1)
            else:
                assert name.endswith("num_batches_tracked")
                tensor.fill_(7)
    return made.eval()


@pytest.fixture
def state(network: nn.Module) -> State:
    return dict(network.state_dict())


def load(path: Path, arch: str = ARCH, **options: Any) -> probe.Backbone:
    return probe.backbone(arch, path, image_size=SIZE, **options)


def saved(folder: Path, content: object, name: str = "w.pth") -> Path:
    torch.save(content, folder / name)
    return folder / name


def images() -> Tensor:
    return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def check_features(net: probe.Backbone, network: nn.Module) -> None:
    seen: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name, out))
        for name, module in network.named_modules()
        if name in net.taps
    ]
    network(images())
    for hook in hooks:
        hook.remove()
    outputs = {stage.name: out for stage, out in net.walk(images())}
    assert len(seen) >= len(net.taps) - 1
    assert all(torch.equal(out, outputs[name]) for name, out in seen.items())


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "probe"]


# what is read


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt", ".safetensors"])
def test_round_trip(
    tmp_path: Path, network: nn.Module, state: State, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"w{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    net = load(path)
    check_features(net, network)
    assert torch.equal(net(images()), network(images()))
    assert net.origin.weights == str(path)
    assert lines(caplog) == []


def test_round_trip_of_torchvision(tmp_path: Path) -> None:
    import torchvision

    network = torchvision.models.resnet18().eval()
    net = load(saved(tmp_path, network.state_dict()), "torchvision:resnet18")
    check_features(net, network)
    assert torch.equal(net(images()), network(images()))


def test_the_seed_does_not_matter_to_a_whole_file(tmp_path: Path, state: State) -> None:
    hashes = [load(saved(tmp_path, state), seed=seed).weights_hash() for seed in (0, 3)]
    assert hashes[0] == hashes[1] != probe.backbone(ARCH, "scratch", image_size=SIZE).weights_hash()


def test_an_old_file_is_read(tmp_path: Path, network: nn.Module, state: State) -> None:
    torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    check_features(load(tmp_path / "w.pth"), network)


@pytest.mark.parametrize("wrap", ["state_dict", "model", "teacher", "model/state_dict", "beside"])
def test_wrappers_are_opened(tmp_path: Path, network: nn.Module, state: State, wrap: str) -> None:
    content: Any = state
    for key in wrap.split("/")[::-1]:
        content = {key: content, "epoch": 3, "optimizer": {"state": {0: torch.ones(2)}}, "args": {"lr": 0.1}}
    if wrap == "beside":  # no known wrapper, but a lone tensor beside a full one
        content = {"state_dict": state, "ema": torch.ones(1)}
    check_features(load(saved(tmp_path, content)), network)


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "module.backbone.", "encoder.q.0."])
def test_prefixes_are_stripped(
    tmp_path: Path, network: nn.Module, state: State, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved(tmp_path, {"state_dict": {prefix + name: tensor for name, tensor in state.items()}})
    check_features(load(path), network)
    assert lines(caplog) == []


def test_tensors_outside_the_prefix_are_left_out(
    tmp_path: Path, network: nn.Module, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    others = {f"module.projector.{i}.weight": torch.ones(3) for i in range(5)} | {"queue": torch.ones(2)}
    path = saved(tmp_path, others | {f"module.backbone.{name}": tensor for name, tensor in state.items()})
    check_features(load(path), network)
    (line,) = lines(caplog)
    assert str(path) in line
    assert "'module.backbone.'" in line
    assert "module.projector.0.weight" in line
    assert "and 3 more" in line


@pytest.mark.parametrize("lost", ["other size", "bias only", "weight only", "none"])
def test_a_head_that_does_not_fit_is_dropped(
    tmp_path: Path, network: nn.Module, state: State, lost: str, caplog: pytest.LogCaptureFixture
) -> None:
    head = {"fc.weight": torch.randn(7, state["fc.weight"].shape[1]), "fc.bias": torch.randn(7)}
    kept = {"other size": head, "bias only": {"fc.bias": state["fc.bias"]}, "none": {}}
    kept["weight only"] = {"fc.weight": state["fc.weight"]}
    body = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    path = saved(tmp_path, body | kept[lost])
    net = load(path)
    check_features(net, network)
    (line,) = lines(caplog)
    assert str(path) in line
    assert ("has no classifier" if lost == "none" else "its classifier does not fit fc and was dropped") in line
    scratch = probe.backbone(ARCH, "scratch", image_size=SIZE)
    assert net.head is not None
    assert scratch.head is not None
    mine, drawn = net.head.state_dict(), scratch.head.state_dict()
    assert all(torch.equal(mine[name], drawn[name]) for name in drawn)


@pytest.mark.parametrize("form", ["list of one", "left out"])
def test_counters_may_be_lists_or_missing(
    tmp_path: Path, network: nn.Module, state: State, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    counters = {name: tensor for name, tensor in state.items() if name.endswith("num_batches_tracked")}
    assert all(tensor.shape == () for tensor in counters.values())
    changed = {name: tensor.reshape(1) for name, tensor in counters.items()} if form == "list of one" else {}
    rest = {name: tensor for name, tensor in state.items() if name not in counters}
    net = load(saved(tmp_path, rest | changed))
    check_features(net, network)
    found = {name: tensor for stage in net.stages for name, tensor in stage.state_dict().items() if name in counters}
    assert found
    assert all(tensor.shape == () and tensor == (7 if changed else 0) for tensor in found.values())
    assert lines(caplog) == []


def test_half_precision_becomes_the_networks_own(tmp_path: Path, state: State) -> None:
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    net = load(saved(tmp_path, half))
    assert {p.dtype for p in net.parameters()} == {torch.float32}


def test_both_heads_of_a_distilled_network_may_have_another_size(tmp_path: Path) -> None:
    tuned = timm.create_model("deit_tiny_distilled_patch16_224", img_size=SIZE, num_classes=7)
    load(saved(tmp_path, tuned.state_dict()), "deit_tiny_distilled_patch16_224")


def test_a_head_that_the_network_lacks_is_dropped(tmp_path: Path) -> None:
    tuned = timm.create_model("vit_small_patch14_reg4_dinov2", img_size=28, num_classes=7)
    probe.backbone("vit_small_patch14_reg4_dinov2", saved(tmp_path, tuned.state_dict()), image_size=28)


def test_a_transformer_takes_images_of_another_size(tmp_path: Path) -> None:
    tuned = timm.create_model("test_vit")  # for 160 px
    load(saved(tmp_path, tuned.state_dict()), "test_vit")


# what does not fit


def without(name: str) -> Callable[[State], State]:
    return lambda state: {key: tensor for key, tensor in state.items() if key != name}


MISFITS: dict[str, tuple[Callable[[State], State], list[str]]] = {
    "missing": (without("layer1.0.conv1.weight"), ["only the network has layer1.0.conv1.weight"]),
    "missing buffer": (without("bn1.running_mean"), ["only the network has bn1.running_mean"]),
    "extra": (lambda state: state | {"layer9.weight": torch.ones(1)}, ["only the file has layer9.weight"]),
    "shape": (
        lambda state: state | {"bn1.weight": torch.ones(3)},
        ["bn1.weight is (3,) in the file and (32,) in the network"],
    ),
    "renamed": (
        lambda state: without("bn1.weight")(state) | {"norm1.weight": state["bn1.weight"]},
        ["only the network has bn1.weight", "only the file has norm1.weight"],
    ),
    "list of two counters": (
        lambda state: state | {"bn1.num_batches_tracked": torch.ones(2)},
        ["bn1.num_batches_tracked is (2,) in the file and () in the network"],
    ),
    "all of it": (
        lambda state: {"a.weight": torch.ones(1), **{f"b{i}": torch.ones(1) for i in range(5)}},
        ["only the network has conv1.0.weight, conv1.1.weight", "only the file has a.weight, b0, b1 and 3 more"],
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit_is_shown_from_both_sides(tmp_path: Path, state: State, case: str) -> None:
    change, words = MISFITS[case]
    path = saved(tmp_path, change(state))
    with pytest.raises(ProbeError) as error:
        load(path)
    assert all(word in str(error.value) for word in [str(path), "does not fit the network", *words]), error.value
    assert "\n" not in str(error.value)


def test_another_network_does_not_fit(tmp_path: Path) -> None:
    path = saved(tmp_path, timm.create_model("test_vit").state_dict())
    with pytest.raises(ProbeError, match=r"only the network has conv1.*; only the file has .*"):
        load(path)


# what cannot be read


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("form", ["zip", "old", "pickle"])
@pytest.mark.parametrize("where", ["alone", "beside", "wrapped"])
def test_nothing_in_a_file_is_run(tmp_path: Path, state: State, form: str, where: str) -> None:
    trap = Trap(tmp_path / "sprung")
    content = {"alone": trap, "beside": {**state, "extra": trap}, "wrapped": {"state_dict": state, "args": trap}}[where]
    path = tmp_path / "w.pth"
    if form == "pickle":
        path.write_bytes(pickle.dumps(trap, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(ProbeError, match=r"w\.pth' holds more than tensors and would run code.*safetensors"):
        load(path)
    assert not trap.file.exists()
    pickle.loads(path.read_bytes()) if form == "pickle" else torch.load(path, weights_only=False)
    assert trap.file.exists()


def test_a_whole_network_is_not_unpickled(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match="would run code"):
        load(saved(tmp_path, nn.Linear(2, 2)))


def content(form: str) -> bytes:
    """A good file of each kind: PyTorch's zip, its old pickle, safetensors."""
    state, file = {f"layer{i}.weight": torch.arange(9.0) for i in range(5)}, io.BytesIO()
    if form == "safetensors":
        return bytes(save(state))
    torch.save(state, file, _use_new_zipfile_serialization=form == "zip")
    return file.getvalue()


def pickled(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


DAMAGE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "empty": ("pth", lambda: b""),
    "empty safetensors": ("safetensors", lambda: b""),
    "words": ("pth", lambda: b"no weights here"),
    "words as safetensors": ("safetensors", lambda: b"no weights here"),
    "zip as safetensors": ("safetensors", lambda: content("zip")),
    "safetensors as zip": ("pth", lambda: content("safetensors")),
    "half": ("pth", lambda: content("zip")[:700]),
    "half of an old one": ("pth", lambda: content("old")[:300]),
    "half of a safetensors": ("safetensors", lambda: content("safetensors")[:-20]),
    "end of an old one": ("pth", lambda: content("old")[:-100]),
    "no tensors": ("pth", lambda: pickled({"state_dict": {"epoch": 3}})),
    "a tensor": ("pth", lambda: pickled(torch.ones(2))),
    "a list": ("pth", lambda: pickled([torch.ones(2)])),
    "numbers for names": ("pth", lambda: pickled({0: torch.ones(2)})),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_file_is_named(tmp_path: Path, case: str) -> None:
    suffix, make = DAMAGE[case]
    path = tmp_path / f"w.{suffix}"
    path.write_bytes(make())
    with pytest.raises(ProbeError) as error:
        load(path)
    assert f"'{path}'" in str(error.value)
    assert "\n" not in str(error.value)


def outcome(path: Path) -> str:
    try:
        read_state(path)
    except ProbeError as error:
        return str(error)
    return f"read {path}"


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "form",
    ["zip", "safetensors", "old"],
)
def test_no_damage_is_a_traceback(tmp_path: Path, form: str) -> None:
    rng, good = np.random.default_rng(0), np.frombuffer(content(form), np.uint8)
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    for _ in range(300):
        bad = good.copy()
        bad[rng.integers(0, len(bad), 3)] = rng.integers(0, 256, 3)
        path.write_bytes(bad.tobytes()[: rng.integers(1, 2 * len(bad))])
        assert str(path) in outcome(path)


def test_words_are_not_called_code(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"no weights here")
    with pytest.raises(ProbeError) as error:
        load(tmp_path / "w.pth")
    assert "run code" not in str(error.value)


@pytest.mark.parametrize("name", ["nope.pth", "nope.safetensors"])
def test_a_missing_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(ProbeError, match=f"no weights at '.*{name}'.*safetensors.*'scratch'"):
        load(tmp_path / name)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "w.pth").mkdir()
    with pytest.raises(ProbeError, match="no weights at"):
        load(tmp_path / "w.pth")


# names of weights


@pytest.mark.parametrize(
    ("arch", "weights", "near"),
    [
        ("resnet50", "a1_in1", "'a1_in1k'"),
        ("torchvision:resnet50", "IMAGENET1K_V3", "'IMAGENET1K_V2'"),
        (ARCH, "pretrain", "'pretrained'"),
        (ARCH, "scrach", "'scratch'"),
        (ARCH, "zzz", "choose from pretrained, scratch, r160_in1k"),
    ],
)
def test_an_unknown_weight_suggests_near_ones(arch: str, weights: str, near: str) -> None:
    with pytest.raises(ProbeError, match=f"unknown weights of {arch}: '{weights}'.*{near}"):
        probe.backbone(arch, weights)


@pytest.mark.parametrize(
    ("arch", "weights"),
    [
        ("resnet50", "pretrained"),
        ("resnet50", "a1_in1k"),
        ("torchvision:resnet18", "pretrained"),
        ("torchvision:resnet18", "IMAGENET1K_V1"),
        ("hf-hub:timm/resnet50.a1_in1k", "pretrained"),
        ("hf-hub:timm/resnet50.a1_in1k", "scratch"),
    ],
)
def test_weights_out_of_reach(arch: str, weights: str) -> None:
    start = time.perf_counter()
    with pytest.raises(Unreachable, match=f"{arch} are not on this machine and cannot be fetched"):
        probe.backbone(arch, weights)
    assert time.perf_counter() - start < 5
    assert issubclass(Unreachable, ProbeError)


def test_weights_that_nobody_published() -> None:
    with pytest.raises(ProbeError, match="no weights are published for coatnet_0_224; use 'scratch' or a file"):
        probe.backbone("coatnet_0_224")


@pytest.mark.parametrize(
    "code",
    [404, 401],
)
def test_weights_that_the_hub_does_not_give(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def urlopen(request: urllib.request.Request, timeout: float) -> None:
        assert timeout <= 5
        raise urllib.error.HTTPError(request.full_url, code, "refused", Message(), None)

    def create_model(*args: object, **options: object) -> None:
        raise LocalEntryNotFoundError("what the hub's client says after most of a minute")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(timm, "create_model", create_model)
    with pytest.raises(Unreachable, match="hf-hub:nobody/nothing"):
        probe.backbone("hf-hub:nobody/nothing")


# weights from scratch


@pytest.mark.parametrize("arch", [ARCH, "torchvision:resnet18"])
def test_scratch_weights_follow_from_the_seed(arch: str) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    first, again, other = (probe.backbone(arch, "scratch", seed=seed, image_size=SIZE) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]
    assert first.weights_hash() == again.weights_hash() != other.weights_hash()
    torch.manual_seed(12)
    assert probe.backbone(arch, "scratch", seed=0, image_size=SIZE).weights_hash() == first.weights_hash()


@pytest.mark.parametrize("broken", ["fits", "does not fit"])
def test_reading_a_file_leaves_the_random_state(tmp_path: Path, state: State, broken: str) -> None:
    path = saved(tmp_path, state if broken == "fits" else {"a": torch.ones(1)})
    before = torch.get_rng_state()
    try:
        load(path)
        assert broken == "fits"
    except ProbeError:
        assert broken != "fits"
    assert torch.equal(torch.get_rng_state(), before)


def test_scratch_does_not_seed_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("seeded"))
    probe.backbone(ARCH, "scratch", seed=3, image_size=SIZE)


def test_scratch_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, {"a": torch.ones(1)}, "scratch")
    probe.backbone(ARCH, "scratch", image_size=SIZE)
