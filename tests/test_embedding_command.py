"""Maps as figures and as files, and the command that makes them."""

import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from helpers import words
from matplotlib.collections import PathCollection

import probe
from figures.embedding_grid import embedding_grid
from figures.embedding_panel import HUES, MOST, spread_images
from figures.style import INCH, WIDTHS
from probe.base.errors import ProbeError
from probe.commands import main
from probe.settings import Embedding

pytestmark = pytest.mark.usefixtures("print_quality")

Tables = tuple[pd.DataFrame, pd.DataFrame]


def tables(taps: int = 2, classes: int = 3, rows: int = 60, several: bool = False) -> Tables:
    rng = np.random.default_rng(0)
    labels = np.array([f"class {i % classes:02}" for i in range(rows)])
    points, maps = [], []
    for arm in ("net, imagenet", "net, scratch"):
        for tap in range(taps):
            at = {"arm": arm, "tap": f"layer{tap}"}
            x, y = rng.normal(size=(2, rows)).astype(np.float32)
            points.append(
                pd.DataFrame({**at, "image": [f"{i}.png" for i in range(rows)], "label": labels, "x": x, "y": y})
            )
            quality = {"silhouette": np.nan if several else 0.05, "silhouette_map": np.nan if several else -0.1}
            maps.append({**at, "trustworthiness": 0.873, **quality})
    known = {"dataset": "my_images", "images": rows, "of": 1234, "seed": 0, "method": "umap", "neighbours": 15}
    return pd.concat(points, ignore_index=True), pd.DataFrame(maps).assign(**known)


def test_panels_show_the_points_and_say_what_they_are() -> None:
    points, maps = tables()
    figure = embedding_grid(points, maps)
    assert len(figure.axes) == 4
    for axes, (_, panel) in zip(figure.axes, points.groupby(["arm", "tap"], sort=False), strict=True):
        drawn = np.concatenate([each.get_offsets() for each in axes.findobj(PathCollection)])
        np.testing.assert_allclose(np.sort(drawn, 0), np.sort(panel[["x", "y"]], 0))
        low, high = zip(axes.get_xlim(), axes.get_ylim(), strict=True)
        assert high[0] - low[0] == pytest.approx(high[1] - low[1])  # one scale for both
        assert (drawn > low).all()
        assert (drawn < high).all()
        box = axes.get_window_extent()
        assert box.width == pytest.approx(box.height)
    said = words(figure)
    for text in (
        "my_images, net, UMAP of 60 of 1,234 images",
        "imagenet",
        "scratch",
        "layer1",
        "class 02",
        "T .87",
        "S .05 / \N{MINUS SIGN}.10",
        "T trustworthiness (15 neighbours)",
    ):
        assert text in said
    several = words(embedding_grid(*tables(several=True)))
    assert "S " not in several
    assert "no silhouette, for images have several labels" in several


@pytest.mark.parametrize("taps", [1, 3, 4, 6, 17])
def test_printed_size_and_nothing_is_cut_off_or_touches(taps: int) -> None:
    figure = embedding_grid(*tables(taps, classes=12))
    figure.canvas.draw()
    width, height = figure.get_size_inches()
    assert width == pytest.approx(WIDTHS["half" if taps <= 3 else "full"])
    assert height <= 240 / INCH
    assert len(figure.axes) == 2 * taps
    boxes = [axes.get_tightbbox() for axes in figure.axes] + [each.get_window_extent() for each in figure.texts]
    boxes += [figure.legends[0].get_window_extent()]
    assert min(min(box.x0, box.y0) for box in boxes) >= 0
    assert max(box.x1 for box in boxes) <= width * figure.dpi
    assert max(box.y1 for box in boxes) <= height * figure.dpi
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
    assert min(text.get_fontsize() for text in figure.findobj(mpl.text.Text) if text.get_text()) >= 6


def test_no_two_classes_look_alike_and_of_many_the_rare_ones_are_one() -> None:
    figure = embedding_grid(*tables(classes=MOST))
    looks = [(mark.get_color(), mark.get_marker()) for mark in figure.legends[0].legend_handles]
    assert len(set(looks)) == MOST
    figure = embedding_grid(*tables(classes=MOST + 6))
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(names) == MOST
    assert names[-1] == "7 others"


def test_images_stand_where_their_points_are_and_hide_none() -> None:
    points, maps = tables(4)
    shown = spread_images(points)
    assert 4 * 2 * 10 < len(shown) < len(points)
    pictures = {name: np.full((20, 30, 3), 99, np.uint8) for name in shown["image"]}
    figure = embedding_grid(points, maps, pictures)
    assert figure.get_size_inches()[0] == pytest.approx(WIDTHS["full"])
    for axes, (_, panel) in zip(figure.axes, shown.groupby(["arm", "tap"], sort=False), strict=True):
        extents = np.array([image.get_extent() for image in axes.images])
        middles = np.stack([extents[:, :2].mean(1), extents[:, 2:].mean(1)], 1)
        np.testing.assert_allclose(middles, panel[["x", "y"]], atol=1e-5)
        width, height = extents[:, 1] - extents[:, 0], extents[:, 3] - extents[:, 2]
        np.testing.assert_allclose(width / height, 1.5)
        apart = abs(middles[:, None] - middles).max(2) + 99 * np.eye(len(middles))
        assert apart.min() >= width.max()
        low, high = zip(axes.get_xlim(), axes.get_ylim(), strict=True)
        assert (extents[:, ::2] >= low).all()
        assert (extents[:, 1::2] <= high).all()
        assert axes.patches[0].get_edgecolor()[:3] in {mpl.colors.to_rgb(color) for color in HUES}


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["embed", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def read(stem: Path) -> Tables:
    """Points and maps as the command wrote them."""
    words = dict.fromkeys(("image", "label"), str)
    single = dict.fromkeys(("x", "y"), np.float32)
    return pd.read_csv(f"{stem}.csv", dtype=words | single), pd.read_csv(f"{stem}_maps.csv")


def given(folder: Path, name: str, rows: int = 60, several: bool = False, dead: bool = False) -> Path:
    rng = np.random.default_rng(len(name))
    taps = {f"layer{tap}": rng.normal(size=(rows, 6)).astype(np.float32) for tap in range(9)}
    labels = np.stack([np.arange(rows) % 2, np.arange(rows) % 3 - 1], 1) if several else np.arange(rows) % 2
    np.savez(folder / f"{name}.npz", **taps | ({"layer3": np.ones((rows, 6))} if dead else {}), labels=labels)
    return folder / f"{name}.npz"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for split, count in (("train", 40), ("val", 10), ("test", 10)):
        arrays[f"{split}_images"] = rng.integers(256, size=(count, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(count)[:, None] % 2
    np.savez(tmp_path / "scans.npz", **arrays)
    return tmp_path / "scans.npz"


def test_the_command_draws_the_images_of_a_network(images: Path, tmp_path: Path) -> None:
    net = ("--arch", "resnet10t", "--image-size", 32, "--level", "stage", "--weights", "scratch")
    asked = (*net, "--data", images, "--method", "pca", "--sample", 50, "--out", tmp_path / "out")
    answer = json.loads(run(*asked, "--thumbnails", "--json").stdout)
    names = [
        "embedding_pca.csv",
        "embedding_pca_maps.csv",
        *(f"embedding_pca{what}.{kind}" for what in ("", "_images") for kind in ("pdf", "svg", "png")),
    ]
    assert [Path(file).name for file in answer["files"]] == names
    assert all(Path(file).stat().st_size for file in answer["files"])
    points, maps = read(tmp_path / "out" / "embedding_pca")
    pd.testing.assert_frame_equal(pd.DataFrame(answer["rows"]), maps)
    assert set(maps["images"]) == {50}
    assert set(maps["of"]) == {60}
    assert points.groupby("tap")["image"].agg(tuple).nunique() == 1
    listed = run(*asked, "--tap", "-1").stdout
    assert "trustworthiness" in listed
    assert len(read(tmp_path / "out" / "embedding_pca")[1]) == 1


def test_figures_drawn_again_are_those_of_the_run(images: Path, tmp_path: Path) -> None:
    """Of each method the latest run, with small pictures where it has some."""
    net = ("--arch", "resnet10t", "--image-size", 32, "--level", "stage", "--weights", "scratch", "--tap", -1)
    asked = (*net, "--data", images, "--out", tmp_path / "out", "--json")
    run(*asked, "--method", "pca", "--tap", "stem")
    run(*asked, "--method", "tsne")
    answer = json.loads(run(*asked, "--method", "pca", "--thumbnails").stdout)
    assert len(answer["rows"]) == 1
    assert {Path(file).stem for file in answer["files"] if ".csv" not in file} == {
        "embedding_pca",
        "embedding_pca_images",
    }
    drawn = ["figure", "embedding", "--results", tmp_path / "out", "--out", tmp_path / "again"]
    assert CliRunner().invoke(main, list(map(str, drawn))).exit_code == 0
    again = list((tmp_path / "again").iterdir())
    assert {path.stem for path in again} == {"embedding_pca", "embedding_pca_images", "embedding_tsne"}
    for path in again:
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()


def test_from_python_and_not_a_second_time(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    net = probe.backbone("resnet10t", "scratch", level="stage", image_size=32)
    data = probe.dataset(images)
    how = {"data": data, "taps": [0, -1], "embedding": Embedding(method="pca", sample=50)}
    found = probe.embed(net, **how)
    assert found.record.folder is None
    assert list(found.maps["tap"]) == [net.taps[0], net.taps[-1]]
    assert set(found.maps["arm"]) == {"resnet10t, scratch"}
    (entry,) = found.entries
    assert entry.asked["Embedding"]["sample"] == 50
    first = probe.embed([net], **how, thumbnails=True, out=tmp_path / "out")
    monkeypatch.setattr("probe.studies.embedding.embed_arms", None)
    monkeypatch.setattr("probe.studies.embedding.subsample", None)
    again = probe.embed(net, **how, thumbnails=True, out=tmp_path / "out")
    for table, other, third in zip(again.tables, first.tables, found.tables, strict=True):
        pd.testing.assert_frame_equal(table, other)
        pd.testing.assert_frame_equal(table, third)
    monkeypatch.undo()
    features = probe.extract(net, data)
    of_features = probe.embed(features, **{**how, "data": "unread"})
    pd.testing.assert_frame_equal(of_features.points, found.points)
    with pytest.raises(ProbeError, match="features come without"):
        probe.embed(probe.make_features({"a": np.eye(60)}, np.arange(60) % 2), thumbnails=True)


def test_the_command_draws_given_features(tmp_path: Path) -> None:
    both = ("--features", given(tmp_path, "before"), "--features", given(tmp_path, "after"), "--method", "pca")
    run(*both, "--out", tmp_path / "a")
    _, maps = read(tmp_path / "a" / "embedding_pca")
    assert list(maps["arm"]) == ["before, given"] * 6 + ["after, given"] * 6
    assert list(maps["tap"][:6]) == ["layer0", "layer2", "layer3", "layer5", "layer6", "layer8"]
    run(*both, "--tap", "layer8", "--tap", "layer1", "--out", tmp_path / "b")
    assert list(read(tmp_path / "b" / "embedding_pca")[1]["tap"]) == ["layer1", "layer8"] * 2
    several = ("--features", given(tmp_path, "several", several=True), "--method", "pca", "--tap", 0)
    assert "-" in run(*several, "--out", tmp_path / "c").stdout.splitlines()[1]
    points, maps = read(tmp_path / "c" / "embedding_pca")
    assert set(points["label"]) == {"any finding", "no finding", "unknown"}
    assert maps["silhouette"].isna().all()
    run(*several, "--label", "1", "--out", tmp_path / "c")
    assert set(read(tmp_path / "c" / "embedding_pca")[0]["label"]) == {"1", "not 1", "unknown"}


def test_what_cannot_be_drawn_is_said_in_a_line(tmp_path: Path) -> None:
    first, dead = given(tmp_path, "first"), given(tmp_path, "dead", dead=True)
    other = ("--features", given(tmp_path, "other", several=True))
    few, less = given(tmp_path, "few", rows=20), given(tmp_path, "less", rows=12)
    for arguments, message in (
        (("--features", first, "--features", few), "not of the same images"),
        (("--features", first, *other), "'first, given' and 'other, given' do not have the same labels"),
        (("--features", first, "--features", first), "both called 'first, given'"),
        (("--features", dead), "'dead, given, layer3' is the same for every image"),
        (("--features", less), "takes at least 31 images, not 12"),
        (("--features", first, "--sample", 20), "takes at least 31 images, not 20"),
        (("--features", first, "--tap", "layer9"), "unknown tap 'layer9'; did you mean"),
        (("--features", first, "--label", "0"), "'0' is for data with several"),
        (("--features", first, "--method", "tsne", "--perplexity", 60), "too few for a perplexity of 60"),
        (("--features", tmp_path / "nothing.npz"), "no features at"),
        (("--features", first, "--neighbours", 1), "neighbours is 1; it must be at least 2"),
    ):
        result = run(*arguments, "--out", tmp_path / "x", code=1)
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert "give one or both" in run(code=2).stderr
    assert "come without: give '--arch' too" in run("--features", first, "--thumbnails", code=2).stderr
    assert not (tmp_path / "x").exists()


def test_settings_that_do_not_fit() -> None:
    for wrong, message in (
        ({"method": "isomap"}, "method is 'isomap'; choose from umap, pca, tsne"),
        ({"sample": 1}, "sample is 1"),
        ({"components": 1}, "components is 1"),
        ({"min_dist": 1.5}, "min_dist is 1.5"),
        ({"perplexity": 0.5}, "perplexity is 0.5"),
    ):
        with pytest.raises(ProbeError, match=message):
            Embedding(**wrong)
