"""What a cut costs: counted as by hand, timed as a clock says, drawn as it is."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from helpers import words
from networks import PREPROCESSING
from torch import Tensor, nn

import probe
from figures.cost import cost_figure
from probe.backbones import Backbone, Origin, from_module
from probe.backbones.tap_costs import Alive, latency, tap_costs
from probe.commands import main
from probe.records.record import Record
from probe.records.result_rows import frame, make_row, to_json
from probe.settings import Network
from probe.studies.cost import cost as measure

pytestmark = pytest.mark.usefixtures("print_quality")

FACTS = {"arch": "mine", "device": "cpu", "threads": 1, "batch_size": 2, "repeats": 3}


class Steps(nn.Module):
    """Two convolutions at full size, so that every tensor can be counted by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)
        self.norm, self.fc = nn.BatchNorm2d(8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x).relu()
        return self.fc(self.norm(self.conv2(x)).mean((2, 3)))


def small() -> Backbone:
    origin = Origin(arch="mine", weights="scratch", seed=0, level="layer", preprocessing=PREPROCESSING)
    return from_module(Steps(), origin)


def test_memory_is_weights_and_the_most_that_is_alive_at_once() -> None:
    net, n = small(), 2
    assert net.taps == ("relu", "norm")
    rows = tap_costs(net, n, "cpu", 1)
    pixels = 64 * 64 * 4 * n  # bytes of one channel
    first, second = 4 * (4 * 27 + 4), 4 * (8 * 36 + 8) + 4 * 4 * 8 + 8  # BatchNorm: four vectors and a counter
    # Up to relu: the input, the convolution's output and its copy. Beyond: the input, relu's output, two more.
    assert [round(row["memory_mb"] * 1e6) for row in rows] == [
        first + (3 + 4 + 4) * pixels,
        first + second + (3 + 4 + 8 + 8) * pixels,
    ]


def test_views_and_tensors_written_in_place_count_once() -> None:
    weights, x = nn.Linear(4, 4), torch.zeros(10, 4)
    with torch.no_grad(), Alive(weights, x) as alive:
        y = x + 1
        z = y.view(4, 10)
        assert alive.now == 2 * x.nbytes
        z = z.t().relu_()
        assert alive.now == 2 * x.nbytes
        del y
        assert alive.now == 2 * x.nbytes  # its view is alive
        del z
        assert (alive.now, alive.peak) == (x.nbytes, 2 * x.nbytes)
        weights(x)
        assert alive.peak == 2 * x.nbytes  # the transposed weights are a view of the weights
        assert alive.now == x.nbytes


def test_time_is_the_median_of_the_passes_after_warming_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that says 1 s to the first tap, then 2 s; the first two passes ten times that, and one later too."""
    factors = [10, 10, 1, 1.1, 10, 1, 1]

    def clock() -> Iterator[float]:
        for i, factor in enumerate(factors):
            yield from (1000 * i, 1000 * i + factor, 1000 * i + 3 * factor)

    ticks = clock()
    monkeypatch.setattr("probe.backbones.tap_costs._now", lambda device: next(ticks))
    rows = tap_costs(small(), 4, "cpu", 5)
    assert [row["latency_ms"] for row in rows] == pytest.approx([250, 750])
    assert [row["latency_ms_low"] for row in rows] == pytest.approx([250, 750])
    assert [row["latency_ms_high"] for row in rows] == pytest.approx([275, 825])
    monkeypatch.setattr("probe.backbones.tap_costs._now", lambda device: next(times))
    times = iter(np.cumsum([0, *([9, 0] * 2), *([2, 0] * 3), 5, 0]))
    assert latency(lambda x: x, torch.zeros(4, 1), repeats=3)["ms_per_image"] == 500


def test_measuring_leaves_the_network_alone() -> None:
    net = probe.backbone("test_resnet", "scratch", image_size=32).train()
    before, random = {k: v.clone() for k, v in net.state_dict().items()}, torch.random.get_rng_state()
    rows = tap_costs(net, 2, "cpu", 1)
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(module.training for module in net.modules())
    for row, tap in zip(rows, net.table(), strict=True):
        assert {name: row[name] for name in tap.to_dict()} == tap.to_dict()
    assert np.all(np.diff([row["latency_ms"] for row in rows]) > 0)
    assert np.all(np.diff([row["memory_mb"] for row in rows]) > 0)


def table() -> list[dict[str, object]]:
    """Costs of three taps."""
    return [
        {"tap": tap, "params": 1e6 * i, "macs": 2e9 * i, "latency_ms": 3.0 * i, "latency_ms_low": 2.5 * i,
         "latency_ms_high": 4.0 * i, "memory_mb": 50.0 + i}
        for i, tap in enumerate(["stem", "a$_b", "top"], 1)
    ]  # fmt: skip


def scores(weights: str = "scratch", arch: str = "mine", taps: tuple[str, ...] = ("stem", "a$_b", "top")) -> list[dict]:
    known = {
        "study": "layerwise",
        "method": "linear",
        "dataset": "ham",
        "arch": arch,
        "weights": weights,
        "metric": "auroc",
        "class": "macro",
        "seed": 0,
    }
    rows = []
    for i, tap in enumerate(taps):
        rows.append(make_row(**known, tap=tap, split="val", value=[0.6, 0.8, 0.7][i]))
        value = 0.6 + 0.1 * i
        rows.append(make_row(**known, tap=tap, split="test", value=value, ci_low=value - 0.05, ci_high=value + 0.05))
    return rows


def write_rows(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(to_json(row) + "\n" for row in rows))
    return path


def test_the_figure_shows_every_cost() -> None:
    figure = cost_figure(table(), FACTS)
    lines = [axes.lines[0].get_ydata().tolist() for axes in figure.axes]
    assert lines == [[1, 2, 3], [2, 4, 6], [3, 6, 9], [51, 52, 53]]
    band = figure.axes[2].collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (2.5, 12)
    assert [label.get_text() for label in figure.axes[3].get_xticklabels()] == ["stem", r"a\$_b", "top"]
    assert "mine; cpu, threads: 1, 2 images a pass" in words(figure)
    figure.canvas.draw()


def test_with_results_quality_stands_against_time() -> None:
    figure = cost_figure(table(), FACTS, frame(scores() + scores("w/imagenet.pth")))
    quality = figure.axes[-1]
    curve = next(line for line in quality.lines if line.get_label() == "imagenet")
    np.testing.assert_allclose(curve.get_xdata(), [3, 6, 9])
    np.testing.assert_allclose(curve.get_ydata(), [0.6, 0.7, 0.8])
    band = quality.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (pytest.approx(0.55), pytest.approx(0.85))
    assert [text.get_text() for text in quality.texts] == [r"a\$_b"] * 2  # best on validation, not on test
    assert "ham, linear probes; ring: best on validation" in words(figure)
    figure.canvas.draw()


def invoke(*arguments: str) -> Result:
    small = ["cost", "--arch", "test_resnet", "--image-size", "32", "--batch-size", "2", "--repeats", "2"]
    return CliRunner().invoke(main, [*small, *arguments], prog_name="probe")


def test_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "r.jsonl", scores(arch="test_resnet", taps=("stem", "layer1.0", "layer2.0")))
    found = json.loads(invoke("--json", "--results", "r.jsonl").stdout)
    assert [row["tap"] for row in found["taps"]] == ["stem", "layer1.0", "layer2.0", "layer3.0", "layer4.0"]
    assert (found["batch_size"], found["repeats"], found["device"]) == (2, 2, "cpu")
    assert sorted(path.name for path in (tmp_path / "results").iterdir() if path.name[0] != ".") == [
        "cells", "cost.json", "cost.pdf", "cost.png", "cost.svg", "study.json",
    ]  # fmt: skip
    drawn = ["figure", "cost", "--out", "again"]
    assert CliRunner().invoke(main, drawn).exit_code == 0
    for kind in ("pdf", "svg", "png"):
        assert Path(f"again/cost.{kind}").read_bytes() == Path(f"results/cost.{kind}").read_bytes()
    text = invoke().stdout
    assert text.splitlines()[0].split() == ["tap", "params", "macs", "ms/image", "quartiles", "peak", "MB"]
    assert "2 images a pass, float32, median of 2 passes; a cut network without its head" in text


def test_results_of_another_network_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "r.jsonl", scores())
    rows = [{**row, "dataset": name} for name in ("busi", "ham") for row in scores(arch="test_resnet", taps=("stem",))]
    write_rows(tmp_path / "two.jsonl", rows)
    for file, message in [("r.jsonl", "no scores at these taps of test_resnet; it has results of mine"),
                          ("two.jsonl", "has scores of test_resnet on busi, ham; give a folder of one data set"),
                          ("gone.jsonl", "cannot read results from 'gone.jsonl'")]:  # fmt: skip
        result = invoke("--results", file)
        assert (result.exit_code, result.stdout) == (1, "")
        assert message in result.stderr
    assert not (tmp_path / "results").exists()


def test_of_several_settings_the_scores_are_those_probed_last(tmp_path: Path) -> None:
    rows = [
        {**row, "setting": setting, "value": value}
        for setting, value in (("image_size=32", 0.6), (None, 0.7))
        for row in scores(arch="test_resnet", taps=("stem",))
    ]
    write_rows(tmp_path / "r.jsonl", rows)
    network = Network(image_size=32)
    found = measure("test_resnet", batch_size=2, repeats=2, network=network, results=tmp_path / "r.jsonl")
    assert set(found.scores["value"]) == {0.7}


def test_what_was_measured_is_not_measured_again_but_by_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    how = {"batch_size": 2, "repeats": 2, "network": Network(image_size=32), "out": tmp_path}
    first = measure("test_resnet", **how)
    measured: list[int] = []

    def again(net: Backbone, batch_size: int, *rest: object) -> list[dict]:
        measured.append(batch_size)
        return tap_costs(net, batch_size, *rest)

    monkeypatch.setattr("probe.studies.cost.tap_costs", again)
    with caplog.at_level("INFO", "probe"):
        assert measure("test_resnet", **how).taps == first.taps
    assert not measured
    assert "measured before; take another folder" in caplog.text
    measure("test_resnet", **{**how, "batch_size": 3})
    measure("test_resnet", **{**how, "out": None})
    monkeypatch.setattr("probe.studies.cost.hardware", lambda device: {"device": "another GPU", "threads": 1})
    measure("test_resnet", **how)
    assert measured == [3, 2, 2]


def test_from_python_a_network_that_is_built(tmp_path: Path) -> None:
    net, record = small(), Record(tmp_path)
    found = measure(net, batch_size=2, repeats=1, results=write_rows(tmp_path / "r", scores(taps=("relu", "x"))))
    assert [tap["tap"] for tap in found.taps] == ["relu", "norm"]
    assert found.measured["arch"] == "mine"
    assert set(found.scores["tap"]) == {"relu"}
    assert found.record.folder is None
    measure(net, batch_size=2, repeats=1, out=record)
    assert [run.command for run in record.runs] == ["cost"]
    with pytest.raises(probe.ProbeError, match="no scores at these taps of mine"):
        measure(net, batch_size=2, repeats=1, results=write_rows(tmp_path / "r", scores(taps=("other",))))
