"""Real images and real ImageNet weights, where a checkout has them beside it."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import probe
from probe.audit import audit_dataset
from probe.audit.misaligned_labels import CHANCE
from probe.settings import Extraction


@pytest.fixture
def resnet18(shared: Path, tmp_path: Path) -> Path:
    with np.load(shared / "weights" / "resnet18_pqf.npz", allow_pickle=False) as stored:
        state = {name: np.ascontiguousarray(x.astype("f4") if x.dtype == "f2" else x) for name, x in stored.items()}
    save_file(state, tmp_path / "resnet18.safetensors")
    return tmp_path / "resnet18.safetensors"


@pytest.mark.parametrize(
    ("name", "task", "counts"),
    [
        ("ham224_a/labels.csv", "multiclass", (839, 183, 367)),
        ("busi256/labels.csv", "multiclass", (449, 128, 201)),
        ("nih_cxr224/labels.csv", "multilabel", (653, 146, 201)),
        ("medmnist28/breastmnist.npz", "binary", (546, 78, 156)),
        ("medmnist28/pneumoniamnist.npz", "binary", (4708, 524, 624)),
    ],
)
def test_real_data_are_read_as_they_are(shared: Path, name: str, task: str, counts: tuple[int, ...]) -> None:
    data = probe.dataset(shared / name)
    assert data.task.name == task
    assert tuple(data.counts().values()) == counts
    assert data.images.load(len(data) - 1).mode == "RGB"


@pytest.mark.parametrize(
    ("name", "leaks", "kinds"),
    [
        ("ham224_a", 0, {"near_identical_within": 3}),
        ("nih_cxr224", 0, {"missing_class": 0, "identical_within": 1}),
        ("busi256", 78, {"near_identical": 78, "near_identical_labels": 6, "near_identical_within": 55}),
    ],
)
def test_what_the_audit_finds(shared: Path, name: str, leaks: int, kinds: dict[str, int]) -> None:
    audit = audit_dataset(probe.dataset(shared / name / "labels.csv"))
    assert {finding.kind: len(finding.sets) for finding in audit.findings} == kinds
    assert sum(len(finding.sets) for finding in audit.findings if finding.level == "leakage") == leaks
    assert all(relation.p <= CHANCE for relation in audit.relations.values())


GRID = probe.ProbeGrid(draws=100, c_grid=(0.001, 0.01, 0.1))


@pytest.mark.slow
def test_pretrained_beats_scratch_on_breast_ultrasound(shared: Path, resnet18: Path) -> None:
    data = probe.dataset(shared / "busi256" / "labels.csv")
    best = {}
    for weights in (resnet18, "scratch"):
        net = probe.backbone("torchvision:resnet18", weights, image_size=64, level="stage")
        rows = probe.layerwise(probe.extract(net, data, Extraction(batch_size=32)), grid=GRID)
        scores = rows[(rows.metric == "auroc") & (rows["class"] == "macro") & (rows.split == "test")]
        best[str(weights)] = scores["value"].max()
    assert best[str(resnet18)] > best["scratch"] + 0.03
    assert best[str(resnet18)] > 0.88
