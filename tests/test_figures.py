"""Figures: the words, the data and the printed size, never pixels."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from helpers import words

from figures.depth_curve import depth_curve
from figures.style import INCH, WIDTHS, paper, save
from probe.records.display_names import weights_name, weights_names
from probe.records.result_rows import frame, make_row

pytestmark = pytest.mark.usefixtures("print_quality")

TAPS = ["stem", "layer1.0", "layer2.0"]


def rows(arch: str = "resnet18", weights: str = "scratch", seeds: int = 1, top: float = 0.9) -> list[dict[str, object]]:
    known = {"study": "layerwise", "dataset": "ham", "arch": arch, "weights": weights}
    made = []
    for i, tap in enumerate(TAPS):
        at = known | {"tap": tap, "depth": (i + 1) / 3}
        made.append(make_row(**at, metric="params", value=10.0**i))
        for seed in range(seeds):
            value = top - 0.1 * (2 - i) + 0.02 * seed
            score = {"class": "macro", "value": value, "ci_low": value - 0.05, "ci_high": value + 0.05}
            made.append(make_row(**at, method="linear", metric="auroc", split="test", seed=seed, **score))
    return made


def test_the_curve_shows_scores_interval_chance_cut_and_costs() -> None:
    marks = [{"arch": "resnet18", "weights": "w/imagenet.safetensors", "tap": "layer1.0"}]
    figure = depth_curve(frame(rows() + rows(weights="w/imagenet.safetensors", top=0.95)), marks)
    top, below = figure.axes
    curves = {line.get_label(): line for line in top.lines}
    np.testing.assert_allclose(curves["scratch"].get_ydata(), [0.7, 0.8, 0.9])
    np.testing.assert_allclose(curves["imagenet (cut at layer1.0)"].get_xdata(), [1 / 3, 2 / 3, 1])
    assert list(curves["chance"].get_ydata()) == [0.5, 0.5]
    band = top.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(0.65)
    assert band[:, 1].max() == pytest.approx(0.95)
    np.testing.assert_allclose(below.lines[0].get_ydata(), [0.01, 0.1, 1])
    assert [label.get_text() for label in below.get_xticklabels()] == TAPS
    for text in ("test AUROC (macro)", "parameters", "ham, resnet18, linear probes"):
        assert text in words(figure)


def test_several_seeds_give_the_mean_and_the_envelope() -> None:
    figure = depth_curve(frame(rows(seeds=2)))
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), [0.71, 0.81, 0.91])
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (pytest.approx(0.65), pytest.approx(0.97))
    assert "2 seeds" in words(figure)


def test_several_architectures_share_an_axis_of_numbers() -> None:
    figure = depth_curve(frame(rows() + rows("vgg11")))
    assert "relative depth" in words(figure)
    assert "vgg11, scratch" in words(figure)
    assert len(figure.axes[1].lines) == 2


def test_a_skipped_arm_is_said() -> None:
    figure = depth_curve(frame(rows()), skipped=[{"arch": "resnet18", "weights": "pretrained"}])
    assert "resnet18, pretrained: skipped, weights not available" in words(figure)


@pytest.mark.parametrize("column", ["half", "full"])
def test_printed_size_fonts_and_bytes(tmp_path: Path, column: str) -> None:
    figures = [depth_curve(frame(rows()), column=column) for _ in range(2)]
    assert figures[0].get_size_inches()[0] * INCH == pytest.approx({"half": 88, "full": 180}[column])
    written = [save(figure, tmp_path / str(i)) for i, figure in enumerate(figures)]
    for first, second in zip(*written, strict=True):
        assert Path(first).read_bytes() == Path(second).read_bytes()
    assert b"/FontFile2" in Path(written[0][0]).read_bytes()  # TrueType, embedded
    assert "<text" in Path(written[0][1]).read_text()
    assert min(paper(column)[key] for key in paper(column) if key.endswith("size") and "fig" not in key) >= 3


def test_style_is_a_dict_and_changes_no_global_state() -> None:
    before = dict(mpl.rcParams)
    depth_curve(frame(rows()))
    assert dict(mpl.rcParams) == before
    assert set(WIDTHS) == {"half", "full"}


def test_files_are_called_by_their_stem() -> None:
    assert weights_name("/data/my.v2.safetensors") == "my.v2"
    assert weights_name("IMAGENET1K_V2") == "IMAGENET1K_V2"


def test_names_are_taken_literally() -> None:
    figure = depth_curve(frame(rows(arch="c$o_$t") + rows(arch="_best")))
    figure.canvas.draw()
    assert "best, scratch" in words(figure)


def test_files_of_one_stem_are_called_by_as_much_of_their_paths_as_tells_them_apart() -> None:
    files = ["a/x/w.pth", "b/x/w.pth", "y/w.pth", "y/w.pt", "other/v.pth", "v.2.pth", "scratch", "scratch.pth"]
    called = ["a/x/w", "b/x/w", "y/w.pth", "y/w.pt", "v", "v.2", "scratch", "scratch.pth"]
    assert weights_names(files) == dict(zip(files, called, strict=True))
    drawn = depth_curve(frame(rows(weights="a/w.pth") + rows(weights="b/w.pth")))
    assert [line.get_label() for line in drawn.axes[0].lines[:2]] == ["a/w", "b/w"]
