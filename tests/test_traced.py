"""An architecture is traced once: a second network of its kind is cut as if it had been traced itself."""

import gc
import weakref

import pytest
import timm
import torch
from torch import Tensor, nn

import probe
from probe.backbones import Backbone, Origin, Preprocessing, from_module, trace_memo, tracing
from probe.base.memo import Memo

ARCHS = {  # of every family the smallest, at as few pixels as it takes
    "test_resnet": 32, "test_vit": 32, "test_convnext": 32, "test_efficientnet": 32, "test_mambaout": 32,
    "torchvision:shufflenet_v2_x0_5": 32, "cbr:tiny": 32, "swin_tiny_patch4_window7_224": 32,
}  # fmt: skip
LARGER = {"torchvision:swin_t": 32, "eva02_tiny_patch14_224": 28, "efficientnet_b0": 32, "densenet121": 32}
EVERY = [*ARCHS, *(pytest.param(arch, marks=pytest.mark.slow) for arch in LARGER)]


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    forget(monkeypatch)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_memo, "_flows", Memo(16))
    monkeypatch.setattr(trace_memo, "_native", Memo(16))


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """Side of the images and mode of every trace."""
    seen, trace = list[tuple[int, bool]](), tracing.trace

    def noted(network: nn.Module, shape: tuple[int, ...], training: bool) -> tracing.Flow:
        seen.append((shape[-1], training))
        return trace(network, shape, training)

    monkeypatch.setattr(trace_memo, "trace", noted)
    return seen


def build(arch: str, seed: int = 0, **options: object) -> Backbone:
    return probe.backbone(arch, "scratch", seed=seed, **{"image_size": (ARCHS | LARGER)[arch], **options})


def run(net: Backbone, training: bool, arch: str) -> list[Tensor]:
    """Output, every tap, and in train mode gradients and buffers."""
    size = (ARCHS | LARGER)[arch]
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    net.train(training)
    torch.manual_seed(7)
    found = [net(x), *(out for _, out in net.walk(x))]
    if training:
        found[0].square().mean().backward()
    grads = [p.grad for p in net.parameters() if p.grad is not None]
    return [*found, *grads, *net.buffers()]


@pytest.mark.parametrize("arch", EVERY)
def test_a_second_network_is_what_its_own_trace_would_give(
    arch: str, traces: list[tuple[int, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    build(arch)
    before = len(traces)
    second = build(arch, seed=1)
    assert len(traces) == before  # none at all
    forget(monkeypatch)
    alone = build(arch, seed=1)
    assert len(traces) == 2 * before
    assert second.table() == alone.table()
    assert second.weights_hash() == alone.weights_hash()
    for training in (False, True):
        results = [run(net, training, arch) for net in (second, alone)]
        assert len(results[0]) == len(results[1])
        assert all(map(torch.equal, *results))


def test_networks_of_one_trace_share_no_tensor() -> None:
    first, second = (build("swin_tiny_patch4_window7_224", seed) for seed in (0, 1))
    places = [{t.data_ptr() for t in (*net.parameters(), *net.buffers()) if t.numel()} for net in (first, second)]
    assert any("_tensor_constant" in name for name, _ in first.named_buffers())
    assert not places[0] & places[1]


def test_levels_weights_and_loaded_files_take_no_trace(traces: list[tuple[int, bool]], tmp_path: object) -> None:
    net = build("test_resnet")
    assert sorted(traces) == [(32, False), (32, True), (160, False)]
    torch.save(timm.create_model("test_resnet").state_dict(), f"{tmp_path}/w.pth")
    probe.backbone("test_resnet", f"{tmp_path}/w.pth", image_size=32, level="layer")
    build("test_resnet", seed=3, level="stage", crop="center")
    probe.save(probe.truncate(net, 2, 3), f"{tmp_path}/model.safetensors")
    probe.load(f"{tmp_path}/model.safetensors")
    assert len(traces) == 3
    build("test_resnet", image_size=64)
    assert sorted(traces[3:]) == [(64, False), (64, True), (160, False)]


def test_other_settings_of_an_architecture_are_another_build() -> None:
    """As far as they can be seen: kinds and plain settings of modules, shapes, and tables."""

    def kind(**options: object) -> object:
        return trace_memo.build_of(timm.create_model("test_vit", **options))

    torch.manual_seed(1)
    assert kind() == kind()
    rates = [kind(drop_path_rate=0.1), kind(proj_drop_rate=0.1)]
    assert (
        len({kind(), *rates, kind(num_classes=3), kind(img_size=64), kind(class_token=False, global_pool="avg")}) == 6
    )
    plain, other = (timm.create_model("test_vit") for _ in range(2))
    for block in other.blocks:
        block.attn.fused_attn = not block.attn.fused_attn
    assert trace_memo.build_of(plain) != trace_memo.build_of(other)
    tables = [timm.create_model("swin_tiny_patch4_window7_224", img_size=32) for _ in range(2)]
    tables[1].layers[0].blocks[0].attn.relative_position_index += 1
    assert trace_memo.build_of(tables[0]) != trace_memo.build_of(tables[1])
    assert trace_memo.build_of(plain, "a", None) != trace_memo.build_of(plain, "b", None)


class Own(nn.Module):
    """What it does stands in no setting that could be seen."""

    def __init__(self, change: object) -> None:
        super().__init__()
        self.conv, self.fc, self.change = nn.Conv2d(3, 4, 3), nn.Linear(4, 2), change

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.change(self.conv(x)).mean((2, 3)))


def test_modules_of_ones_own_do_not_collide(traces: list[tuple[int, bool]]) -> None:
    sizes = Preprocessing(image_size=8, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bilinear")
    origin = Origin(arch="test_resnet", weights="scratch", seed=0, level="layer", preprocessing=sizes)
    x = torch.randn(2, 3, 8, 8)
    for change in (torch.relu, torch.tanh):
        network = Own(change)
        assert torch.equal(from_module(network, origin)(x), network(x))
    assert len(traces) == 4


def test_what_is_kept_holds_no_weights() -> None:
    net = build("swin_tiny_patch4_window7_224")
    tensors = [weakref.ref(tensor) for tensor in (*net.parameters(), *net.buffers())]
    del net
    gc.collect()
    assert [tensor for tensor in tensors if tensor() is not None] == []
    assert len(trace_memo._flows._made) == 1


def test_constants_that_may_come_from_statistics_are_traced_for_every_network() -> None:
    class Scaled(Own):
        def __init__(self, mean: float) -> None:
            super().__init__(None)
            self.register_buffer("running_mean", torch.full((4,), mean))

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.conv(x).mean((2, 3)) * (2 * self.running_mean))

    for mean in (1.0, 3.0):
        network = Scaled(mean)
        flows = trace_memo.flows_of(network, "scaled", (3, 8, 8), "build")
        (name,) = flows[False].constants
        assert (getattr(network, name) == 2 * mean).all()


def test_the_last_used_are_kept() -> None:
    memo, made = Memo[str](2), list[str]()

    def get(key: str | None) -> str:
        return memo(key, lambda: (made.append(str(key)), f"{key}!")[1])

    assert [get(key) for key in ("a", "b", "a", "c", "a", "b", None, None)] == [
        "a!", "b!", "a!", "c!", "a!", "b!", "None!", "None!",
    ]  # fmt: skip
    assert made == ["a", "b", "c", "b", "None", "None"]
