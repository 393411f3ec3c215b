"""The main job: what is chosen where, what is skipped, what is written, what a second run reads."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner, Result
from helpers import SMALL, shapes_data, tiny_net
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import probe
from probe.backbones import NetworkSpec
from probe.commands import main
from probe.data.image_sources import ImageArrays
from probe.features import Features, network_reader
from probe.probes import TrainingSet, find_method, fit_taps, layerwise, methods
from probe.probes.fitting import Fitted, first_of_equal
from probe.records.record import Record
from probe.records.result_rows import COLUMNS, frame, make_row, read_rows
from probe.scoring.trials import whole_trial
from probe.settings import Extraction, Network, ProbeGrid, Reading
from probe.settings.networks import LEVELS
from probe.studies.arms import Setup, read_alike
from probe.studies.layerwise import Study, run_layerwise
from probe.studies.layerwise_report import summary_lines

GRID = ProbeGrid(draws=100, c_grid=(0.01, 1.0))


def fit_linear(features: Features) -> dict[str, Fitted]:
    data = features.data
    method = find_method("linear")(GRID, data.task)
    return fit_taps(features, whole_trial(data, GRID), method)


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_scores_equal_a_direct_scikit_learn_computation(task: str) -> None:
    """Strength chosen on val, refit on train + val, scored once on test; from the same arrays by hand."""
    features = probe.extract(tiny_net(), shapes_data(task=task), Extraction(batch_size=16))
    rows = layerwise(features, grid=GRID)
    y, splits = features.labels, features.splits
    for tap in ("stem", "layer3.0"):
        x = np.asarray(features[tap], np.float64)

        def auroc(c: float, fit: np.ndarray, on: np.ndarray, x: np.ndarray = x) -> float:
            columns = y.T if task == "multilabel" else [y]
            found = []
            for column in columns:
                model = make_pipeline(StandardScaler(), LogisticRegression(C=c, tol=1e-8, max_iter=10000))
                p = model.fit(x[fit], column[fit]).predict_proba(x[on])
                found.append(roc_auc_score(column[on], p if task == "multiclass" else p[:, 1], multi_class="ovr"))
            return float(np.mean(found))

        train, val, test = (splits == name for name in ("train", "val", "test"))
        scores = {c: auroc(c, train, val) for c in GRID.c_grid}
        best = max(scores, key=lambda c: (round(scores[c], 9), -c))
        mine = rows[(rows.tap == tap) & (rows["class"] == "macro") & (rows.metric == "auroc")].set_index("split")[
            "value"
        ]
        assert mine["val"] == pytest.approx(scores[best], abs=1e-3)
        assert mine["test"] == pytest.approx(auroc(best, train | val, test), abs=1e-3)


def test_selection_cannot_see_the_test_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither test labels nor test features change anything that was chosen or fitted."""
    data = shapes_data()
    features = probe.extract(tiny_net(), data)
    before, fitted = layerwise(features, grid=GRID), fit_linear(features)
    labels = data.labels.copy()
    labels[data.splits == "test"] = labels[data.splits == "test"][::-1]
    object.__setattr__(data, "labels", labels)
    after = layerwise(features, grid=GRID)
    on_test = before.split == "test"
    pd.testing.assert_frame_equal(before[~on_test], after[~on_test])
    assert not before[on_test]["value"].equals(after[on_test]["value"])
    real = Features.__getitem__
    broken = np.where(data.splits == "test", 1e6, 0).astype(np.float32)[:, None]
    monkeypatch.setattr(Features, "__getitem__", lambda self, tap: real(self, tap) + broken)
    for tap, again in fit_linear(features).items():
        assert again.setting == fitted[tap].setting
        np.testing.assert_array_equal(again.whole.coef, fitted[tap].whole.coef)


def test_taps_of_equal_features_share_a_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    net = probe.backbone("resnet26", "scratch", image_size=32)  # its residual branches start at zero
    features = probe.extract(net, shapes_data())
    assert first_of_equal(features)["layer1.1"] == "layer1.0"
    assert first_of_equal(features)["layer2.0"] == "layer2.0"
    sets: list[int] = []
    real = methods.fit_paths

    def counted(given: list[TrainingSet], *rest: Any, **more: Any) -> Any:
        sets.append(len(given))
        return real(given, *rest, **more)

    monkeypatch.setattr(methods, "fit_paths", counted)
    rows = layerwise(features, grid=GRID)
    assert sets == [5, 5]
    scores = rows[(rows.metric == "auroc") & (rows.split == "test") & (rows["class"] == "macro")].set_index("tap").value
    assert list(scores.index) == list(features)
    assert scores["layer1.0"] == scores["layer1.1"]


def test_a_class_missing_from_a_split_is_left_out_said_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    data = shapes_data()
    splits = np.where((data.splits == "test") & (data.labels == 2), "train", data.splits)
    rows = layerwise(probe.extract(tiny_net(), replace(data, splits=splits, drawn=())), grid=GRID)
    assert (
        caplog.text.count("test of shapes: averages are over 2 of 3 classes, without bright (no positive image)") == 1
    )
    counted = rows[rows.metric == "classes_scored"].groupby("split")["value"].unique()
    assert {split: values.tolist() for split, values in counted.items()} == {"train": [3], "val": [3], "test": [2]}
    test = rows[(rows.split == "test") & rows["class"].isin(["macro", "micro"])]
    assert test["value"].notna().all()
    assert rows[(rows.split == "test") & (rows["class"] == "bright")]["value"].isna().all()


def test_rows_follow_the_schema_and_say_what_they_are_of() -> None:
    features = probe.extract(tiny_net(), shapes_data(groups=True))
    rows = layerwise(features, grid=GRID)
    assert tuple(rows.columns) == COLUMNS
    scores = rows[rows.metric == "auroc"]
    assert set(scores["class"]) == {"macro", "micro", "dark", "left", "bright"}
    assert set(scores.split) == {"train", "val", "test"}
    test = scores[(scores.split == "test") & (scores["class"] == "macro")]
    assert list(test.tap) == list(features)
    assert ((test.ci_low <= test.value) & (test.value <= test.ci_high)).all()
    assert set(rows.arm[rows.method.notna()]) == {"linear"}
    assert set(rows[rows.metric == "chosen_c"].value) <= set(GRID.c_grid)
    assert (rows[rows.metric == "converged"].value == 1).all()


def test_same_request_same_numbers() -> None:
    features = probe.extract(tiny_net(), shapes_data())
    pd.testing.assert_frame_equal(layerwise(features, grid=GRID), layerwise(features, grid=GRID))


def test_without_weights_the_pretrained_arm_is_skipped_loudly(caplog: pytest.LogCaptureFixture) -> None:
    study = run_layerwise(["resnet10t"], data=shapes_data(), network=SMALL, grid=GRID)
    assert [arm.weights for arm in study.arms] == ["scratch"]
    assert [(skip["arch"], skip["weights"]) for skip in study.skipped] == [("resnet10t", "pretrained")]
    assert "SKIPPED resnet10t with pretrained weights" in caplog.text


def test_asked_for_they_are_an_error_that_says_how_to_get_them() -> None:
    with pytest.raises(probe.ProbeError, match=r"--weights FILE\.safetensors"):
        run_layerwise(["resnet10t"], ["pretrained"], shapes_data(), network=SMALL, grid=GRID)


def test_a_second_run_builds_no_network_and_reads_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    data = shapes_data()
    first = run_layerwise(["resnet10t"], ["scratch"], data, network=SMALL, grid=GRID)
    monkeypatch.setattr(NetworkSpec, "build", None)
    monkeypatch.setattr(ImageArrays, "load", None)
    other = ProbeGrid(draws=100, c_grid=(0.1,))
    second = run_layerwise(["resnet10t"], ["scratch"], data, network=SMALL, grid=other)
    folders = [study.arms[0].entry.facts["networks"][0]["features"] for study in (first, second)]
    assert folders[0] == folders[1]


def test_networks_that_are_compared_are_read_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `auto` means is settled by the largest of them, and kept with the run."""
    setup = Setup(seed=0, reading=Reading(), network=SMALL, extraction=Extraction(device="cpu"), cache=None)
    data, both = shapes_data(), ["test_resnet", "resnet10t"]
    macs = {arch: probe.backbone(arch, "scratch", image_size=32).tap(-1).macs or 0 for arch in both}
    assert macs["test_resnet"] < macs["resnet10t"]
    monkeypatch.setattr(network_reader, "_gains_by_bfloat16", lambda: False)
    monkeypatch.setattr(network_reader, "REPAYS", len(data) * macs["resnet10t"])
    assert read_alike(both, data, setup).extraction == Extraction(device="cpu", compile="on", dtype="float32")
    assert read_alike(both[:1], data, setup).extraction.compile == "auto"
    monkeypatch.setattr(network_reader, "REPAYS", len(data) * macs["resnet10t"] + 1)
    assert read_alike(both, data, setup).extraction.compile == "off"
    study = run_layerwise(both, ["scratch"], data, network=SMALL, grid=GRID)
    assert study.facts["read"] == {"dtype": "float32", "compile": "off"}
    monkeypatch.setattr(NetworkSpec, "build", None)
    assert read_alike(both, data, setup, study.facts["read"]).extraction.compile == "off"


def test_seeds_repeat_what_is_random() -> None:
    study = run_layerwise(["resnet10t"], ["scratch"], shapes_data(), seeds=(0, 1), network=SMALL, grid=GRID)
    first, second = study.arms[0].entry.facts["networks"]
    assert first["features"] != second["features"]
    arrays = study.arms[0].entry.arrays
    assert set(arrays["rows/test/0"]) != set(arrays["rows/test/1"])
    scores = study.rows[(study.rows.metric == "auroc") & (study.rows["class"] == "macro") & (study.rows.split == "val")]
    assert set(scores.seed) == {0, 1}
    summary = study.summaries()[0]
    means = scores.groupby("tap", sort=False)["value"].mean()
    assert summary["best"]["tap"] == means.idxmax()
    assert summary["best"]["val"] == pytest.approx(means.max())


def test_the_recommendation_is_made_on_validation_and_names_the_oracle() -> None:
    study = run_layerwise(["resnet10t"], ["scratch"], shapes_data(), network=SMALL, grid=GRID)
    (arm,) = study.summaries()
    taps = pd.DataFrame(arm["taps"]).set_index("tap")
    assert arm["best"]["tap"] == taps["val"].idxmax()
    assert arm["oracle"]["tap"] == taps["test"].idxmax()
    enough = taps.index[taps["gap_high"] < GRID.delta]
    assert (arm["earliest_sufficient"] or {}).get("tap") == (enough[0] if len(enough) else None)
    whole = taps.iloc[-1]
    assert arm["best"]["saved_params"] == pytest.approx(1 - taps.loc[arm["best"]["tap"], "params"] / whole["params"])


def test_what_a_cut_saves_is_told_where_there_is_something_to_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    study = run_layerwise(["resnet10t"], ["scratch"], shapes_data(), network=SMALL, grid=GRID)
    (arm,) = study.summaries()
    for at, told in ((0, "cutting there saves 99.5% of the parameters"), (-1, "; nothing above it but the head")):
        tap, whole = arm["taps"][at], arm["taps"][-1]
        saved = {f"saved_{cost}": 1 - tap[cost] / whole[cost] for cost in ("params", "macs")}
        monkeypatch.setattr(Study, "summaries", lambda _, best={**tap, **saved}: [arm | {"best": best}])
        assert told in next(line for line in summary_lines(study) if line.startswith("best on validation"))


@pytest.fixture
def image_csv(tmp_path: Path) -> Path:
    data = shapes_data(90)
    lines = ["file,label,group"]
    for i in range(90):
        data.images.load(i).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,{data.classes[data.labels[i]]},p{i // 3 * 3 + i % 3}")
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def run(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.mark.usefixtures("print_quality")
def test_the_command_writes_everything_and_prints_json(image_csv: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(
        "layerwise", "--arch", "resnet10t", "--data", image_csv, "--image-size", 32, "--draws", 100,
        "--c-grid", "0.1,1", "--out", out, "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert set(answer) == {"arms", "skipped", "skipped_images", "files"}
    assert set(answer["arms"][0]) >= {"arch", "weights", "taps", "best", "earliest_sufficient", "oracle"}
    names = {Path(file).name for file in answer["files"]}
    assert names == {
        "results.jsonl",
        "layerwise.csv",
        "differences.csv",
        "layerwise.pdf",
        "layerwise.svg",
        "layerwise.png",
    }
    assert all(Path(file).stat().st_size for file in answer["files"])
    record = Record(out)
    (run_facts,) = (run.facts for run in record.runs)
    (entry,) = record.entries()
    assert entry.facts["networks"][0]["request"]["preprocessing"]["image_size"] == 32
    assert entry.asked["ProbeGrid"]["c_grid"] == [0.1, 1.0]
    assert {"torch", "timm", "python"} <= set(entry.facts["versions"])
    assert entry.facts["hardware"]["device"] == "cpu"
    assert run_facts["data"]["splits"] == {"train": 54, "val": 18, "test": 18}
    assert run_facts["argv"]
    assert len(read_rows(out / "results.jsonl")) == len((out / "results.jsonl").read_text().splitlines())
    with Image.open(out / "layerwise.png") as image:
        assert image.width > 800


def test_extract_says_where_the_arrays_are(image_csv: Path) -> None:
    result = run("extract", "--arch", "resnet10t", "--weights", "scratch", "--data", image_csv, "--image-size", 32)
    assert result.exit_code == 0, result.output
    folder = Path(result.stdout.splitlines()[-1])
    assert np.load(folder / "layer4.0.npy", mmap_mode="r").shape == (90, 512)
    assert (folder / "rows.csv").read_text().startswith("id,label,group,split\n0.png,dark,p0,")


def test_archs_and_taps() -> None:
    names = json.loads(run("archs", "resnet50", "--json").stdout)
    assert {"resnet50", "torchvision:resnet50"} <= set(names)
    table = json.loads(run("taps", "resnet50", "--json").stdout)
    assert [row["tap"] for row in table][:2] == ["stem", "layer1.0"]
    assert set(table[0]) >= {"index", "tap", "layout", "shape", "width", "params", "macs", "depth"}
    assert "23.508M" in run("taps", "resnet50", "--level", "stage").stdout


def test_options_are_the_settings() -> None:
    """Help and default cannot disagree with the dataclasses, for they are made from them."""
    text = run("layerwise", "--help").stdout
    for kind in (Network, Extraction, ProbeGrid):
        for name in kind.__dataclass_fields__:
            assert f"--{name.replace('_', '-')}" in text
    assert all(level in text for level in LEVELS)


def test_rows_have_every_column_and_no_other() -> None:
    row = make_row(tap="stem", method="trained", strategy="ftl", value=float("nan"))
    assert tuple(row) == COLUMNS
    assert (row["arm"], row["value"]) == ("ftl", None)
    assert make_row(method="knn", strategy="frozen")["arm"] == "knn"
    assert frame([row]).shape == (1, len(COLUMNS))
    with pytest.raises(probe.ProbeError, match="no column 'layer'"):
        make_row(layer="stem")


def test_seeds_do_not_average_away_the_luck_of_the_images() -> None:
    """The same features under one seed or three: the same bound."""
    features = probe.extract(tiny_net(), shapes_data())
    bounds = [
        layerwise(arms, grid=GRID).query("metric == 'auroc_gap'")["ci_high"].tolist()
        for arms in ({0: features}, {0: features, 1: features, 2: features})
    ]
    assert bounds[0] == pytest.approx(bounds[1])


def test_a_renamed_weights_file_is_called_by_its_new_name(tmp_path: Path) -> None:
    net = probe.backbone("resnet10t", "scratch", image_size=32)
    state = {name: x for stage in (*net.stages, net.head) for name, x in stage.state_dict().items()}
    for name in ("a.pth", "b.pth"):
        torch.save(state, tmp_path / name)
        study = run_layerwise(["resnet10t"], [str(tmp_path / name)], shapes_data(), network=SMALL, grid=GRID)
        assert set(study.rows["weights"]) == {str(tmp_path / name)}
        assert study.summaries()[0]["best"]["tap"] in net.taps
