"""How sure similarities are, and how they are told: bands, the null, rows, figures, the command."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from helpers import words

import probe
from analysis.similarity import cca_coefficients, estimate, half_samples, linear_cka, measure
from analysis.similarity.tables import cca_table
from figures.canonical_correlations import canonical_correlations
from figures.similarity import LINE, heatmaps, lines, shared_taps
from figures.style import INCH, WIDTHS
from probe.base.errors import ProbeError
from probe.commands import main
from probe.features import Features
from probe.records.cell import Cell, Outcome
from probe.records.record import Record, Run
from probe.records.result_rows import make_row, to_json
from probe.settings import Comparison, Network
from probe.studies.similarity import Similarity

pytestmark = pytest.mark.usefixtures("print_quality")

NONE = np.empty((0, 60), int)
CKA = measure("cka", unbiased=True)


def net(taps: int = 3, rows: int = 60, seed: int = 0, source: int = 7) -> dict[str, np.ndarray]:
    """Features that share a source, so that two nets are alike to some degree."""
    rng, shared = np.random.default_rng(seed), np.random.default_rng(source).normal(size=(rows, 5))
    return {f"layer{tap}": shared @ rng.normal(size=(5, 6)) + rng.normal(size=(rows, 6)) for tap in range(taps)}


def test_halves_have_no_row_twice_and_keep_groups_whole() -> None:
    halves = half_samples(60, None, 50, np.random.default_rng(0))
    assert halves.shape == (50, 60)
    assert (halves.sum(1) == 30).all()
    assert len(np.unique(halves, axis=0)) == 50
    assert abs(halves.mean(0) - 0.5).max() < 0.3
    groups = np.repeat([f"p{i}" for i in range(11)], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 5])
    for half in half_samples(60, groups, 20, np.random.default_rng(0)):
        assert {len(set(half[groups == each])) for each in set(groups)} == {1}
        assert len(set(groups[half])) == 5


def test_bands_are_as_wide_as_new_samples_scatter_and_hold_the_truth() -> None:
    """Gaussian features with a known CKA, measured in many samples; a bootstrap would sit .05 too high here."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 10, 8))
    covariances = a.T @ a + np.eye(8), b.T @ b + np.eye(8)
    truth = np.sum((a.T @ b) ** 2) / np.prod([np.linalg.norm(each) for each in covariances])
    found, held = [], 0
    for _ in range(60):
        source = rng.normal(size=(60, 10))
        x, y = ({"tap": source @ mix + rng.normal(size=(60, 8))} for mix in (a, b))
        each = estimate(CKA, x, y, half_samples(60, None, 60, rng), NONE)
        found.append([each.value.item(), each.low.item(), each.high.item()])
        held += each.low.item() <= truth <= each.high.item()
        assert each.low.item() < each.value.item() < each.high.item()
    values, lows, highs = np.transpose(found)
    assert np.mean(values) == pytest.approx(truth, abs=0.03)
    assert np.mean(highs - lows) == pytest.approx(3.9 * np.std(values), rel=0.25)
    assert np.mean((lows + highs) / 2) == pytest.approx(np.mean(values), abs=0.01)
    assert held / 60 > 0.85


def test_the_null_is_what_unrelated_rows_show() -> None:
    rng = np.random.default_rng(0)
    x, y = net(1, seed=1), net(1, seed=2)
    orders = np.array([rng.permutation(60) for _ in range(60)])
    found = estimate(CKA, x, y, half_samples(60, None, 0, rng), orders)
    shuffled = [linear_cka(x["layer0"], y["layer0"][order], unbiased=True) for order in orders]
    assert found.null.item() == pytest.approx(np.quantile(shuffled, 0.95), abs=1e-6)
    assert found.null < 0.2 < found.value
    assert np.isnan(found.low).all()


def test_a_measure_that_half_the_images_do_not_allow_says_so() -> None:
    x = {"wide": np.random.default_rng(0).normal(size=(60, 40))}
    halves = half_samples(60, None, 2, np.random.default_rng(0))
    with pytest.raises(
        ProbeError, match=r"no band from half of the images: 'wide' .* 30 images.*; or ask for no draws"
    ):
        estimate(measure("pwcca"), x, None, halves, NONE)
    assert estimate(measure("pwcca"), x, None, halves[:0], NONE).value.item() == pytest.approx(1)


UNBIASED = Comparison(unbiased=True, draws=40, permutations=40)


def named(taps: dict[str, np.ndarray], weights: str) -> Features:
    features = probe.make_features(taps, np.arange(60) % 2)
    features.origin = {"arch": "net", "weights": weights, "seed": 0}
    return features


def compare(comparison: Comparison = UNBIASED, **arms: dict[str, np.ndarray]) -> Similarity:
    return probe.similarity([named(taps, weights) for weights, taps in arms.items()], comparison=comparison)


def table(**arms: dict[str, np.ndarray]) -> pd.DataFrame:
    return compare(**arms).table


def test_rows_name_every_two_taps_of_every_two_arms() -> None:
    a, b = net(2, seed=1), net(3, seed=2)
    rows = table(a=a, b=b)
    assert len(rows) == 4 + 6 + 9
    assert set(rows["measure"]) == {"unbiased cka"}
    for row in rows.itertuples():
        first, second = ({"net, a": a, "net, b": b}[arm] for arm in (row.arm_a, row.arm_b))
        assert row.value == pytest.approx(linear_cka(first[row.tap_a], second[row.tap_b], unbiased=True), abs=1e-6)
        assert row.ci_low <= row.value + 1e-6


def test_heatmaps_show_the_values_and_say_what_they_are() -> None:
    rows = table(pretrained=net(3, seed=1), scratch=net(3, seed=2))
    (figure,) = heatmaps(rows, "my_images")
    assert figure.get_size_inches()[0] <= WIDTHS["full"] + 1e-9
    for axes, (_, part) in zip(figure.axes, rows.groupby(["arm_a", "arm_b"], sort=False), strict=False):
        np.testing.assert_array_equal(axes.images[0].get_array(), part["value"].to_numpy().reshape(3, 3))
    assert [axes.get_title() for axes in figure.axes[:3]] == ["pretrained", "scratch", "scratch"]
    assert figure.axes[1].get_ylabel() == "pretrained"
    for text in ("my_images, net", "unbiased CKA", "layer2", "1.00"):
        assert text in words(figure)


@pytest.mark.parametrize("taps", [50, 130])
def test_names_of_many_taps_do_not_touch(taps: int) -> None:
    """As it is printed: a page at most, every name (of 130 every third) with room for its line, none cut off."""
    rows = pd.DataFrame(
        [
            ("net, a", f"layers.{i // 14}.blocks.{i % 14}", "net, b", f"layers.{j // 14}.blocks.{j % 14}", "cka", 0.5)
            for i in range(taps)
            for j in range(taps)
        ],
        columns=["arm_a", "tap_a", "arm_b", "tap_b", "measure", "value"],
    )
    (figure,) = heatmaps(rows)
    figure.canvas.draw()
    width, height = figure.get_size_inches() * figure.dpi
    assert width / figure.dpi <= WIDTHS["full"] + 1e-9
    assert height / figure.dpi <= 240 / INCH + 0.3
    for axis, side in ((figure.axes[0].xaxis, "x"), (figure.axes[0].yaxis, "y")):
        boxes = [label.get_window_extent() for label in axis.get_ticklabels()]
        assert len(boxes) == {50: 50, 130: 44}[taps]
        starts = sorted(getattr(box, f"{side}0") for box in boxes)
        assert min(np.diff(starts)) >= LINE * figure.dpi - 1e-6
        assert min(min(box.x0, box.y0) for box in boxes) >= 0
        assert max(box.y1 for box in boxes) <= height
    both = pd.concat([rows, rows.assign(arm_a="net, b")])
    assert len(heatmaps(both)) == 2  # a page each


def test_lines_show_equal_taps_with_band_and_null() -> None:
    rows = table(pretrained=net(3, seed=1), scratch=net(3, seed=2), shallow=net(2, seed=3))
    shared = shared_taps(rows)
    assert list(shared["tap_a"]) == list(shared["tap_b"]) == ["layer0", "layer1", "layer2"]
    axes = lines(rows, "my_images").axes[0]
    curves = {line.get_label(): line.get_ydata() for line in axes.lines}
    np.testing.assert_array_equal(curves["pretrained and scratch"], shared["value"])
    np.testing.assert_array_equal(curves["95th percentile, images permuted"], shared["null"])
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (shared["ci_low"].min(), shared["ci_high"].max())
    assert [label.get_text() for label in axes.get_xticklabels()] == ["layer0", "layer1", "layer2"]
    with pytest.raises(ValueError, match="same taps"):
        lines(table(one=net(2)))


def test_correlations_of_equal_taps_stand_against_noise(tmp_path: Path) -> None:
    a, b = net(2, seed=1), net(3, seed=2)
    rows = cca_table(a, b, 1.0, np.random.default_rng(0))
    assert list(rows["tap"]) == ["layer0"] * 6 + ["layer1"] * 6
    np.testing.assert_allclose(rows["coefficient"][:6], cca_coefficients(a["layer0"], b["layer0"]))
    np.testing.assert_allclose(rows["share"][:6], np.linspace(0, 1, 6))
    scores = pd.DataFrame({"tap": ["layer1", "layer0", "layer0"], "value": [0.9, 0.6, 0.8]})
    figure = canonical_correlations(rows, "a and b", scores, "test AUROC")
    left, right, other = figure.axes
    np.testing.assert_array_equal(left.lines[0].get_ydata(), rows["coefficient"][:6])
    np.testing.assert_array_equal(left.lines[1].get_ydata(), rows["chance"][:6])
    assert np.median(rows["coefficient"][:6]) in [value for line in right.lines for value in line.get_ydata()]
    np.testing.assert_allclose(other.lines[0].get_ydata(), [0.7, 0.9])
    area = (rows["coefficient"] - rows["chance"])[:6].mean()
    assert f"{area:.2f}" in words(figure)


def write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(to_json(row) + "\n" for row in rows))


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["similarity", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 49), ("val", 8), ("test", 8)):
        arrays[f"{split}_images"] = rng.integers(256, size=(count, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(count)[:, None] % 2
    np.savez(tmp_path / "scans.npz", **arrays)
    return tmp_path / "scans.npz"


ARMS = ("--arch", "resnet10t", "--image-size", 32, "--level", "stage", "--weights", "scratch")


def test_the_command_compares_the_taps_of_a_network(images: Path, tmp_path: Path) -> None:
    few = ("--data", images, "--draws", 40, "--permutations", 40)
    answer = json.loads(run(*ARMS, *few, "--out", tmp_path / "a", "--json").stdout)
    rows = pd.DataFrame(answer["rows"])
    taps = list(dict.fromkeys(rows["tap_a"]))
    assert len(rows) == len(taps) ** 2
    np.testing.assert_allclose(rows.loc[rows["tap_a"] == rows["tap_b"], ["value", "ci_low", "ci_high"]], 1, atol=1e-6)
    assert [Path(file).name for file in answer["files"]] == [
        "similarity.csv",
        *(f"similarity.{e}" for e in ("pdf", "svg", "png")),
    ]
    assert all(Path(file).stat().st_size for file in answer["files"])
    listed = run(
        *ARMS, "--data", images, "--measure", "svcca", "--draws", 0, "--permutations", 0, "--out", tmp_path / "c"
    )
    assert "svcca" in listed.stdout
    assert taps[0] in listed.stdout


def test_the_command_compares_given_features_before_and_after(tmp_path: Path) -> None:
    for name, seed in (("before", 1), ("after", 2)):
        np.savez(tmp_path / f"{name}.npz", **net(3, seed=seed), labels=np.arange(60) % 2)
    both = [part for name in ("before", "after") for part in ("--features", tmp_path / f"{name}.npz")]
    for kind in ("cka", "pwcca"):
        result = run(*both, "--measure", kind, "--draws", 40, "--permutations", 40, "--out", tmp_path / kind)
        assert "similarity_lines.png" in result.stdout
        assert set(pd.read_csv(tmp_path / kind / "similarity.csv")["measure"]) == {kind}
    known = {
        "study": "layerwise", "method": "linear", "arch": "after", "weights": "given", "metric": "auroc",
        "class": "macro", "split": "test", "dataset": "after",
    }  # fmt: skip
    scored = [make_row(**known, tap=tap, value=0.7) for tap in net(3)]
    others = ({"split": "train"}, {"study": "training_size"}, {"method": "knn"})
    write_rows(
        tmp_path / "results.jsonl", scored + [make_row(**known | each, tap="layer0", value=1) for each in others]
    )
    none = (*both, "--measure", "svcca", "--draws", 0, "--permutations", 0, "--results")
    assert "cca.png" in run(*none, tmp_path / "results.jsonl", "--out", tmp_path / "scored").stdout
    stored = pd.read_csv(tmp_path / "scored" / "cca.csv")
    assert set(stored["arm_b"]) == {"after, given"}
    assert set(stored["score"]) == {0.7}
    elsewhere = [make_row(**known | {"dataset": "another"}, tap=tap, value=0.7) for tap in net(3)]
    write_rows(tmp_path / "elsewhere.jsonl", elsewhere)
    assert "on after" in run(*none, tmp_path / "elsewhere.jsonl", "--out", tmp_path / "x", code=1).stderr
    write_rows(tmp_path / "other.jsonl", [make_row(**known | {"arch": "vgg11"}, tap="layer0", value=0.7)])
    assert "no test AUROC of after" in run(*none, tmp_path / "other.jsonl", "--out", tmp_path / "x", code=1).stderr
    np.savez(tmp_path / "fewer.npz", **net(3, rows=40), labels=np.arange(40) % 2)
    for arguments, message in (
        ([*both, "--features", tmp_path / "fewer.npz"], "not of the same images"),
        ([*both, *both], "two sets of features are both called 'before, given'"),
        ([*both, "--draws", 7], "draws is 7; take at least 40, or 0"),
    ):
        result = run(*arguments, "--out", tmp_path / "x", code=1)
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert "give one or both" in run(code=2).stderr
    assert "take --measure svcca" in run(*both, "--results", tmp_path / "results.jsonl", code=2).stderr
    assert "pooled already" in run(*both, "--maps", code=2).stderr


def test_scores_come_from_a_folder_of_probes(tmp_path: Path) -> None:
    for name, seed in (("before", 1), ("after", 2)):
        np.savez(tmp_path / f"{name}.npz", **net(3, seed=seed), labels=np.arange(60) % 2)
    sources = [part for name in ("before", "after") for part in ("--features", str(tmp_path / f"{name}.npz"))]
    known = {"study": "layerwise", "method": "linear", "arch": "after", "weights": "given", "metric": "auroc"}
    known["dataset"] = "after"
    rows = [make_row(**known, split="test", tap=f"layer{i}", value=i / 10, **{"class": "macro"}) for i in range(3)]
    record, cell = Record(tmp_path / "probed"), Cell(kind="probes", asked={}, labels={"dataset": "after"})
    record.enter(Run.of("layerwise", {}, [cell], {"data": {"name": "after"}}))
    record.write(cell, Outcome(rows=rows), 0.0)
    few = (*sources, "--measure", "svcca", "--draws", 0, "--permutations", 0, "--results", tmp_path / "probed")
    run(*few, "--out", tmp_path / "out")
    stored = pd.read_csv(tmp_path / "out" / "cca.csv").drop_duplicates("tap")
    assert stored["score"].tolist() == [0, 0.1, 0.2]
    (tmp_path / "empty").mkdir()
    assert "holds no results" in run(*few[:-1], tmp_path / "empty", "--out", tmp_path / "x", code=1).stderr


def test_what_is_compared_already_is_not_compared_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by the same request nor, of two networks known, beside a third; and the figures are those of the run."""
    how = Comparison(measure="svcca", draws=0, permutations=0)
    a, b, c = (named(net(3, seed=seed), name) for seed, name in enumerate("abc"))
    asked = {"comparison": how, "out": tmp_path}
    first = probe.similarity([a, b], **asked)
    compared: list[int] = []
    monkeypatch.setattr("probe.studies.similarity.estimate", lambda *args: compared.append(1) or estimate(*args))
    again = probe.similarity([a, b], **asked)
    assert not compared
    pd.testing.assert_frame_equal(again.table, first.table)
    pd.testing.assert_frame_equal(again.correlations["cca"], first.correlations["cca"])
    third = probe.similarity([a, b, c], **asked)
    assert len(compared) == 3
    assert list(third.correlations) == ["cca", "cca_2", "cca_3"]
    probe.similarity([a, b], **asked | {"comparison": Comparison(measure="svcca", keep=0.5, draws=0, permutations=0)})
    assert len(compared) == 3 + 3  # other settings are other numbers
    (entry, *_) = first.entries
    assert entry.asked["Comparison"]["measure"] == "svcca"
    with pytest.raises(ProbeError, match="take svcca or pwcca"):
        probe.similarity([a, b], results=tmp_path)


def test_figures_drawn_again_are_those_of_the_run(tmp_path: Path) -> None:
    for name, seed in (("before", 1), ("after", 2), ("other", 3)):
        np.savez(tmp_path / f"{name}.npz", **net(3, seed=seed), labels=np.arange(60) % 2)
    sources = [part for name in ("before", "after", "other") for part in ("--features", tmp_path / f"{name}.npz")]
    how = ("--measure", "svcca", "--draws", 0, "--permutations", 0, "--out", tmp_path / "out", "--json")
    run(*sources, *how)
    files = json.loads(run(*sources[:4], *how).stdout)["files"]
    assert {Path(file).stem for file in files} == {"similarity", "similarity_lines", "cca"}
    record, never = Record(tmp_path / "out"), Cell(kind="similarity", asked={}, labels={"dataset": "before"})
    latest = record.runs[-1]
    record.enter(Run.of("similarity", {"stopped": True}, [*record.of(latest)[:2], never], latest.facts))
    for name in ("similarity", "cca-boxes"):
        drawn = ["figure", name, "--results", tmp_path / "out", "--out", tmp_path / "again"]
        assert CliRunner().invoke(main, list(map(str, drawn))).exit_code == 0
    assert {path.stem for path in (tmp_path / "again").iterdir()} == {"similarity", "similarity_lines", "cca"}
    for path in (tmp_path / "again").iterdir():
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()


def test_from_python_a_network_that_is_built_is_compared_and_left_alone(images: Path) -> None:
    net = probe.backbone("resnet10t", "scratch", level="stage", image_size=32)
    data = probe.dataset(images)
    before = net.train().weights_hash()
    few = Comparison(draws=0, permutations=0)
    found = probe.similarity(net, data=data, comparison=few)
    assert found.record.folder is None
    size = Network(image_size=32, level="stage")
    by_name = probe.similarity("resnet10t", ["scratch"], data, network=size, comparison=few)
    pd.testing.assert_frame_equal(found.table, by_name.table)
    whole = probe.similarity([net], data=data, comparison=Comparison(maps=True, draws=0, permutations=0))
    assert whole.counts == {"images": 64, "left_out": 1, "batches": 2}
    assert net.weights_hash() == before
    assert all(module.training for module in net.modules())
    tuned = probe.backbone("resnet10t", "scratch", level="stage", image_size=32, seed=1)
    tuned.origin = replace(tuned.origin, weights="tuned")
    both = probe.similarity([net, tuned], data=data, comparison=Comparison(maps=True, draws=0, permutations=0)).table
    assert list(dict.fromkeys(both["arm_b"])) == ["resnet10t, scratch", "resnet10t, tuned"]
    alone = both[both["arm_b"] == "resnet10t, scratch"]["value"]
    np.testing.assert_allclose(alone, whole.table["value"], rtol=1e-6)
    given = probe.make_features({"a": np.eye(len(data))}, data.labels, ids=data.ids.tolist())
    with pytest.raises(ProbeError, match="features are pooled already"):
        probe.similarity([net, given], data=data, comparison=Comparison(maps=True))


def test_whole_maps_are_an_estimate_that_does_not_depend_on_the_batch_size(images: Path, tmp_path: Path) -> None:
    found = []
    for size in (64, 3):
        out = tmp_path / str(size)
        answer = json.loads(run(*ARMS, "--data", images, "--maps", "--batch-size", size, "--out", out, "--json").stdout)
        assert (answer["images"], answer["left_out"], answer["batches"]) == (64, 1, 2)  # the last batch has one image
        found.append(answer["rows"])
    assert found[0] == found[1]
    rows = pd.DataFrame(found[0])
    assert set(rows["measure"]) == {"minibatch cka"}
    np.testing.assert_allclose(rows.loc[rows["tap_a"] == rows["tap_b"], "value"], 1)
    assert "estimate" in (tmp_path / "64" / "similarity.svg").read_text()


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(ProbeError, match="whole maps are compared by cka alone, not by svcca"):
        Comparison(maps=True, measure="svcca")
    for wrong, message in (
        ({"measure": "cca"}, "measure is 'cca'"),
        ({"measure": "svcca", "unbiased": True}, "none of svcca"),
        ({"bandwidth": 0.0}, "bandwidth is 0.0"),
        ({"keep": 1.5}, "keep is 1.5"),
        ({"k": 0}, "k is 0"),
        ({"permutations": 5}, "permutations is 5"),
    ):
        with pytest.raises(ProbeError, match=message):
            Comparison(**wrong)
