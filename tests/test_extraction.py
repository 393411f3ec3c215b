"""Pooling and the walk over a data set."""

import numpy as np
import pytest
import torch
from helpers import tiny_data, tiny_net
from networks import make_backbone, make_network
from numpy.typing import NDArray
from PIL import Image

import probe
from probe.backbones import Backbone
from probe.data import Dataset
from probe.features.network_reader import Reader, settle
from probe.features.walk import transform, walk_dataset
from probe.settings import Extraction


def walk(net: Backbone, data: Dataset, **settings: object) -> dict[str, NDArray[np.float32]]:
    read = Reader(net, settle(Extraction(**settings), 0, "cpu"), "cpu")
    parts = list(walk_dataset(read, data, range(len(data))))
    return {tap: np.concatenate([part[tap] for part in parts]) for tap in net.taps}


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (5, 3), (64, 2)])
def test_features_do_not_depend_on_batches_or_workers(batch_size: int, workers: int) -> None:
    net, data = tiny_net(), tiny_data()
    expected = walk(net, data, batch_size=8, num_workers=1)
    found = walk(net, data, batch_size=batch_size, num_workers=workers)
    for tap in net.taps:
        assert found[tap].shape == (23, net.tap(tap).width)
        np.testing.assert_allclose(found[tap], expected[tap], rtol=1e-5, atol=1e-5 * np.abs(expected[tap]).max())


def test_features_equal_a_plain_forward_pass() -> None:
    """Against hooks on the original network and PIL by hand."""
    net, data = tiny_net(), tiny_data()
    found = walk(net, data)
    pre = net.origin.preprocessing
    x = torch.stack(
        [
            torch.from_numpy(
                np.array(data.images.load(i).resize((32, 32), Image.Resampling[pre.interpolation.upper()]))
            )
            for i in range(len(data))
        ]
    ).permute(0, 3, 1, 2)
    x = (x / 255 - torch.tensor(pre.mean)[:, None, None]) / torch.tensor(pre.std)[:, None, None]
    with torch.no_grad():
        for stage, out in net.eval().walk(x):
            np.testing.assert_allclose(found[stage.name], out.mean((2, 3)), atol=2e-3 * float(out.abs().max()))


def test_the_given_network_is_left_as_it_was() -> None:
    net, data = tiny_net().train(), tiny_data()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    walk(net, data, dtype="bfloat16")
    assert net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_bfloat16_is_close() -> None:
    net, data = tiny_net(), tiny_data()
    exact, rough = walk(net, data), walk(net, data, dtype="bfloat16")
    for tap in net.taps:
        assert 0 < np.abs(exact[tap] - rough[tap]).max() < 0.05 * np.abs(exact[tap]).max()


@pytest.mark.parametrize("arch", ["swin_tiny_patch4_window7_224", "vit_small_patch14_reg4_dinov2", "resnet18"])
def test_pooling_goes_over_positions_only(arch: str) -> None:
    net = make_backbone(make_network(arch), arch).eval()
    size = net.origin.preprocessing.image_size
    with torch.no_grad():
        for tap, (stage, x) in zip(net.table(), net.walk(torch.randn(2, 3, size, size)), strict=True):
            tokens = {"nchw": lambda x: x.flatten(2).mT, "nhwc": lambda x: x.flatten(1, 2), "ntd": lambda x: x}
            places = tokens[stage.layout.name](x)[:, stage.layout.prefix :]
            assert places.shape[2] == tap.width
            torch.testing.assert_close(tap.pool(x, "mean"), places.mean(1))
            assert torch.equal(tap.pool(x, "max"), places.amax(1))
            if stage.layout.cls:
                assert torch.equal(tap.pool(x, "cls"), x[:, 0])
                torch.testing.assert_close(tap.pool(x, "cls+mean"), torch.cat([x[:, 0], places.mean(1)], 1))
            else:
                with pytest.raises(probe.ProbeError, match="no class token"):
                    tap.pool(x, "cls")


def test_center_crop_keeps_the_aspect() -> None:
    from dataclasses import replace

    pre = tiny_net().origin.preprocessing
    wide = Image.fromarray(np.repeat(np.arange(100, dtype=np.uint8)[None, :, None], 50, 0).repeat(3, 2))
    squashed, cut = transform(pre)(wide), transform(replace(pre, crop="center"))(wide)
    assert squashed.shape == cut.shape == (3, 32, 32)
    assert squashed[0, 0, 0] < 5 < 20 < cut[0, 0, 0]  # the left edge is kept, or cut away


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"num_workers": 0}, {"pool": "sum"}, {"dtype": "int8"}])
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(probe.ProbeError, match=next(iter(wrong))):
        Extraction(**wrong)
