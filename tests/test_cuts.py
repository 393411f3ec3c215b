"""Where networks are cut and what the taps are called: pinned for a dozen of them."""

import operator
from collections.abc import Callable

import pytest
import torch
from networks import ARCHS, PREPROCESSING, listed_backbone
from torch import Tensor, nn

import probe
from probe.backbones import Origin, from_list, from_module


def blocks(stage: str, counts: list[int], first: int = 0) -> list[str]:
    return [f"{stage.format(i)}.{k}" for i, count in enumerate(counts, first) for k in range(count)]


RESNET50 = ["stem", *blocks("layer{}", [3, 4, 6, 3], first=1)]
DENSE = "denseblock1 transition1 denseblock2 transition2 denseblock3 transition3 denseblock4"
EFFICIENT = ["stem", *blocks("blocks.{}", [1, 2, 2, 3, 3, 4, 1]), "bn2"]
PINNED: dict[str, list[str]] = {
    "resnet50": RESNET50,
    "torchvision:resnet18": ["stem", *blocks("layer{}", [2, 2, 2, 2], first=1)],
    "resnetv2_50": ["stem", *blocks("stages.{}.blocks", [3, 4, 6, 3])],
    "densenet121": ["stem", *(f"features.{name}" for name in DENSE.split())],
    "torchvision:alexnet": ["features.1", "features.4", "features.7", "features.9", "features.11"],
    "torchvision:vgg11": [f"features.{i}" for i in (1, 4, 7, 9, 12, 14, 17, 19)],
    "efficientnet_b0": EFFICIENT,
    "torchvision:googlenet": ["stem", *(f"inception{name}" for name in "3a 3b 4a 4b 4c 4d 4e 5a 5b".split())],
    "inception_v3": ["stem", *(f"Mixed_{name}" for name in "5b 5c 5d 6a 6b 6c 6d 6e 7a 7b 7c".split())],
    "torchvision:squeezenet1_0": ["stem", *(f"features.{i}" for i in (3, 4, 5, 7, 8, 9, 10, 12))],
    "vit_tiny_patch16_224": ["stem", *(f"blocks.{i}" for i in range(12))],
    "torchvision:vit_b_32": ["stem", *(f"encoder.layers.encoder_layer_{i}" for i in range(12))],
    "torchvision:convnext_tiny": [
        "stem", *blocks("features.1", [3]), "features.2", *blocks("features.3", [3]), "features.4",
        *blocks("features.5", [9]), "features.6", *blocks("features.7", [3]),
    ],
    "swin_tiny_patch4_window7_224": [
        "stem", *blocks("layers.0.blocks", [2]), "layers.1.downsample", *blocks("layers.1.blocks", [2]),
        "layers.2.downsample", *blocks("layers.2.blocks", [6]), "layers.3.downsample", *blocks("layers.3.blocks", [2]),
    ],
    "regnety_002": ["stem", *(f"s{i}.b{k + 1}" for i, n in enumerate([1, 1, 4, 7], 1) for k in range(n))],
    "torchvision:shufflenet_v2_x0_5": ["stem", *blocks("stage{}", [4, 8, 4], first=2), "conv5"],
}  # fmt: skip


@pytest.mark.parametrize("arch", PINNED)
def test_block_taps_are_pinned(arch: str) -> None:
    assert list(listed_backbone(arch).taps) == PINNED[arch]


@pytest.mark.parametrize(
    ("arch", "stages"),
    [
        ("resnet50", "stem layer1 layer2 layer3 layer4"),
        ("densenet121", "stem " + " ".join(f"features.denseblock{i}" for i in (1, 2, 3, 4))),
        ("torchvision:vgg11", "features.1 features.4 features.9 features.14 features.19"),
        ("swin_tiny_patch4_window7_224", "stem layers.0.blocks layers.1 layers.2 layers.3"),
        ("vit_tiny_patch16_224", "stem blocks"),
    ],
)
def test_stage_taps_are_the_coarse_groups(arch: str, stages: str) -> None:
    assert list(listed_backbone(arch, "stage").taps) == stages.split()


def test_resnet50_costs() -> None:
    net = probe.backbone("resnet50", "scratch")
    costs = {tap.name: tap for tap in net.table()}
    params = {"layer1.2": 0.225, "layer2.3": 1.445, "layer3.3": 6.309, "layer3.5": 8.543, "layer4.2": 23.508}
    assert {tap: round(costs[tap].params / 1e6, 3) for tap in params} == params
    assert costs["layer4.2"].macs / 1e9 == pytest.approx(4.09, abs=0.01)  # the model zoos' number, without the head
    assert [tap.depth for tap in net.table()] == pytest.approx([(i + 1) / 17 for i in range(17)])


def test_cuts_do_not_depend_on_the_image_size() -> None:
    small = probe.backbone("resnet18", "scratch", image_size=32)
    assert small.taps == probe.backbone("resnet18", "scratch", image_size=224).taps
    assert small.stage("layer4.1").shape == (512, 1, 1)


@pytest.mark.parametrize(
    ("arch", "prefix", "cls"),
    [
        ("vit_tiny_patch16_224", 1, True),
        ("deit_tiny_distilled_patch16_224", 2, True),
        ("vit_small_patch14_reg4_dinov2", 5, True),
        ("torchvision:vit_b_32", 1, True),
        ("mixer_s32_224", 0, False),
    ],
)
def test_prefix_tokens_are_counted(arch: str, prefix: int, cls: bool) -> None:
    net = listed_backbone(arch)
    assert {(stage.layout.prefix, stage.layout.cls) for stage in net.stages} == {(prefix, cls)}


@pytest.mark.parametrize(
    ("arch", "layout"),
    [("resnet18", "nchw"), ("swin_tiny_patch4_window7_224", "nhwc"), ("torchvision:swin_t", "nhwc"),
     ("convnext_atto", "nchw"), ("vit_tiny_patch16_224", "ntd"), ("torchvision:shufflenet_v2_x0_5", "nchw")],
)  # fmt: skip
def test_layouts(arch: str, layout: str) -> None:
    net = listed_backbone(arch)
    assert {stage.layout.name for stage in net.stages} == {layout}


def test_late_class_token_is_seen_where_it_joins() -> None:
    net = listed_backbone("xcit_nano_12_p16_224")
    assert [stage.layout.prefix for stage in net.stages] == [0] * 13 + [1, 1]


class Net(nn.Module):
    """A network of one's own: in-place activations, a skip past two convolutions, functional pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (nn.Conv2d(3 if i == 0 else 4, 4, 3, padding=1) for i in range(3))
        self.conv4, self.fc = nn.Conv2d(4, 6, 3), nn.Linear(6, 2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.relu(self.conv1(x))
        x = x + self.conv3(self.relu(self.conv2(x)))
        x = self.relu(self.conv4(x))
        return self.fc(x.mean((2, 3)))


class Overwriting(Net):
    """`+=` or its like, and a view that shows what it has done."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.conv2(self.relu(self.conv1(x)))
        shown = x.transpose(2, 3)
        self.change(x)
        return self.fc(self.conv4(shown).mean((2, 3)))


@pytest.mark.parametrize("change", ["iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow"])
def test_what_is_changed_in_place_stays_in_place(change: str) -> None:
    network = Overwriting(lambda x: getattr(operator, change)(x, 2))
    net = from_module(network, origin("mine"))
    assert list(net.taps) == ["relu", "conv4"]  # not conv2, which is overwritten
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(net(x), network(x))


def test_a_network_of_ones_own() -> None:
    network = Net()
    net = from_module(network, origin("mine"))
    assert list(net.taps) == ["relu", "add", "relu_2"]  # nothing inside the skip, nothing that is overwritten
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(net(x), network(x))


def test_a_network_that_cannot_be_traced_says_so() -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(probe.ProbeError, match="cannot be traced"):
        from_module(Branching(), origin("branching"))


class Chain(nn.Module):
    """Cannot be traced, for it looks at its numbers; but its modules run one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.body = nn.Sequential(nn.Conv2d(4, 6, 3), nn.Dropout(0.5))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.body(x if x.isfinite().all() else x.nan_to_num()))


def test_a_network_that_cannot_be_traced_takes_a_list_of_modules() -> None:
    network = Chain()
    with pytest.raises(probe.ProbeError, match="cannot be traced"):
        from_module(network, origin("chain"))
    net = from_list(network, origin("chain"), ["stem", "body", "head"])
    assert net.taps == ("stem", "body")
    assert [stage.layout.name for stage in net.stages] == ["nchw", "nchw"]
    x = torch.randn(3, 3, 64, 64)
    for training in (True, False):
        torch.manual_seed(0)
        expected = network.train(training)(x)
        torch.manual_seed(0)
        assert torch.equal(net.train(training)(x), expected)
    with pytest.raises(probe.ProbeError, match="do not give the output of chain"):
        from_list(network, origin("chain"), ["stem", "stem.1", "body", "head"])
    with pytest.raises(probe.ProbeError, match="cannot be run one after the other"):
        from_list(network, origin("chain"), ["body", "stem", "head"])
    with pytest.raises(probe.ProbeError, match="did you mean 'body'"):
        from_list(network, origin("chain"), ["stem", "bodi", "head"])


def origin(name: str) -> Origin:
    return Origin(arch=name, weights="scratch", seed=0, level="block", preprocessing=PREPROCESSING)


def test_other_image_sizes_are_refused() -> None:
    net = probe.backbone("resnet18", "scratch", image_size=64)
    with pytest.raises(probe.ProbeError, match=r"\(n, 3, 64, 64\)"):
        net(torch.zeros(1, 3, 32, 32))


def test_taps_by_name_index_and_near_name() -> None:
    net = probe.backbone("resnet18", "scratch", image_size=64)
    assert net.cut(-1).taps == net.taps
    assert net.cut(0).taps == ("stem",)
    assert net.cut("3").taps == net.taps[:4]
    with pytest.raises(probe.ProbeError, match="did you mean 'layer1"):
        net.cut("layer1.5")
    with pytest.raises(probe.ProbeError, match="out of range"):
        net.cut(9)


def test_every_listed_arch_is_known_to_the_catalog() -> None:
    from probe.backbones import list_archs

    assert len(ARCHS) >= 40
    assert set(ARCHS) <= set(list_archs())
