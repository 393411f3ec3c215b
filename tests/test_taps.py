"""Taps and layouts: recognised, measured, pooled and turned into maps, whatever the order of the axes."""

import json
from typing import Any

import pytest
import torch
from einops import rearrange
from networks import PREPROCESSING
from torch import Tensor, nn

import probe
from probe.backbones import Backbone, Layout, Origin, Tap, cut_points, tracing
from probe.backbones.stages import slice_network
from probe.backbones.taps import AXES, find_layout

SIDES = {"z": 2, "h": 3, "w": 5, "t": 9, "c": 4}
ORDER = ("c", "z", "h", "w", "t")


def example(name: str) -> Tensor:
    """Two images in a layout, whatever number stands at a place the same in every layout of the same axes."""
    axes = [axis for axis in AXES[name].split() if axis != "n"]
    first = sorted(axes, key=ORDER.index)
    x = torch.randn(2, *(SIDES[axis] for axis in first), generator=torch.Generator().manual_seed(1))
    return rearrange(x, f"n {' '.join(first)} -> {AXES[name]}")


@pytest.mark.parametrize("name", AXES)
def test_a_layout_knows_channels_positions_and_tokens(name: str) -> None:
    x, layout = example(name), Layout(name)
    axis = layout.axes.index("c")
    assert find_layout(x.ndim, axis) == layout
    assert layout.width(x.shape[1:]) == SIDES["c"]
    channels_last = x.movedim(axis, -1).reshape(2, -1, SIDES["c"])
    assert layout.positions(x.shape[1:]) == channels_last.shape[1]
    torch.testing.assert_close(layout.pool(x, "mean"), channels_last.mean(1))
    assert torch.equal(layout.pool(x, "max"), channels_last.amax(1))
    if name != "nd":
        assert torch.equal(layout.maps(x).flatten(2).mT, channels_last)


def test_the_axes_of_maps_are_in_one_order() -> None:
    assert torch.equal(Layout("nhwc").maps(example("nhwc")), example("nchw"))
    assert torch.equal(Layout("ndhwc").maps(example("ndhwc")), example("ncdhw"))
    assert Layout("ndhwc").resolution((2, 3, 5, 4)) == Layout("ncdhw").resolution((4, 2, 3, 5)) == (2, 3, 5)
    assert (Layout("nd").resolution((4,)), Layout("nd").positions((4,))) == ((), 1)


def test_tokens_that_are_not_the_images_own_are_left_out() -> None:
    x = torch.randn(2, 6, 3)
    layout = Layout("ntd", prefix=2, cls=True)
    assert (layout.resolution((6, 3)), layout.positions((6, 3)), layout.width((6, 3))) == ((4,), 4, 3)
    torch.testing.assert_close(layout.pool(x, "mean"), x[:, 2:].mean(1))
    assert torch.equal(layout.pool(x, "cls"), x[:, 0])
    torch.testing.assert_close(layout.pool(x, "cls+mean"), torch.cat([x[:, 0], x[:, 2:].mean(1)], 1))
    assert torch.equal(layout.maps(x), x[:, 2:].mT.unflatten(2, (2, 2)))


def test_what_cannot_be_told_is_no_layout() -> None:
    assert find_layout(2, None) == Layout("nd")  # whatever is known of the axis
    assert [find_layout(*known) for known in [(4, None), (4, 2), (3, 1), (6, 1)]] == [None] * 4
    with pytest.raises(probe.ProbeError, match="unknown layout 'nchv'; did you mean"):
        Layout("nchv")


def test_a_tap_says_what_it_is_that_it_cannot_do() -> None:
    tap = Tap(name="layer1", index=0, depth=0.5, layout=Layout("nchw"), shape=(4, 2, 2))
    with pytest.raises(probe.ProbeError, match=r"no class token at 'layer1' \(nchw\); pool by 'mean' or 'max'"):
        tap.pool(torch.zeros(1, 4, 2, 2), "cls+mean")
    with pytest.raises(probe.ProbeError, match="unknown pool 'men'"):
        tap.check_pool("men")
    with pytest.raises(probe.ProbeError, match="no maps at 'fc', for one vector per image"):
        Tap(name="fc", index=1, depth=1.0, layout=Layout("nd"), shape=(4,)).maps(torch.zeros(1, 4))
    with pytest.raises(probe.ProbeError, match="the tensor at 't' is not known"):
        _ = Tap(name="t", index=0, depth=1.0).width


def test_a_tap_is_the_dict_in_manifests_and_back() -> None:
    layout = Layout("ntd", prefix=1, cls=True)
    tap = Tap(name="blocks.0", index=1, depth=0.25, layout=layout, shape=(5, 8), params=12, macs=34)
    known: dict[str, Any] = {
        "index": 1, "tap": "blocks.0", "layout": "ntd", "shape": [5, 8], "width": 8, "prefix": 1, "cls": True,
        "params": 12, "macs": 34, "depth": 0.25,
    }  # fmt: skip
    assert json.dumps(tap.to_dict()) == json.dumps(known)  # in this order: a manifest stays what it was, byte by byte
    assert Tap.from_dict(known) == tap
    bare = Tap(name="a", index=0, depth=1.0)
    assert (bare.to_dict(), Tap.from_dict(bare.to_dict())) == ({"index": 0, "tap": "a", "depth": 1.0}, bare)


class Volumes(nn.Module):
    """A small network for volumes: a stem, two blocks, the mean, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(1, 4, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Conv3d(4, 4, 1), nn.ReLU(), nn.Conv3d(4, 4, 1)) for _ in "ab")
        self.pool, self.fc = nn.MaxPool3d(2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean((2, 3, 4)))


def test_a_network_of_volumes_is_sliced_measured_pooled_and_cut() -> None:
    """No file but `taps.py` says what five axes are."""
    network, shape = Volumes().eval(), (1, 4, 8, 6)
    flows = {training: tracing.trace(network, shape, training) for training in (True, False)}
    origin = Origin(arch="volumes", weights="scratch", seed=0, level="block", preprocessing=PREPROCESSING)
    net = Backbone(*slice_network(network, cut_points.find(network, flows[False], "block"), flows), origin)
    assert net.taps == ("stem", "blocks.0", "blocks.1")
    assert {(str(tap.layout), tap.width, tap.resolution) for tap in net.table()[1:]} == {("ncdhw", 4, (2, 4, 3))}
    x = torch.randn(2, *shape)
    assert torch.equal(net(x), network(x))
    for tap, (_, out) in zip(net.table(), net.walk(x), strict=True):
        torch.testing.assert_close(tap.pool(out, "mean"), out.mean((2, 3, 4)))
        assert torch.equal(tap.maps(out), out)
    model = probe.truncate(net, -1, 3)
    pooled = model.trunk(x).mean((2, 3, 4))
    torch.testing.assert_close(model(x), pooled @ model.head.linear.weight.T + model.head.linear.bias)
