"""Probes beside training: what is trained, what is kept, what is told."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from test_study import SMALL, shapes_data

from figures.probe_and_trained import probe_and_trained
from probe.base.errors import ProbeError
from probe.commands import main
from probe.records.rows import read_rows
from probe.settings import Training, Tuning
from probe.studies import cells
from probe.studies.check import cell_table, run_check

FAST = Training(epochs=1, draws=100, batch_size=16)


def test_trained_networks_are_kept_and_compared_with_probes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = shapes_data(90)
    asked: dict[str, Any] = {"taps": [0, 2, 4], "seeds": [0], "out": tmp_path, "network": SMALL, "training": FAST}
    found = run_check("resnet10t", ["scratch"], data, **asked)
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
    monkeypatch.setattr(cells, "finetune", None)  # a second run trains nothing
    again = run_check("resnet10t", ["scratch"], data, **asked)
    assert again.cells == found.cells
    with pytest.raises(TypeError):  # other settings are other networks
        run_check("resnet10t", ["scratch"], data, **asked | {"seeds": [1]})


def test_a_damaged_file_of_a_trained_network_is_told_and_the_network_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = (shapes_data(60), SMALL, FAST, Tuning(), tmp_path / "cells", None)
    first = cells.Trainer("resnet10t", *asked).cell("scratch", "ftl", "stem", 0)
    (file,) = (tmp_path / "cells").glob("*.json")
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"{}", b"null", b"\xff" + whole):
        file.write_bytes(damaged)
        caplog.clear()
        trainer = cells.Trainer("resnet10t", *asked)
        assert trainer.recall("scratch", "ftl", "stem", 0) is None
        if damaged == b"":
            assert trainer.cell("scratch", "ftl", "stem", 0)["draws"] == first["draws"]
            assert json.loads(file.read_text())["draws"] == first["draws"]
        (warning,) = (record for record in caplog.records if record.levelname == "WARNING")
        assert f"'{file}' is damaged" in warning.getMessage()
    assert [place for place in (tmp_path / "cells").iterdir() if place.suffix != ".ckpt"] == [file]


def test_fewer_than_three_taps_are_refused_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "finetune", None)
    with pytest.raises(ProbeError, match="2 taps say nothing of an order; take at least 3 of stem"):
        run_check(
            "resnet10t", ["scratch"], shapes_data(60), taps=["stem", "-1"], out=tmp_path, network=SMALL, training=FAST
        )
    with pytest.raises(ProbeError, match="unknown tap 'layer9'"):
        run_check("resnet10t", ["scratch"], shapes_data(60), taps=["layer9"], out=tmp_path, network=SMALL)


def test_what_leaves_nothing_to_train_is_told_before_probing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.studies.check.run_layerwise", None)
    with pytest.raises(ProbeError, match="scratch weights are trained with ftl alone, .* with lp, top-k; add"):
        run_check("resnet10t", ["scratch"], shapes_data(60), strategies=["lp", "top-k"], network=SMALL)


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
