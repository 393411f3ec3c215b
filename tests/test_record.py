"""The record: what a folder holds, what is read again, and two commands that share one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import shapes_data, write_npz
from made_records import leave

import probe
from probe.base.errors import ProbeError
from probe.commands import main
from probe.records.cell import Cell, Outcome
from probe.records.record import Record, Run
from probe.records.result_rows import make_row
from probe.settings import ProbeGrid, Training, Tuning
from probe.settings.training import READ, STRATEGIES, reads
from probe.studies.engine import complete
from probe.studies.identity import decisive, setting_words


def cell(value: int = 0, **labels: Any) -> Cell:
    return Cell(kind="probes", asked={"value": value}, labels={"dataset": "ham", "arch": "net"} | labels)


def outcome(one: Cell) -> Outcome:
    row = make_row(dataset="ham", arch="net", metric="auroc", value=one.asked["value"], method="linear")
    return Outcome(rows=[row], facts={"seen": one.asked["value"]}, arrays={"x": np.arange(3.0) + one.asked["value"]})


def run(command: str, *cells: Cell, **asked: Any) -> Run:
    return Run.of(command, asked, cells, {"data": {"name": "ham"}})


@pytest.mark.parametrize("kept", [True, False])
def test_what_is_recorded_is_read_again(kept: bool, tmp_path: Path) -> None:
    record = Record(tmp_path if kept else None)
    record.enter(run("layerwise", cell(1)))
    (entry,) = complete(record, [cell(1)], outcome)
    assert (entry.facts["seen"], entry.labels["arch"], entry.rows[0]["value"]) == (1, "net", 1)
    np.testing.assert_array_equal(entry.arrays["x"], [1, 2, 3])
    assert dict(entry.arrays).keys() == {"x"}
    again = Record(tmp_path) if kept else record
    (read,) = again.entries("layerwise")
    assert (read.facts, read.rows) == (entry.facts, entry.rows)
    np.testing.assert_array_equal(read.arrays["x"], entry.arrays["x"])
    assert again.entries("check") == []


def test_a_cell_is_named_by_what_was_asked_and_not_by_its_labels() -> None:
    assert cell(1).digest == cell(1, weights="renamed").digest != cell(2).digest
    assert cell(1) == cell(1, weights="renamed")
    tall = Cell(kind="trained", asked={"value": 1}, labels={})
    assert tall.digest != cell(1).digest


def test_a_run_gives_a_cell_its_labels(tmp_path: Path) -> None:
    record = Record(tmp_path)
    for weights in ("a.pth", "b.pth"):
        record.enter(run("layerwise", cell(1, weights=weights), weights=weights))
        complete(record, [cell(1, weights=weights)], outcome)
    assert len([*(tmp_path / "cells").glob("*.json")]) == 1
    assert set(record.rows()["weights"]) == {"a.pth", "b.pth"}


def test_of_equal_rows_the_later_counts_and_settings_stand_side_by_side(tmp_path: Path) -> None:
    record = Record(tmp_path)
    for value, setting in ((1, ""), (2, ""), (3, "pool=max")):
        one = cell(value, setting=setting)
        record.enter(run("layerwise", one, value=value))
        complete(record, [one], outcome)
    assert record.rows()["value"].tolist() == [2, 3]
    assert record.rows()["setting"].tolist() == ["", "pool=max"]
    record.enter(run("layerwise", cell(1, setting=""), value=1))  # asked again, it is the later one
    assert record.rows()["value"].tolist() == [3, 1]
    (file,) = record.rebuild()
    assert [json.loads(line)["value"] for line in Path(file).read_text().splitlines()] == [3, 1]


def test_a_later_cell_replaces_the_rows_that_it_has_too_and_no_others(tmp_path: Path) -> None:
    known = {"dataset": "ham", "arch": "net", "metric": "auroc", "split": "test"}
    sizes = [make_row(**known, study="training_size", n_train=n, value=0.1) for n in (10, 20)]
    leave(tmp_path, "layerwise", "probes", [make_row(**known, study="layerwise", value=0.1), *sizes])
    leave(tmp_path, "layerwise", "probes", [make_row(**known, study="layerwise", value=0.2)])
    rows = Record(tmp_path).rows("layerwise")
    assert rows["value"].tolist() == [0.1, 0.1, 0.2]
    assert rows["study"].tolist() == ["training_size", "training_size", "layerwise"]


def test_a_failed_cell_is_recorded_and_computed_again(tmp_path: Path) -> None:
    def fails_at_2(one: Cell) -> Outcome:
        if one.asked["value"] == 2:
            raise ProbeError("out of memory")
        return outcome(one)

    record, cells = Record(tmp_path), [cell(value, seed=value) for value in (1, 2, 3)]
    record.enter(run("check", *cells))
    with pytest.raises(
        ProbeError, match=r"1 of 3 cells failed, the others are kept; the first \(ham, net, 2\): out of"
    ):
        complete(record, cells, fails_at_2)
    failed = Record(tmp_path).entry(cells[1].digest)
    assert failed is not None
    assert failed.error == "out of memory"
    assert record.rows()["value"].tolist() == [1, 3]
    computed: list[int] = []
    complete(Record(tmp_path), cells, lambda one: computed.append(one.asked["value"]) or outcome(one))  # type: ignore[func-returns-value]
    assert computed == [2]


def test_a_request_that_cannot_be_met_leaves_nothing_behind(tmp_path: Path) -> None:
    def fails(_: Cell) -> Outcome:
        raise ProbeError("no such network")

    record = Record(tmp_path / "out")
    record.enter(run("layerwise", cell(1)))
    with pytest.raises(ProbeError, match="^no such network$"):
        complete(record, [cell(1)], fails)
    assert not (tmp_path / "out").exists()


def test_arrays_that_are_gone_or_damaged_are_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = Record(tmp_path)
    record.enter(run("layerwise", cell(1)))
    complete(record, [cell(1)], outcome)
    arrays = tmp_path / "cells" / f"{cell(1).digest}.npz"
    whole = arrays.read_bytes()
    arrays.write_bytes(bytes(len(whole)))
    with pytest.raises(ProbeError, match="cannot read .*npz.*; delete it and run the command again"):
        _ = Record(tmp_path).entries()[0].arrays["x"]
    arrays.write_bytes(whole[:100])
    assert Record(tmp_path).entry(cell(1).digest) is None
    arrays.unlink()
    assert Record(tmp_path).entry(cell(1).digest) is None
    assert caplog.text.count("is damaged, so what it stood for is computed again") == 2


def test_two_commands_leave_each_others_facts_alone(tmp_path: Path) -> None:
    leave(
        tmp_path, "layerwise", "probes", [make_row(dataset="ham", metric="auroc")], run={"skipped": [{"arch": "net"}]}
    )
    before = Record(tmp_path).runs[0]
    leave(tmp_path, "finetune", "trained", [make_row(dataset="ham", metric="auroc", strategy="ftl")])
    assert Record(tmp_path).runs[0] == before
    assert [entered.command for entered in Record(tmp_path).runs] == ["layerwise", "finetune"]
    shown = CliRunner().invoke(main, ["results", str(tmp_path)])
    assert [line.split()[0] for line in shown.stdout.splitlines()[-2:]] == ["layerwise", "finetune"]
    rows = CliRunner().invoke(main, ["results", str(tmp_path), "--rows"]).stdout.splitlines()
    assert [json.loads(row)["dataset"] for row in rows] == ["ham", "ham"]


def test_the_same_request_of_another_data_set_is_another_run(tmp_path: Path) -> None:
    record, cells = Record(tmp_path), [cell(i, dataset=name) for i, name in enumerate(("ham", "busi"))]
    for one in (*cells, cells[0]):
        record.enter(Run.of("layerwise", {"draws": 100}, [one], {"data": {"name": one.labels["dataset"]}}))
        record.write(one, outcome(one), 0.0)
    assert [run.facts["data"]["name"] for run in record.runs] == ["busi", "ham"]
    assert set(record.rows()["dataset"]) == {"ham", "busi"}


def test_a_folder_without_results_is_one_line(tmp_path: Path) -> None:
    told = CliRunner().invoke(main, ["results", str(tmp_path)])
    assert (told.exit_code, len(told.stderr.splitlines())) == (1, 1)
    assert "there are no results in" in told.stderr


def test_figures_of_commands_that_share_a_folder_are_drawn_again_byte_for_byte(tmp_path: Path) -> None:
    """Each after all of them have run, as its own command drew it."""
    splits = np.repeat(("train", "val", "test"), 20)
    write_npz(tmp_path / "shapes.npz", shapes_data(60), splits)
    out, shown = tmp_path / "out", []
    common = ["--arch", "test_resnet", "--weights", "scratch", "--data", tmp_path / "shapes.npz", "--image-size", 32,
              "--level", "stage", "--out", out, "--json"]  # fmt: skip
    training = ["--epochs", 1, "--draws", 100]
    for words in (
        ["layerwise", "--draws", 100, "--c-grid", "0.1,1", "--delta", 0.25],
        ["finetune", "--at", -1, "--strategy", "lp", *training],
        ["check", "--seeds", 1, "--strategy", "ftl", *training],
        ["similarity", "--draws", 0, "--permutations", 0],
    ):
        result = CliRunner().invoke(main, list(map(str, [words[0], *common, *words[1:]])), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        shown += [Path(file) for file in json.loads(result.stdout)["files"] if Path(file).suffix == ".png"]
    drawn = {path: path.read_bytes() for path in shown}
    assert {path.stem for path in drawn} >= {"layerwise", "check", "similarity"}
    again = CliRunner().invoke(main, ["figure", "all", "--results", str(out), "--out", str(tmp_path / "again")])
    assert again.exit_code == 0, again.output
    for path, content in drawn.items():
        assert (tmp_path / "again" / path.name).read_bytes() == content, path


def test_settings_that_are_not_the_default_are_named() -> None:
    assert setting_words(ProbeGrid(), Training()) == ""
    words = setting_words(ProbeGrid(folds=5), Training(lr=0.003, num_workers=7, draws=500), Tuning(top_k=2))
    assert words == "folds=5, lr=0.003"  # threads, intervals and what no strategy reads are not compared
    assert setting_words(Tuning(top_k=2, alpha=1.0), strategy="lwft") == "top_k=2"
    assert setting_words(Tuning(rates=(0.0, 0.1)), strategy="layer-wise") == "rates=0/0.1"
    assert "num_workers" not in decisive(Training())["Training"]
    assert "lr" in decisive(Training())["Training"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_reads_the_settings_that_it_is_said_to_read(strategy: str) -> None:
    from probe.finetuning.strategies import find_strategy

    others = {
        "top_k": 2,
        "rates": (0.3,),
        "decay": 0.5,
        "alpha": 0.7,
        "beta": 0.7,
        "unfreeze": 3,
        "batchnorm": "frozen",
    }
    plain = find_strategy(strategy, 4, Tuning())
    changing = {name for name, value in others.items() if find_strategy(strategy, 4, Tuning(**{name: value})) != plain}
    assert changing == set(reads(strategy))
    assert set(READ) <= set(STRATEGIES)


def test_probe_check_takes_a_network_that_is_built_and_leaves_it_alone() -> None:
    net = probe.backbone("test_resnet", "scratch", image_size=32, level="stage")
    before = net.weights_hash()
    found = probe.check(
        net, data=shapes_data(60), seeds=[0], strategies=["ftl"], out=None, training=Training(epochs=1, draws=100)
    )
    assert {entry.labels["arch"] for entry in found.entries} == {"test_resnet"}
    assert len(found.cells) == len(found.taps) >= 3
    assert net.weights_hash() == before
    assert not net.training
