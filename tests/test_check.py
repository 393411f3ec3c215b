"""Probes beside training: what is trained, what is kept, what is told."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import FAST, SMALL, shapes_data
from sklearn.metrics import roc_auc_score

import probe
from figures.probe_and_trained import probe_and_trained
from probe import finetuning
from probe.backbones import NetworkSpec
from probe.base.errors import ProbeError
from probe.commands import main
from probe.records.record import Record
from probe.records.result_rows import read_rows
from probe.studies.check import cell_table


def test_trained_networks_are_kept_and_compared_with_probes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = shapes_data(90)
    asked: dict[str, Any] = {"taps": [0, 2, 4], "seeds": [0], "out": tmp_path, "network": SMALL, "training": FAST}
    found = probe.check("resnet10t", ["scratch"], data, **asked)
    assert found.taps == [tap.name for tap in found.study.arms[0].taps][::2]
    assert [(cell["tap"], cell["strategy"]) for cell in found.cells] == [(tap, "ftl") for tap in found.taps]
    ((weights, strategy, verdict),) = found.verdicts
    assert (weights, strategy) == ("scratch", "ftl")
    table = cell_table(found).set_index("tap")
    assert verdict.chosen == table["val"].idxmax()
    assert verdict.oracle == table["test"].idxmax()
    lost = table["test"][verdict.oracle] - table["test"][verdict.followed]
    assert verdict.oracle_regret.value == pytest.approx(lost)
    rows = found.rows[(found.rows.method == "trained") & (found.rows["class"] == "macro")]
    assert rows[rows.metric == "auroc_spearman"].value.item() == pytest.approx(verdict.spearman.value, nan_ok=True)
    assert rows[rows.metric == "auroc_oracle_regret"].value.item() == pytest.approx(lost)
    (points,) = (line for line in probe_and_trained(found.rows).axes[0].lines if line.get_label() == "ftl")
    depths = [tap.depth for tap in found.study.arms[0].taps][::2]
    np.testing.assert_allclose(points.get_xdata(), depths)  # a lone strategy has nothing to stand aside for
    before = {path: path.read_bytes() for path in (tmp_path / "cells").iterdir()}
    monkeypatch.setattr(finetuning, "finetune", None)  # a second run trains nothing, and builds nothing
    monkeypatch.setattr(NetworkSpec, "build", None)
    again = probe.check("resnet10t", ["scratch"], data, **asked)
    assert str(again.verdicts) == str(found.verdicts)  # NaN is not equal to itself
    assert same_cells(again.cells, found.cells)
    assert {path: path.read_bytes() for path in (tmp_path / "cells").iterdir()} == before
    with pytest.raises(TypeError):  # other settings are other networks
        probe.check("resnet10t", ["scratch"], data, **asked | {"seeds": [1]})


def same_cells(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(a | {"draws": 0} == b | {"draws": 0} and np.array_equal(a["draws"], b["draws"]) for a, b in pairs)


def test_a_network_is_built_once_for_every_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    real = NetworkSpec.build

    def counted(spec: NetworkSpec) -> Any:
        built.append(spec.seed)
        return real(spec)

    data, asked = shapes_data(60), {"taps": [0, 2, 4], "seeds": [0, 1], "network": SMALL, "training": FAST}
    monkeypatch.setattr(NetworkSpec, "build", counted)
    probe.check("resnet10t", ["scratch"], data, out=tmp_path, **asked)  # its features are not known either
    assert sorted(built) == [0, 1]


def test_what_is_trained_is_recorded_with_settings_and_predictions(tmp_path: Path) -> None:
    data = shapes_data(90)
    asked: dict[str, Any] = {"taps": [0, 2, 4], "seeds": [0], "out": tmp_path, "network": SMALL, "training": FAST}
    found = probe.check("resnet10t", ["scratch"], data, **asked)
    entry = next(entry for entry in Record(tmp_path).entries("check") if entry.kind == "trained")
    assert entry.asked["Training"]["lr"] == FAST.lr
    assert entry.asked["Training"]["epochs"] == 1
    assert entry.asked["network"]["level"] == "block"
    assert {"best_epoch", "params", "trainable", "macs", "seconds", "history"} <= set(entry.facts)
    rows = np.flatnonzero(data.splits == "test")
    assert entry.arrays["ids/test"].tolist() == data.ids[rows].tolist()
    probabilities = entry.arrays["probabilities/test"]
    assert roc_auc_score(data.labels[rows], probabilities, multi_class="ovr") == pytest.approx(
        found.cells[0]["draws"][0]
    )


def test_a_network_that_fails_is_recorded_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = finetuning.finetune

    def failing(model: Any, *given: Any, **options: Any) -> Any:
        if model.tap == "layer2.0":
            raise ProbeError("the loss is nan at step 1")
        return real(model, *given, **options)

    asked: dict[str, Any] = {"taps": [0, 2, 4], "seeds": [0], "out": tmp_path, "network": SMALL, "training": FAST}
    monkeypatch.setattr(finetuning, "finetune", failing)
    with pytest.raises(ProbeError, match=r"1 of 3 cells failed, the others are kept; .*layer2.0.*: the loss is nan"):
        probe.check("resnet10t", ["scratch"], shapes_data(60), **asked)
    told = CliRunner().invoke(main, ["results", str(tmp_path)])
    assert told.stdout.count("done") == 3  # the probes, and two networks
    assert "failed: the loss is nan at step 1" in told.stdout
    monkeypatch.setattr(finetuning, "finetune", real)
    assert len(probe.check("resnet10t", ["scratch"], shapes_data(60), **asked).cells) == 3


def test_a_damaged_cell_is_named_and_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: dict[str, Any] = {"taps": [0, 2, 4], "seeds": [0], "out": tmp_path, "network": SMALL, "training": FAST}
    first = probe.check("resnet10t", ["scratch"], shapes_data(60), **asked)
    digest = next(entry.digest for entry in first.entries if entry.labels["tap"] == "stem")
    file = tmp_path / "cells" / f"{digest}.json"
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"{}", b"null", b"\xff" + whole, whole.replace(b"stem", b"stom", 1)):
        file.write_bytes(damaged)
        caplog.clear()
        record = Record(tmp_path)
        assert record.entry(digest) is None
        assert record.entry(digest) is None
        (warning,) = (message for message in caplog.records if message.levelname == "WARNING")
        assert f"'{file}' is damaged" in warning.getMessage()
    trained: list[str] = []
    real = finetuning.finetune

    def counted(model: Any, *given: Any, **options: Any) -> Any:
        trained.append(model.tap)
        return real(model, *given, **options)

    monkeypatch.setattr(finetuning, "finetune", counted)
    again = probe.check("resnet10t", ["scratch"], shapes_data(60), **asked)
    assert trained == ["stem"]
    np.testing.assert_array_equal(again.cells[0]["draws"], first.cells[0]["draws"])


def test_fewer_than_three_taps_are_refused_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetuning, "finetune", None)
    with pytest.raises(ProbeError, match="2 taps say nothing of an order; take at least 3 of stem"):
        probe.check(
            "resnet10t", ["scratch"], shapes_data(60), taps=["stem", "-1"], out=tmp_path, network=SMALL, training=FAST
        )
    with pytest.raises(ProbeError, match="unknown tap 'layer9'"):
        probe.check("resnet10t", ["scratch"], shapes_data(60), taps=["layer9"], out=tmp_path, network=SMALL)


def test_what_leaves_nothing_to_train_is_told_before_probing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.studies.check.run_layerwise", None)
    with pytest.raises(ProbeError, match="scratch weights are trained with ftl alone, .* with lp, top-k; add"):
        probe.check("resnet10t", ["scratch"], shapes_data(60), strategies=["lp", "top-k"], network=SMALL)


@pytest.mark.usefixtures("print_quality")
def test_the_command_tells_order_regret_and_seconds(tmp_path: Path) -> None:
    data = shapes_data(60)
    images = np.stack([np.asarray(data.images.load(row)) for row in range(60)])
    parts = {f"{split}_{kind}": column[at : at + 20] for at, split in ((0, "train"), (20, "val"), (40, "test"))
             for kind, column in (("images", images), ("labels", data.labels[:, None]))}  # fmt: skip
    np.savez(tmp_path / "shapes.npz", **parts)
    shown = ["check", "--arch", "resnet10t", "--weights", "scratch", "--data", tmp_path / "shapes.npz",
             "--image-size", 32,
             "--tap", 0, "--tap", 2, "--tap", 4, "--strategy", "ftl", "--seeds", 1, "--epochs", 1, "--draws", 100,
             "--out", tmp_path / "out"]  # fmt: skip
    result = CliRunner().invoke(main, list(map(str, shown)))
    assert result.exit_code == 0, result.output
    for words in ("Spearman", "regret in AUROC", "probing took", "check.csv"):
        assert words in result.stdout
    again = json.loads(CliRunner().invoke(main, [*map(str, shown), "--json"]).stdout)
    assert [cell["tap"] for cell in again["cells"]] == ["stem", "layer2.0", "layer4.0"]
    assert {path.suffix for path in (tmp_path / "out").iterdir()} >= {".csv", ".jsonl", ".pdf", ".svg", ".png"}
    assert set(read_rows(tmp_path / "out" / "results.jsonl")["study"]) >= {"layerwise", "finetune", "check"}
