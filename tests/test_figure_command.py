"""Figures drawn again from files: every recipe, what is missing, tables, and the documents in step."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from helpers import words
from made_records import leave
from matplotlib.figure import Figure

from figures.depth_curve import marks
from figures.frontier import frontier, on_front, tabulate
from figures.registry import MODULES, SIZED, module_of
from figures.score_table import score_table
from figures.strategies import strategies
from figures.style import INCH, slide
from probe.commands import main
from probe.records.record import Record
from probe.records.result_rows import frame, make_row, records
from probe.records.view import View, name_settings
from probe.scoring.differences import strategy_differences

pytestmark = pytest.mark.usefixtures("print_quality")

ROOT = Path(__file__).parents[1]
TAPS = ["stem", "layer1.0", "layer2.0"]


Scores = tuple[float, ...]


def layerwise(dataset: str = "ham", weights: str = "scratch", scores: Scores = (0.7, 0.8, 0.79)) -> list[Any]:
    made = []
    for at, (tap, value) in enumerate(zip(TAPS, scores, strict=True)):
        known = {"study": "layerwise", "dataset": dataset, "arch": "net_18", "weights": weights, "tap": tap}
        known |= {"depth": (at + 1) / 3, "strategy": "frozen"}
        made += [make_row(**known, metric=cost, value=unit * 4**at) for cost, unit in (("params", 1e5), ("macs", 1e7))]
        for split in ("train", "val", "test"):
            numbers = {"value": value, "ci_low": value - 0.05, "ci_high": value + 0.05}
            scored = {"method": "linear", "split": split, "metric": "auroc", "class": "macro", "seed": 0}
            made.append(make_row(**known, **scored, **numbers))
        gap = {"metric": "auroc_gap", "value": 0.8 - value, "ci_high": 0.05}
        made.append(make_row(**known, method="linear", split="val", **gap))
    return made


def trained(strategy: str, scores: tuple[float, ...]) -> list[Any]:
    known = {"study": "finetune", "dataset": "ham", "arch": "net_18", "weights": "scratch", "method": "trained"}
    return [
        make_row(**known, tap=tap, strategy=strategy, split=split, metric="auroc", **{"class": "macro"}, seed=0,
                 value=value, ci_low=value - 0.04, ci_high=value + 0.04)
        for tap, value in zip(TAPS, scores, strict=True)
        for split in ("val", "test")
    ]  # fmt: skip


def cells() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 0.02, 200)
    made = []
    for strategy, scores in (("lp", (0.70, 0.80, 0.75)), ("ftl", (0.75, 0.90, 0.76))):
        for tap, value in zip(TAPS, scores, strict=True):
            for seed in (0, 1):
                draws = [value, *(value + shared + rng.normal(0, 0.002, 200))]
                known = {"weights": "scratch", "tap": tap, "strategy": strategy, "seed": seed}
                made.append({**known, "val": value, "draws": draws})
    return made


def legend(drawn: Figure) -> list[str]:
    return [text.get_text() for text in drawn.legends[0].get_texts()]


def figure(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["figure", *map(str, arguments)])


@pytest.fixture
def results(tmp_path: Path) -> Path:
    leave(tmp_path, "layerwise", "probes", layerwise(), facts={"recommended": RECOMMENDED})
    leave_checked(tmp_path, strategy_differences(cells(), "auroc"))
    return tmp_path


RECOMMENDED = {"linear": {"best": "layer1.0", "earliest_sufficient": None, "oracle": "layer1.0"}}


def leave_checked(folder: Path, table: pd.DataFrame) -> None:
    """A run of 'check': its probes, its trained networks and the differences of its strategies."""
    table = table.assign(dataset="ham", arch="net_18", depth=table["tap"].map(TAPS.index))
    rows = layerwise() + trained("lp", (0.72, 0.8, 0.81)) + trained("ftl", (0.75, 0.85, 0.8))
    leave(folder, "check", "comparison", rows, facts={"recommended": RECOMMENDED, "differences": records(table)})


def test_all_draws_what_is_there_and_names_what_is_not(results: Path) -> None:
    found = json.loads(figure("all", "--results", results, "--json").stdout)
    stems = {Path(file).stem for file in found["files"]}
    assert stems == {"layerwise", "check", "strategies", "frontier", "table"}
    assert all(Path(file).stat().st_size for file in found["files"])
    assert set(found["left_out"]) == set(MODULES) - {
        "depth-curve", "probe-and-trained", "strategies", "frontier", "table",
    }  # fmt: skip
    assert found["left_out"]["cost"] == f"nothing of 'probe cost' in '{results}'"


def test_networks_checked_into_one_folder_are_not_averaged(results: Path) -> None:
    rows = [{**row, "arch": "another"} for row in layerwise(scores=(0.6, 0.6, 0.6)) + trained("ftl", (0.9, 0.9, 0.9))]
    leave(results, "check", "comparison", rows, facts={"differences": []})
    (drawn,) = module_of("probe-and-trained").redraw(View(Record(results))).values()
    first, _ = drawn.axes
    assert first.get_title() == "ham, another, scratch"
    assert {float(y) for line in first.lines for y in line.get_ydata()} == {0.5, 0.6, 0.9}


def test_an_arm_that_was_skipped_is_still_said(results: Path) -> None:
    def drawn(data: str) -> str:
        skipped = [{"arch": "net_18", "weights": "pretrained", "reason": "no network"}]
        rows = layerwise(dataset=data)
        leave(results, "layerwise", "probes", rows, facts={"recommended": {}}, run={"skipped": skipped})
        assert figure("depth-curve", "--results", results, "--data", "ham").exit_code == 0
        return (results / "layerwise.svg").read_text()

    assert "skipped" not in drawn("another")
    assert "skipped, weights not available" in drawn("ham")


@pytest.mark.parametrize("name", ["probe-and-trained", "strategies", "frontier"])
def test_half_a_column_holds_every_word(name: str, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr("figures.registry.save", lambda figure, path: drawn.append(figure) or [])
    assert figure(name, "--results", results, "--column", "half").exit_code == 0
    (only,) = drawn
    only.draw_without_rendering()
    words = [text for axes in only.axes for text in (axes.title, axes.xaxis.label, axes.yaxis.label) if text.get_text()]
    for box in (each.get_window_extent() for each in (*words, only.legends[0])):
        assert only.bbox.x0 <= box.x0 <= box.x1 <= only.bbox.x1
        assert only.bbox.y0 <= box.y0 <= box.y1 <= only.bbox.y1


def test_a_slide_and_another_folder(results: Path) -> None:
    told = figure("depth-curve", "--results", results, "--column", "slide", "--out", results / "slides")
    assert told.exit_code == 0, told.output
    assert {path.name for path in (results / "slides").iterdir()} == {"layerwise.pdf", "layerwise.svg", "layerwise.png"}
    assert 'width="453' in (results / "slides" / "layerwise.svg").read_text()  # points, of 160 mm
    assert slide()["figure.figsize"][0] * INCH == pytest.approx(160)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["banana"], 1, "unknown figure 'banana'"),
        (["depth-curv"], 1, "depth-curve"),
        ([], 2, "--list tells"),
        (["cost"], 1, "nothing of 'probe cost'"),
        (["cost", "--column", "half"], 2, "'cost' has one width"),
        (["depth-curve", "--metric", "kappa"], 1, "no kappa of 'probe layerwise'"),
        (["depth-curve", "--data", "busi"], 1, "no results of 'busi' in"),
        (["depth-curve", "--results", "nowhere"], 1, "there is no folder 'nowhere'"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(results: Path, arguments: list[str], code: int, message: str) -> None:
    told = figure("--results", results, *arguments)
    assert told.exit_code == code
    assert message in told.stderr
    assert "Traceback" not in told.stderr


def test_results_of_two_data_sets_want_a_choice(results: Path) -> None:
    leave(results, "layerwise", "probes", layerwise("busi"), facts={"recommended": {}})
    for name in ("depth-curve", "all"):
        told = figure(name, "--results", results)
        assert (told.exit_code, "choose one with --data" in told.stderr) == (1, True)
    assert figure("depth-curve", "--results", results, "--data", "busi").exit_code == 0


def test_of_two_runs_of_one_name_the_later_is_drawn_and_settings_stand_side_by_side(tmp_path: Path) -> None:
    for value, setting in ((0.1, ""), (0.7, ""), (0.6, "pool=max")):
        rows = [row | {"value": value, "setting": setting} for row in layerwise()]
        leave(tmp_path, "layerwise", "probes", rows, facts={"recommended": {}}, setting=setting)
    for top_k, value in ((2, 0.6), (4, 0.8)):
        setting = f"top_k={top_k}"
        rows = [row | {"setting": setting} for row in trained("lwft", (value,) * 3)]
        leave(tmp_path, "finetune", "trained", rows, arm="lwft", setting=setting)
    told = figure("all", "--results", tmp_path)
    assert told.exit_code == 0, told.output
    table = pd.read_csv(tmp_path / "table.csv", index_col=0)
    assert table["scratch, linear probe, value"].tolist() == [0.7] * 3
    assert table["scratch, linear, pool=max probe, value"].tolist() == [0.6] * 3
    assert table["scratch, lwft, top_k=2, value"].tolist() == [0.6] * 3
    assert table["scratch, lwft, top_k=4, value"].tolist() == [0.8] * 3
    assert "linear, pool=max" in (tmp_path / "layerwise.svg").read_text()


def test_an_arm_of_one_setting_is_called_by_its_name_alone() -> None:
    rows = frame([row | {"setting": "epochs=2"} for row in trained("ftl", (0.6,) * 3)])
    assert set(name_settings(rows)["arm"]) == {"ftl"}


def test_a_damaged_record_is_named(results: Path) -> None:
    study = results / "study.json"
    study.write_text(study.read_text().replace("ham", "hem", 1))
    told = figure("table", "--results", results)
    assert (told.exit_code, len(told.stderr.splitlines())) == (1, 1)
    assert f"'{study}' is damaged" in told.stderr


def test_a_folder_of_version_0_1_0_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text("{}\n")
    told = figure("all", "--results", tmp_path)
    assert (told.exit_code, len(told.stderr.splitlines())) == (1, 1)
    assert "holds results of version 0.1.0" in told.stderr


def test_results_of_another_data_set_than_the_one_asked_for_are_not_drawn(results: Path) -> None:
    assert figure("strategies", "--results", results, "--data", "ham").exit_code == 0
    assert "no results of 'digits' in" in figure("strategies", "--results", results, "--data", "digits").stderr


def test_an_empty_folder_holds_nothing(tmp_path: Path) -> None:
    told = figure("all", "--results", tmp_path)
    assert (told.exit_code, "holds nothing to draw" in told.stderr) == (1, True)


def test_the_list_names_every_figure() -> None:
    told = figure("--list").stdout
    assert all(name in told for name in MODULES)


def test_marks_are_what_the_run_recommended(tmp_path: Path) -> None:
    """Also where another margin was asked for than the default, and in another metric than the one it chose by."""
    recommended = {"linear": {"best": "layer1.0", "earliest_sufficient": "stem", "oracle": "layer1.0"}}
    leave(tmp_path, "layerwise", "probes", layerwise(), facts={"recommended": recommended})
    view = View(Record(tmp_path))
    (mark,) = marks(view, view.rows("layerwise"))
    assert (mark["arch"], mark["weights"], mark["arm"], mark["tap"]) == ("net_18", "scratch", "linear", "stem")


def test_fine_tuned_given_weights_are_the_reference() -> None:
    given = [{**cell, "weights": "w.pth", "val": cell["val"] - 0.3} for cell in cells()]
    table = strategy_differences([*cells(), *given], "auroc")
    assert set(zip(table["against_weights"], table["against_strategy"], strict=True)) == {("w.pth", "ftl")}
    assert len(table) == 9


def test_differences_are_paired_and_against_the_best_on_validation() -> None:
    table = strategy_differences(cells(), "auroc").set_index("tap")
    assert set(table["against_strategy"]) == {"ftl"}
    np.testing.assert_allclose(table.loc[TAPS, "difference"], [-0.05, -0.1, -0.01])
    np.testing.assert_allclose(table.loc[TAPS, "reference"], [0.75, 0.9, 0.76])
    unpaired = table["reference_high"] - table["reference_low"]
    assert (table["ci_high"] - table["ci_low"] < unpaired / 4).all()  # the images shared by both cancel
    assert (table["p_holm"] >= table["p"]).all()
    assert strategy_differences(cells(), "log_loss")["against_strategy"].unique() == ["lp"]
    assert strategy_differences(cells()[:6], "auroc").empty
    assert set(strategy_differences(cells()[2:], "auroc")["tap"]) == {"layer1.0", "layer2.0"}  # those of both
    assert set(strategy_differences(cells()[:10], "auroc")["tap"]) == {"stem", "layer1.0"}


def test_the_figure_of_strategies_fills_what_is_significant() -> None:
    table = strategy_differences(cells(), "auroc").assign(dataset="ham", arch="net_18")
    table.loc[table["tap"] == "layer1.0", "p_holm"] = 0.2
    drawn = strategies(table)
    left, right = drawn.axes
    assert [label.get_text() for label in left.get_yticklabels()] == TAPS
    hollow, filled = right.lines[1:]
    np.testing.assert_allclose(hollow.get_xdata(), [-0.05, -0.1, -0.01])
    assert np.isnan(filled.get_xdata()).tolist() == [False, True, False]
    assert "ftl, scratch" in words(drawn)


def test_the_lowest_cut_is_on_top_in_whatever_order_cuts_were_found(results: Path) -> None:
    table = strategy_differences(cells(), "auroc").assign(dataset="ham", arch="net_18")
    found = pd.concat([table.iloc[1:], table.iloc[:1]])
    drawn = strategies(found.assign(depth=found["tap"].map(TAPS.index)))
    left, right = drawn.axes
    assert [label.get_text() for label in left.get_yticklabels()] == TAPS
    np.testing.assert_allclose(left.lines[0].get_xdata(), [0.75, 0.9, 0.76])
    np.testing.assert_array_equal(right.lines[1].get_ydata(), [1, 2, 0])
    leave_checked(results, found)
    assert figure("strategies", "--results", results).exit_code == 0
    svg = (results / "strategies.svg").read_text()
    assert sorted(TAPS, key=lambda tap: svg.index(f">{tap}<")) == TAPS  # by the depth of the rows


def test_the_frontier_is_chosen_on_validation() -> None:
    rows = frame(layerwise() + trained("ftl", (0.65, 0.85, 0.85)))
    rows.loc[(rows["split"] == "test") & (rows["tap"] == "layer1.0"), "value"] = 0.5
    points = tabulate(rows, "auroc")
    assert len(points) == 6
    front = on_front(points, "macs", "auroc")
    assert list(zip(front["tap"], front["arm"], strict=True)) == [("stem", "probe"), ("layer1.0", "ftl")]
    assert front["test"].tolist() == [0.7, 0.5]
    assert on_front(points, "macs", "log_loss")[["tap", "arm"]].to_numpy().tolist() == [["stem", "ftl"]]


def test_the_frontier_leaves_out_networks_whose_cost_no_row_states(caplog: pytest.LogCaptureFixture) -> None:
    rows = frame(layerwise() + trained("ftl", (0.65, 0.85, 0.85)) + trained("tf", (0.9, 0.9, 0.9)))
    with caplog.at_level("INFO", logger="probe"):
        assert set(tabulate(rows, "auroc")["arm"]) == {"probe", "ftl"}
    assert caplog.messages == ["frontier: tf left out, its halved networks' costs are in no row"]


def test_the_caption_in_latex_takes_any_name() -> None:
    latex = score_table(frame(layerwise(dataset="a&b #1 $x$ {y} 5% c_d"))).latex()
    assert r"\caption{Test AUROC (macro) on a\&b \#1 \$x\$ \{y\} 5\% c\_d, with 95\% intervals. In bold" in latex


def test_tables_are_bold_where_intervals_reach_the_best(results: Path) -> None:
    table = score_table(frame(layerwise(scores=(0.7, 0.8, 0.79)) + layerwise(weights="a_b", scores=(0.9, 0.8, 0.86))))
    assert table.bold["scratch, linear probe"].tolist() == [False, True, True]
    assert table.bold["a_b, linear probe"].tolist() == [True, False, True]
    assert "**0.800 [0.750, 0.850]**" in table.markdown()
    assert "| stem | 0.700 [0.650, 0.750] |" in table.markdown()
    latex = table.latex()
    for piece in (r"\toprule", r"\textbf{0.800 [0.750, 0.850]}", r"a\_b, linear probe", r"95\% intervals"):
        assert piece in latex
    assert r"\textbf{0.700" not in latex
    assert figure("table", "--results", results, "--metric", "auroc").exit_code == 0
    stored = pd.read_csv(results / "table.csv", index_col=0)
    assert stored.loc["layer1.0", "scratch, ftl, value"] == 0.85
    assert (results / "table.tex").read_text().count(r"\\") == 1 + len(TAPS)
    losses = frame([{**row, "metric": "log_loss"} for row in layerwise() if row["metric"] == "auroc"])
    low = score_table(losses, "log_loss")
    assert low.bold["scratch, linear probe"].tolist() == [True, False, False]


def test_weights_of_one_stem_are_told_apart(results: Path) -> None:
    one, other = "a/weights.safetensors", "b/weights.safetensors"
    rows = frame(layerwise(weights=one, scores=(0.9, 0.9, 0.9)) + layerwise(weights=other, scores=(0.5, 0.5, 0.5)))
    table = score_table(rows)
    assert table.value.iloc[0].to_dict() == {"a/weights, linear probe": 0.9, "b/weights, linear probe": 0.5}
    assert {"a/weights, linear probe", "b/weights, linear probe"} <= set(legend(frontier(rows)))
    cut = {"scratch": one}
    given = [{**cell, "weights": other} for cell in cells()]
    both = strategy_differences([*({**cell, "weights": cut[cell["weights"]]} for cell in cells()), *given], "auroc")
    drawn = strategies(both.assign(dataset="ham", arch="net_18"))
    assert {"lp, a/weights", "lp, b/weights"} <= set(legend(drawn))


def test_every_recipe_is_in_the_gallery_and_says_what_it_reads() -> None:
    gallery = (ROOT / "figures" / "gallery" / "README.md").read_text()
    page = (ROOT / "docs" / "figures.md").read_text()
    for name in MODULES:
        module = module_of(name)
        about = str(module.__doc__)
        assert "Command: `probe " in about, name
        assert " read: " in about or "\nInput: " in about, name
        assert "What one should see" in about, name
        file = f"figures/{Path(str(module.__file__)).name}"
        assert f"(`{file}`)" in gallery, file
        assert f"`{name}`" in page, name
    shown = set(re.findall(r"\]\(([\w]+\.png)\)", gallery))
    assert shown == {path.name for path in (ROOT / "figures" / "gallery").glob("*.png")}
    assert set(SIZED) < set(MODULES)
