"""Prediction depth against the definition read aloud; who votes, what is written, what the figure says."""

import json
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from helpers import SMALL, shapes_data, tiny_net, write_npz
from hypothesis import given, settings
from hypothesis import strategies as st

import probe
from figures.prediction_depth import prediction_depth
from figures.style import INCH
from probe.base.errors import ProbeError
from probe.commands import main
from probe.features import Features
from probe.records.result_rows import read_rows
from probe.settings import Depths, Extraction
from probe.studies.depth import depth, depth_rows, extremes, prediction_depths, sample_depths

K = 5


Make = Callable[..., Features]


@pytest.fixture(scope="module")
def make_features(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """The same images under labels of any task; every other one is wrong, so that there is much to disagree about."""
    read = probe.extract(tiny_net(), shapes_data(), Extraction(batch_size=16), cache=tmp_path_factory.mktemp("cache"))

    def make(task: str = "multiclass", groups: bool = False) -> Features:
        features, data = copy(read), shapes_data(task=task, groups=groups)
        labels = data.labels.copy()
        labels[::2] = np.random.default_rng(1).permutation(labels[::2])
        features.data = replace(data, labels=labels)
        return features

    return make


def read_aloud(column: list[Any]) -> int:
    """The first tap from which on every prediction is the last one."""
    return next(at for at in range(len(column)) if all(each == column[-1] for each in column[at:]))


@settings(max_examples=60, deadline=None)
@given(taps=st.integers(1, 8), images=st.integers(1, 12), kinds=st.integers(1, 3), seed=st.integers(0, 1000))
def test_depth_is_the_first_tap_from_which_on_all_agree(taps: int, images: int, kinds: int, seed: int) -> None:
    predicted = np.random.default_rng(seed).integers(0, kinds, (taps, images))
    assert prediction_depths(predicted).tolist() == [read_aloud(list(column)) for column in predicted.T]
    sets = (np.random.default_rng(seed).random((taps, images, 2)) < 0.3).astype(int)
    expected = [read_aloud([tuple(each) for each in sets[:, i]]) for i in range(images)]
    assert prediction_depths(sets).tolist() == expected
    assert (prediction_depths(kinds - predicted) == prediction_depths(predicted)).all()  # names do not matter


def cosine_knn(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Share of the votes for each class."""
    x, z = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (x.astype(float), z.astype(float)))
    similar = z @ x.T
    near = np.argsort(-similar, axis=1)[:, :K]
    votes = np.exp(np.take_along_axis(similar, near, 1) / 0.07)[..., None] * np.eye(y.max() + 1)[y[near]]
    return votes.sum(1) / votes.sum((1, 2))[:, None]


@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize("split", ["test", "all"])
def test_images_are_read_by_training_images_other_than_themselves(make_features: Make, task: str, split: str) -> None:
    features = make_features(task)
    data = features.data
    table = sample_depths(features, k=K, split=split)
    assert list(table["id"]) == list(data.ids[(data.splits == split) | (split == "all")])
    train = np.flatnonzero(data.splits == "train")
    read: list[list[int]] = []
    for row in table.index:
        voters = train[train != row]
        read.append([])
        for tap in features:
            x = np.asarray(features[tap])
            read[-1].append(int(cosine_knn(x[voters], data.labels[voters], x[[row]]).argmax()))
    depth = [read_aloud(column) for column in read]
    assert table["index"].tolist() == depth
    assert table["tap"].tolist() == [list(features)[at] for at in depth]
    assert table["depth"].tolist() == [features.taps[at].depth for at in depth]
    assert table["predicted"].tolist() == [data.classes[column[-1]] for column in read]
    assert table["label"].tolist() == [data.classes[label] for label in data.labels[table.index]]
    assert table["correct"].tolist() == [
        column[-1] == data.labels[row] for column, row in zip(read, table.index, strict=True)
    ]
    assert table["agreeing_taps"].tolist() == [sum(each == column[-1] for each in column) for column in read]
    assert 0 < table["correct"].mean() < 1
    assert table["index"].nunique() > 1


def test_labels_of_an_image_settle_together_and_unknown_ones_count_in_nothing(make_features: Make) -> None:
    features = make_features("multilabel")
    labels = features.data.labels.copy()
    test = np.flatnonzero(features.data.splits == "test")
    labels[test[0]], labels[test[1], 1] = -1, -1
    features.data = replace(features.data, labels=labels)
    table = sample_depths(features, k=K)
    train = np.flatnonzero(features.data.splits == "train")
    sets = []
    for tap in features:
        x = np.asarray(features[tap])
        columns = [cosine_knn(x[train], labels[train, i], x[test])[:, 1] for i in (0, 1)]
        sets.append(np.stack(columns, 1) > 0.5)
    expected = [read_aloud([tuple(tap[i]) for tap in sets]) for i in range(len(test))]
    assert table["index"].tolist() == expected
    assert table["correct"].isna().tolist() == [True] + [False] * (len(test) - 1)
    assert table["correct"].iloc[1] == (sets[-1][1, 0] == labels[test[1], 0])
    names = ["|".join(np.array(features.data.classes)[each]) for each in sets[-1]]
    assert table["predicted"].tolist() == names


def test_the_linear_read_out_is_the_probe_of_layerwise(make_features: Make) -> None:
    features = make_features()
    table = sample_depths(features, readout="linear")
    rows = probe.layerwise(features, grid=probe.ProbeGrid(draws=100))
    last = rows[(rows["tap"] == features.taps[-1].name) & (rows["metric"] == "accuracy") & (rows["split"] == "test")]
    assert table["correct"].mean() == pytest.approx(last["value"].iloc[0])
    assert not table.equals(sample_depths(features, k=K))
    with pytest.raises(ProbeError, match="learnt the labels"):
        sample_depths(features, readout="linear", split="train")


def test_what_cannot_be_read_is_told(make_features: Make) -> None:
    features = make_features()
    with pytest.raises(ProbeError, match="tap 'stem' of shapes: 100 neighbours .* 1 to 72"):
        sample_depths(features, k=100)
    with pytest.raises(ProbeError, match="72 neighbours .* 1 to 71"):
        sample_depths(features, k=72, split="train")
    for wrong, words in (({"k": 0}, "k is 0"), ({"readout": "svm"}, "choose from knn, linear"), ({"draws": 5}, "few")):
        with pytest.raises(ProbeError, match=words):
            Depths(**wrong)
    with pytest.raises(ProbeError, match="val or test in place of all"):
        Depths(readout="linear", split="all")
    features.data = replace(features.data, splits=np.where(features.data.splits == "val", "test", features.data.splits))
    with pytest.raises(ProbeError, match="no val images"):
        sample_depths(features, k=K, split="val")


def test_rows_are_shares_and_means_with_intervals_by_group(make_features: Make) -> None:
    features = make_features(groups=True)
    table = sample_depths(features, k=K)
    rows = depth_rows(features, table, Depths(k=K, draws=200))
    settled = rows[rows["metric"] == "settled"]
    assert settled["tap"].tolist() == list(features)
    np.testing.assert_allclose(settled["value"], [(table["index"] <= at).mean() for at in range(len(features))])
    value = rows[rows["metric"].str.startswith("prediction_depth")].set_index(["metric", "class"])["value"]
    by_label = table.groupby("label")["depth"].mean()
    for name, mean in by_label.items():
        assert value["prediction_depth", name] == pytest.approx(mean)
    assert value["prediction_depth", "macro"] == pytest.approx(by_label.mean())
    assert value["prediction_depth", "micro"] == pytest.approx(table["depth"].mean())
    for kind, which in (("correct", table["correct"]), ("wrong", ~table["correct"])):
        assert value[f"prediction_depth_{kind}", "micro"] == pytest.approx(table.loc[which, "depth"].mean())
    assert (rows["ci_low"].dropna() <= rows["value"][rows["ci_low"].notna()] + 1e-9).all()
    alone = depth_rows(make_features(groups=False), table, Depths(k=K, draws=200))
    assert not alone["ci_low"].equals(rows["ci_low"])  # pairs of images are drawn together
    assert set(rows["method"]) == {"knn"}
    assert rows[rows["metric"] == "k"]["value"].tolist() == [K]


def test_extremes_settle_first_and_last_and_equals_are_drawn() -> None:
    table = pd.DataFrame({"index": [0, 2, 1, 2, 0, 0], "agreeing_taps": [3, 1, 2, 2, 3, 3]})
    first, last = extremes(table, 2, np.random.default_rng(0))
    assert set(first["index"]) == {0}
    assert last.index.tolist() == [1, 3]  # fewest agreeing taps first
    drawn = {tuple(extremes(table, 2, np.random.default_rng(seed))[0].index) for seed in range(20)}
    assert len(drawn) > 3
    ends = extremes(table, 100, np.random.default_rng(0))
    assert sorted(row for end in ends for row in end.index) == list(range(6))


def invoke(*args: object) -> Any:
    return CliRunner().invoke(main, ["depth", *map(str, args)])


@pytest.mark.usefixtures("print_quality")
def test_the_command_writes_a_row_per_image_and_a_figure(tmp_path: Path) -> None:
    data = shapes_data(60)
    write_npz(tmp_path / "shapes.npz", data, np.repeat(("train", "val", "test"), 20))
    shown = ["--arch", "resnet10t", "--weights", "scratch", "--data", tmp_path / "shapes.npz",
             "--image-size", SMALL.image_size, "--draws", 100, "--k", 7]  # fmt: skip
    result = invoke(*shown, "--out", tmp_path / "out", "--split", "val")
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "out" / "depth.csv")
    assert len(table) == 20
    assert set(table["split"]) == {"val"}
    rows = read_rows(tmp_path / "out" / "results.jsonl")
    last = rows[rows["metric"] == "settled"].iloc[-1]
    assert (last["value"], last["arch"], last["study"]) == (1, "resnet10t", "depth")
    assert "settled" in result.stdout
    names = {"study.json", "cells", "depth.csv", "results.jsonl", "depth.pdf", "depth.svg", "depth.png"}
    assert {path.name for path in (tmp_path / "out").iterdir() if path.name[0] != "."} == names
    again = invoke(*shown, "--out", tmp_path / "again", "--split", "val", "--json")
    assert {row["metric"] for row in json.loads(again.stdout)["rows"]} >= {"settled", "prediction_depth", "k"}
    assert (tmp_path / "out" / "depth.pdf").read_bytes() == (tmp_path / "again" / "depth.pdf").read_bytes()
    redrawn = ["figure", "prediction-depth", "--results", tmp_path / "out", "--out", tmp_path / "redrawn"]
    assert CliRunner().invoke(main, list(map(str, redrawn))).exit_code == 0
    assert (tmp_path / "out" / "depth.pdf").read_bytes() == (tmp_path / "redrawn" / "depth.pdf").read_bytes()


def test_from_python_and_not_a_second_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, data = tiny_net(), shapes_data()
    found = depth(net, data=data, depths=Depths(k=K, draws=100))
    assert found.record.folder is None
    features = probe.extract(net, data)
    pd.testing.assert_frame_equal(found.table, sample_depths(features, k=K), check_dtype=False)
    first = depth(net, data=data, depths=Depths(k=K, draws=100), out=tmp_path)
    monkeypatch.setattr("probe.studies.depth.sample_depths", None)
    again = depth(net, data=data, depths=Depths(k=K, draws=100), out=tmp_path)
    pd.testing.assert_frame_equal(again.rows, first.rows)
    pd.testing.assert_frame_equal(again.table, found.table)
    assert again.entries[0].asked["Depths"]["k"] == K
    assert set(again.rows["setting"]) == {f"k={K}"}
    monkeypatch.undo()
    other = depth(features, depths=Depths(k=K, draws=100))
    assert other.table.equals(found.table)
    with pytest.raises(ProbeError, match="without their images"):
        depth(probe.make_features({"a": np.eye(60)}, np.arange(60) % 2), depths=Depths(k=K))


def test_unknown_labels_and_groups_stand_in_the_record(make_features: Make) -> None:
    features = make_features("multilabel", groups=True)
    labels = features.data.labels.copy()
    labels[np.flatnonzero(features.data.splits == "test")[0]] = -1
    features.data = replace(features.data, labels=labels)
    found = depth(features, depths=Depths(k=K, draws=100))
    pd.testing.assert_frame_equal(found.table, sample_depths(features, k=K), check_dtype=False)
    assert found.table["correct"].isna().sum() == 1
    assert found.table["correct"].dtype == "boolean"


def example(**known: Any) -> dict[str, Any]:
    image = np.zeros((5, 4, 3), np.uint8)
    return {"image": image, "id": "a", "label": "nv", "predicted": "mel", "correct": False, "tap": "stem"} | known


def test_the_figure_shows_images_shares_and_counts() -> None:
    first = [example(id="x" * 40), example(label="", predicted="$y", correct=None)]
    last = [example(id="late", tap="layer1", correct=True)] * 9
    taps = [f"layer{i}" for i in range(60)]
    settled, correct = np.array([0, 0, 1, 59]), np.array([True, True, True, False])
    figure = prediction_depth(first, last, taps, settled, correct, "ham, resnet18")
    assert figure.get_size_inches()[0] * INCH == pytest.approx(180)
    figure.canvas.draw()
    words = " ".join(text.get_text() for text in figure.findobj(mpl.text.Text))
    for text in ("settled first", "settled last", "ham, resnet18", "read as labelled (3)", "read otherwise (1)",
                 "labelled none", r"read as \$y", "late", "\N{HORIZONTAL ELLIPSIS}" + "x" * 19):  # fmt: skip
        assert text in words
    histogram = figure.axes[-1]
    right, wrong = (np.array([bar.get_height() for bar in bars]) for bars in histogram.containers)
    np.testing.assert_allclose(right[:2], [2 / 3, 1 / 3])
    assert wrong.argmax() == 59
    assert sum(len(axes.images) for axes in figure.axes) == 2 + 8
    assert len(prediction_depth(first, last, taps, settled[:3], correct[:3], "").axes[-1].containers) == 1
