"""The contract of every architecture in the list: stages are the network, bit for bit."""

import copy

import pytest
import torch
from networks import ARCHS, SLOW, make_backbone, make_network
from torch import Tensor, nn

import probe
from probe.backbones import Backbone
from probe.settings.networks import STEM

SLOW_MARK: dict[bool, list[pytest.MarkDecorator]] = {True: [pytest.mark.slow], False: []}


@pytest.mark.parametrize("arch", [pytest.param(arch, marks=SLOW_MARK[arch in SLOW]) for arch in ARCHS])
def test_stages_equal_the_network(arch: str) -> None:
    original = make_network(arch)
    buffers = {name: tensor.clone() for name, tensor in original.state_dict().items()}
    network = copy.deepcopy(original)
    random = torch.random.get_rng_state()
    net = make_backbone(network, arch)
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(torch.equal(tensor, buffers[name]) for name, tensor in network.state_dict().items())
    assert len(set(net.taps)) == len(net.taps) > 2
    check_eval(original, net, ARCHS[arch])
    check_taps_are_modules(original, net, ARCHS[arch])
    check_cuts(net, ARCHS[arch])
    check_truncated(net, ARCHS[arch])
    check_train(original, net, ARCHS[arch])


OTHER_LEVELS = {"resnet18": False, "vit_tiny_patch16_224": False, "densenet121": True, "efficientnet_b0": True,
                "torchvision:swin_t": True}  # fmt: skip  # whether in the gate only


@pytest.mark.parametrize("level", ["layer", "stage"])
@pytest.mark.parametrize("arch", [pytest.param(arch, marks=SLOW_MARK[slow]) for arch, slow in OTHER_LEVELS.items()])
def test_other_levels_equal_the_network(arch: str, level: str) -> None:
    original = make_network(arch)
    net = make_backbone(copy.deepcopy(original), arch, level)
    check_eval(original, net, ARCHS[arch])
    check_cuts(net, ARCHS[arch])


def images(batch: int, size: int) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(batch))


def check_eval(original: nn.Module, net: Backbone, size: int) -> None:
    original.eval()
    for batch in (1, 4):
        with torch.no_grad():
            expected = original(images(batch, size))
            assert torch.equal(net.eval()(images(batch, size)), expected)


def check_taps_are_modules(original: nn.Module, net: Backbone, size: int) -> None:
    """Where a tap bears the name of a module, it is that module's output; shapes and layouts hold."""
    seen: dict[str, Tensor] = {}
    modules = dict(original.named_modules())
    hooks = [
        modules[tap].register_forward_hook(lambda _m, _i, out, tap=tap: seen.__setitem__(tap, out.clone()))
        for tap in net.taps
        if tap in modules and tap != STEM
    ]
    with torch.no_grad():
        original(images(2, size))
        for stage, x in net.walk(images(2, size)):
            assert tuple(x.shape[1:]) == stage.shape
            assert stage.layout.name in ("nchw", "nhwc", "ntd")
            if stage.name in seen and seen[stage.name].shape == x.shape:
                assert torch.equal(seen[stage.name], x), stage.name
    for hook in hooks:
        hook.remove()
    assert len(seen) >= len(net.taps) // 2


def check_cuts(net: Backbone, size: int) -> None:
    """A cut equals the prefix at every tap, the rest run after it gives the whole, and nothing above is kept."""
    names = [{name for name, _ in stage.named_parameters()} for stage in net.stages]
    with torch.no_grad():
        for batch in (2, 3):
            x = images(batch, size)
            whole, walked = net(x), {stage.name: out for stage, out in net.walk(x)}
            for i, tap in enumerate(net.taps):
                before, after = net.split(tap)
                assert net.cut(tap).taps == before.taps == net.taps[: i + 1]
                if batch == 2 or i % 4 == 0:  # every tap once; the other batch size at every fourth
                    assert torch.equal(before(x), walked[tap])
                    assert torch.equal(after(walked[tap]), whole)
                kept = {name for stage in net.cut(tap).stages for name, _ in stage.named_parameters()}
                assert kept == set().union(*names[: i + 1])


def check_truncated(net: Backbone, size: int) -> None:
    """A head fits the middle tap, nothing changes by that, and in training every kept parameter gets a gradient."""
    before, random = {name: tensor.clone() for name, tensor in net.state_dict().items()}, torch.random.get_rng_state()
    model = probe.truncate(net, len(net.taps) // 2, 3).train()
    assert torch.equal(torch.random.get_rng_state(), random)
    model(images(2, size)).square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def check_train(original: nn.Module, net: Backbone, size: int) -> None:
    """Same seed, train mode, drop rates on: the same output, gradients and buffers."""
    reference = copy.deepcopy(original).train()
    net.train()
    results = []
    for model in (reference, net):
        torch.manual_seed(7)
        output = model(images(3, size))
        output.square().mean().backward()
        results.append(output)
    assert torch.equal(*results)
    stages = [*net.stages, net.head]
    mine = {name: p for stage in stages for name, p in stage.named_parameters()}
    for name, parameter in reference.named_parameters():
        if parameter.grad is not None:
            assert torch.equal(parameter.grad, mine[name].grad), name
    state = {name: tensor for stage in stages for name, tensor in stage.state_dict().items()}
    for name, tensor in reference.state_dict().items():
        assert name not in state or torch.equal(tensor, state[name]), name
