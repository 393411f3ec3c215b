"""On another device everything is as on the CPU, and no tensor is left behind on either; what is kept for probes."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from elsewhere import elsewhere

import probe
from analysis.attribution import METHODS, AtTap, attribute
from analysis.similarity import MinibatchCKA
from probe.base import runtime
from probe.data import Dataset, make_dataset
from probe.data.image_sources import ImageArrays
from probe.features import Features
from probe.finetuning.devices import make_fabric
from probe.probes import MLPSet, fit_mlps, layerwise
from probe.settings import Batches, Controls, Extraction, MLPSetting, ProbeGrid, Training
from probe.studies.depth import sample_depths
from probe.truncation import Truncated, truncate
from probe.truncation.prediction import predict

GRID = ProbeGrid(c_grid=(1e-3, 1e-2), k_grid=(1, 5), draws=100)


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A device that is not the CPU."""
    with elsewhere(monkeypatch) as device:
        yield device


def toy(several: bool = False) -> Features:
    """Taps `b` and `c` are equal; `wide` has more columns than there are training rows."""
    generator = np.random.default_rng(0)
    x = {tap: generator.standard_normal((150, d), np.float32) for tap, d in {"a": 12, "b": 20, "wide": 150}.items()}
    signal = x["a"][:, :3] + generator.standard_normal((150, 3))
    labels = signal.argmax(1)
    if several:
        labels = np.where(generator.random(signal.shape) < 0.1, -1, signal > 0)
    splits = np.repeat(["train", "val", "test"], 50).tolist()
    return probe.make_features({"a": x["a"], "b": x["b"], "c": x["b"], "wide": x["wide"]}, labels, splits=splits)


def tiny_data() -> Dataset:
    """Six images of noise."""
    images = np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3), dtype=np.uint8)
    return make_dataset("tiny", ImageArrays([images]), [f"{i}" for i in range(6)], np.arange(6) % 2, ["a", "b"])


def tiny_model() -> Truncated:
    """A cut network with a head that tells two classes."""
    return truncate(probe.backbone("resnet10t", "scratch", image_size=32), "layer2.0", 2)


@pytest.mark.slow
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("method", ["linear", "knn", "ncm"])
def test_probes_with_controls_and_fewer_images(method: str, several: bool, there: str) -> None:
    controls = Controls(control=("permuted", "noise"), permutations=1, n_train=("40",), subsets=1)
    here, found = (layerwise(toy(several), [method], GRID, controls, device=device) for device in ("cpu", there))
    pd.testing.assert_frame_equal(found, here, rtol=1e-6)


@pytest.mark.parametrize("several", [False, True])
def test_mlps(several: bool, there: str) -> None:
    features, train, held = toy(several), np.arange(100), np.arange(100, 150)
    settings = [MLPSetting(hidden=8, dropout=dropout, epochs=3, batch_size=64) for dropout in (0.0, 0.5)]

    def probabilities(device: str) -> np.ndarray[Any, Any]:
        x = features.on(device).nearest("a")
        task = features.data.task
        (found,) = fit_mlps([MLPSet(x, features.labels, settings, train, held)], [0, 1], task, device=device)
        return found.probabilities(x)

    np.testing.assert_allclose(probabilities(there), probabilities("cpu"), rtol=1e-6)


@pytest.mark.parametrize("readout", ["knn", "linear"])
def test_prediction_depth(readout: str, there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.studies.depth.ProbeGrid", lambda: GRID)
    here, found = (sample_depths(toy(), k=5, readout=readout, device=device) for device in ("cpu", there))
    pd.testing.assert_frame_equal(found, here)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["resnet10t", "vit_tiny_patch16_224"])
def test_extraction(arch: str, there: str, tmp_path: Path) -> None:
    net, data = probe.backbone(arch, "scratch", image_size=32), tiny_data()
    here, found = (
        probe.extract(net, data, Extraction(device=device, compile="off", batch_size=4), cache=tmp_path)
        for device in ("cpu", there)
    )
    assert here.request != found.request  # another kind of device, another entry
    for tap in net.taps:
        np.testing.assert_allclose(found[tap], here[tap], rtol=1e-4, atol=1e-5)


def test_prediction(there: str) -> None:
    model, images = tiny_model(), tiny_data().images
    here, found = (predict(model, images, Batches(device=device)) for device in ("cpu", there))
    np.testing.assert_allclose(found, here, rtol=1e-5)


def test_cka_of_maps(there: str) -> None:
    batches = [torch.randn(2, 8, 5, 4, 4) for _ in range(3)]

    def estimate(device: str) -> np.ndarray[Any, Any]:
        cka = MinibatchCKA(permutations=2)
        for pair in batches:
            cka.update(zip("ab", pair.to(device), strict=True))
        return cka.estimate().value

    np.testing.assert_array_equal(estimate(there), estimate("cpu"))


@pytest.mark.parametrize("method", list(METHODS))
def test_attribution(method: str, there: str) -> None:
    model, images, targets = tiny_model(), torch.randn(3, 3, 32, 32), torch.tensor([0, 1, 1])

    def maps(device: str) -> torch.Tensor:
        asked = copy.deepcopy(model).eval().requires_grad_(False).to(device)
        split = AtTap(asked.trunk, asked.head)
        return attribute(split, images.to(device), targets.to(device), method, steps=3, samples=2, patch=16).cpu()

    torch.testing.assert_close(maps(there), maps("cpu"))


def test_what_fits_is_kept(there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of what is free: `a` takes 7,200 bytes, `b` and `c` 12,000 each, `wide` 90,000."""
    monkeypatch.setattr("probe.features.features.free_memory", lambda device: 2 * 20_000)
    features = toy()
    kept = features.on(there)
    assert [tap for tap in kept if isinstance(kept.nearest(tap), torch.Tensor)] == ["a", "b"]
    assert all(isinstance(features.nearest(tap), np.ndarray) for tap in features)
    for tap in kept:
        np.testing.assert_array_equal(kept[tap], features[tap])
        np.testing.assert_array_equal(torch.as_tensor(kept.nearest(tap)).cpu().numpy(), features[tap])


def test_nothing_is_kept_on_a_cpu() -> None:
    features = toy().on("cpu")
    assert all(features.nearest(tap) is features[tap] for tap in features)


@pytest.mark.parametrize(("picked", "fitted"), [("cuda:1", "cuda:1"), ("cuda", "cuda"), ("mps", "cpu"), ("cpu", "cpu")])
def test_where_probes_are_fitted(picked: str, fitted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "pick_device", lambda name: name)
    assert runtime.probing_device(picked) == fitted


@pytest.mark.parametrize("name", ["cpu", "cpu:0"])
def test_where_networks_are_trained(name: str) -> None:
    assert make_fabric(Training(device=name)).device == torch.device("cpu")
