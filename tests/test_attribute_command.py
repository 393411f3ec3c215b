"""`probe attribute` end to end: probes as networks, masks as images, architectures, the panel, what is refused."""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image, ImageDraw
from torch import Tensor, nn

import probe
from analysis.attribution import METHODS, AtTap, attribute
from figures.attribution_panel import ACROSS, ROWS, panels
from figures.style import WIDTHS
from probe.backbones import Preprocessing, building
from probe.base.errors import ProbeError
from probe.commands import main
from probe.data import FileHashes, find_masks, make_dataset
from probe.data.image_sources import ImageArrays, ImageFiles
from probe.features.network_reader import moments, normalised
from probe.features.walk import transform
from probe.probes import find_method, fit_taps
from probe.records.record import Record
from probe.records.result_rows import read_rows
from probe.records.stored_tables import attribution_arrays
from probe.records.view import View
from probe.scoring.trials import whole_trial
from probe.settings import Attribution, Network, ProbeGrid
from probe.truncation import probed

SIZE = 32
KINDS = ("disc", "square", "cross")


def draw(kind: str, place: tuple[int, int], side: int) -> Image.Image:
    """A bright thing on dark noise, at a place of its own."""
    noise = np.random.default_rng(sum(place)).integers(0, 60, (SIZE, 48, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    pen, (x, y) = ImageDraw.Draw(image), place
    box = (x, y, x + side - 1, y + side - 1)
    if kind == "cross":
        pen.line(box, fill="white", width=3)
        pen.line((x + side - 1, y, x, y + side - 1), fill="white", width=3)
    else:
        (pen.ellipse if kind == "disc" else pen.rectangle)(box, fill="white")
    return image


@pytest.fixture(scope="session")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of three kinds, their boxes as a table and as masks, in pairs of a group."""
    folder, rng = tmp_path_factory.mktemp("things"), np.random.default_rng(0)
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    labels, boxes = [], []
    for i in range(48):
        kind, side = KINDS[i // 2 % 3], 12
        x, y = int(rng.integers(0, 48 - side)), int(rng.integers(0, SIZE - side))
        draw(kind, (x, y), side).save(folder / "images" / f"{i:02d}.png")
        mask = np.zeros((SIZE, 48), np.uint16)
        mask[y : y + side, x : x + side] = 1 + i  # an instance's number, as in 16-bit masks
        Image.fromarray(mask).save(folder / "masks" / f"{i:02d}.tif")
        labels.append((f"images/{i:02d}.png", kind, ("train", "train", "val", "test")[i // 12], f"g{i // 2}"))
        boxes.append((f"{i:02d}.png", x, y, x + side, y + side))
    pd.DataFrame(labels, columns=["file", "label", "split", "group"]).to_csv(folder / "labels.csv", index=False)
    pd.DataFrame(boxes, columns=["file", "x0", "y0", "x1", "y1"]).to_csv(folder / "boxes.csv", index=False)
    return folder


# probes as networks


def test_a_probe_as_a_network_gives_the_probes_probabilities(things: Path) -> None:
    data = probe.dataset(things / "labels.csv")
    net = probe.backbone("test_resnet", "scratch", image_size=SIZE)
    features = probe.extract(net, data, probe.Extraction(dtype="float32"))
    taps = net.taps[1:3]
    models = probed(net, features, taps)
    assert tuple(models) == taps
    grid, trial = ProbeGrid(), whole_trial(data, ProbeGrid())
    fitted = fit_taps(features, trial, find_method("linear")(grid, data.task))
    prepare = transform(net.origin.preprocessing)
    pictures = torch.stack([prepare(data.images.load(row)) for row in trial.test])
    x = normalised(pictures, *moments(net.origin.preprocessing, "cpu"))
    for tap, model in models.items():
        expected = fitted[tap].predict(features[tap], trial, "test")[0]
        with torch.no_grad():
            np.testing.assert_allclose(model.task.prediction(model(x)), expected, atol=1e-4)
    other = probe.backbone("test_resnet", "scratch", image_size=SIZE, seed=5)
    with pytest.raises(ProbeError, match="of the same network"):
        probed(other, features, taps)
    with pytest.raises(ProbeError, match="mean-pooled"):
        probed(net, probe.extract(net, data, probe.Extraction(pool="max", dtype="float32")), taps)
    assert list(features.only(taps)) == list(taps)


# masks


@pytest.mark.parametrize("crop", ["squash", "center"])
@pytest.mark.parametrize("form", ["boxes.csv", "masks"])
def test_masks_go_where_their_images_go(things: Path, form: str, crop: str) -> None:
    """A square fills its box, so that what is bright must be what the mask says, however it is resized and cropped."""
    data = probe.dataset(things / "labels.csv")
    masks = find_masks(things / form, data)
    assert masks.known.all()
    sizes = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "crop": crop}
    image = transform(Preprocessing(image_size=64, interpolation="bilinear", **sizes))
    mask = transform(Preprocessing(image_size=64, interpolation="nearest", **sizes))
    for row in np.flatnonzero(np.array(data.label_names()) == "square")[:4]:
        bright = image(data.images.load(row)).float().mean(0) > 128
        inside = mask(masks.load(row))[0] > 0
        assert inside.any()
        assert (bright != inside).float().mean() < 0.02


def write_boxes(folder: Path, *rows: str, head: str = "file,x0,y0,x1,y1") -> Path:
    (folder / "other.csv").write_text("\n".join([head, *rows]) + "\n")
    return folder / "other.csv"


def test_boxes_of_one_file_are_taken_together(things: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = probe.dataset(things / "labels.csv")
    head = "file,xmin,ymin,xmax,ymax,label"
    with caplog.at_level("INFO", "probe"):
        masks = find_masks(write_boxes(tmp_path, "images/03,0,0,2,3,a", "images/03,47,31,48,32,b", head=head), data)
    assert "47 of 48 images have no mask" in caplog.text
    assert np.flatnonzero(masks.known).tolist() == [3]
    expected = np.zeros((SIZE, 48), bool)
    expected[:3, :2] = expected[31, 47] = True
    np.testing.assert_array_equal(np.asarray(masks.load(3)) > 0, expected)


def named(*ids: str) -> probe.data.Dataset:
    """Grey images of 48 x 32 pixels with names."""
    pixels = np.zeros((len(ids), SIZE, 48), np.uint8)
    splits = [("train", "val", "test")[i % 3] for i in range(len(ids))]
    return make_dataset("named", ImageArrays([pixels]), ids, np.arange(len(ids)) % 2, ("a", "b"), splits=splits)


def test_a_dot_in_a_name_is_no_suffix(tmp_path: Path) -> None:
    """Names of DICOM files are UIDs, of which the last number is not what follows a suffix's dot."""
    data = named(*(f"1.2.840.{i}" for i in range(12)), "scan.v1.nii.gz", "scan.v2.DCM", "b.nii.gz#axis=2&slice=4")
    masks = find_masks(write_boxes(tmp_path, "1.2.840.0,0,0,2,3", "1.2.840.1,0,0,1,1"), data)
    assert np.flatnonzero(masks.known).tolist() == [0, 1]
    assert (np.asarray(masks.load(0)) > 0).sum() == 6
    (tmp_path / "masks").mkdir()
    for name in ("1.2.840.7", "scan.v1", "scan.v2", "b.nii.gz#axis=2&slice=4"):
        Image.new("L", (48, SIZE)).save(tmp_path / "masks" / f"{name}.png")
    assert np.flatnonzero(find_masks(tmp_path / "masks", data).known).tolist() == [7, 12, 13, 14]


def test_a_mask_is_one_images_and_an_image_has_one_mask(tmp_path: Path) -> None:
    data = named("mal/00.png", "ben/00.png", "01.png", "x/01.png")

    def masks_of(*names: str) -> Any:
        folder = tmp_path / "".join(names).replace("/", "_")
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (48, SIZE)).save(folder / name)
        return find_masks(folder, data)

    assert np.flatnonzero(masks_of("mal/00.png").known).tolist() == [0]
    assert np.flatnonzero(masks_of("01.png").known).tolist() == [2]  # the whole name of an image
    assert masks_of("mal/00.png", "ben/00.bmp", "01.png", "x/01.png").known.all()
    for names, message in (
        (("00.png",), r"'00.png' in .* fits both 'mal/00.png' and 'ben/00.png': name masks by the whole"),
        (("ben/00.png", "ben/00.bmp"), r"has two masks of 'ben/00.png', 'ben/00.bmp' and 'ben/00.png': leave one"),
    ):
        with pytest.raises(ProbeError, match=message):
            masks_of(*names)
    with pytest.raises(ProbeError, match=r"'00' in .* fits both 'mal/00.png' and"):
        find_masks(write_boxes(tmp_path, "00,0,0,2,3"), data)
    again = find_masks(write_boxes(tmp_path, "00,0,0,2,3"), named("a/00.png", "a/00.png", "b"))
    assert np.flatnonzero(again.known).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("mode", "colours", "seen"),
    [(mode, (255, 0), (255, 255)) for mode in ("1", "L", "I;16", "LA", "RGB", "RGBA", "P")]
    + [(mode, colours, (255, 0)) for mode in ("LA", "RGBA") for colours in ((255, 0), (0, 0), (255, 255))],
)  # inside and outside
def test_what_is_neither_black_nor_transparent_is_inside(
    tmp_path: Path, mode: str, colours: tuple[int, int], seen: tuple[int, int]
) -> None:
    inside = np.zeros((SIZE, 48), bool)
    inside[3:9, 5:11] = True
    colour, alpha = (Image.fromarray(np.where(inside, *each).astype(np.uint8)) for each in (colours, seen))
    image = colour.convert("RGB" if "RGB" in mode else "L").convert(mode)
    if mode.endswith("A"):
        image.putalpha(alpha)
    (tmp_path / "masks").mkdir()
    image.save(tmp_path / "masks" / "a.png")
    np.testing.assert_array_equal(np.asarray(find_masks(tmp_path / "masks", named("a", "b", "c")).load(0)) > 0, inside)


def test_masks_that_do_not_fit_are_told(things: Path, tmp_path: Path) -> None:
    data = probe.dataset(things / "labels.csv")
    (tmp_path / "masks").mkdir()
    Image.new("L", (5, 5), 255).save(tmp_path / "masks" / "00.png")
    (tmp_path / "masks" / "01.png").write_bytes(b"no image")
    broken = find_masks(tmp_path / "masks", data)
    (tmp_path / "text.csv").write_text("file,x0,y0,x1,y1\n00,a,1,2,3\n")
    (tmp_path / "empty.csv").write_text("file,x0,y0,x1,y1\n00,0,1,2,3\n\n01,0,1,,3\n")
    cases = {
        "no masks at": lambda: find_masks(tmp_path / "none", data),
        "has no mask of an image such as 'images/00.png'": lambda: find_masks(
            write_boxes(tmp_path, "99,0,0,1,1"), data
        ),
        "has the columns file, x, y: give": lambda: find_masks(write_boxes(tmp_path, "00,1,2", head="file,x,y"), data),
        "a corner in .* is not a number: in line 2 x0 is 'a'": lambda: find_masks(tmp_path / "text.csv", data),
        "a corner in .* is not a number: in line 4 x1 is empty": lambda: find_masks(tmp_path / "empty.csv", data),
        "in line 2 y1 is 'inf'": lambda: find_masks(write_boxes(tmp_path, "00,0,0,1,inf"), data),
        "0,0,1000.*,4, is not in its": lambda: find_masks(write_boxes(tmp_path, "00,0,0,1e30,4"), data).load(0),
        "mask of 'images/00.png' is 5 x 5 pixels, the image 48 x 32": lambda: broken.load(0),
        "cannot read mask": lambda: broken.load(1),
        "is not in its 48 x 32 pixels": lambda: find_masks(write_boxes(tmp_path, "00,0,0,49,9"), data).load(0),
        "0,9,4,9, is not in": lambda: find_masks(write_boxes(tmp_path, "00,0,9,4,9"), data).load(0),
    }
    for message, work in cases.items():
        with pytest.raises(ProbeError, match=message):
            work()


# architectures

ARCHS = {
    "resnet50": ("layer1.0", "layer2.1", "layer4.2"),
    "densenet121": (0, 4, -1),
    "torchvision:vgg19": (0, 7, -1),
    "mobilenetv2_100": (0, 8, -1),
    "torchvision:convnext_tiny": (0, 9, -1),
    "vit_tiny_patch16_224": (0, 5, -1),
    "swin_tiny_patch4_window7_224": (1, 5, -1),
}


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHS)
def test_every_layout_of_real_networks(arch: str) -> None:
    net = probe.backbone(arch, "scratch", image_size=64)
    images = torch.randn(2, 3, 64, 64)

    class Breaks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.requires_grad:
                raise RuntimeError("broken")
            return x

    for tap in ARCHS[arch]:
        model = probe.truncate(net, tap, 3)
        maps = model.trunk.tap(-1).maps
        at = AtTap(model.trunk, model.head, maps)
        targets = torch.tensor([0, 2])
        found = attribute(at, images, targets, "gradcam")
        assert found.shape == (2, 64, 64)
        assert found.isfinite().all()
        with pytest.raises(RuntimeError, match="broken"):
            attribute(AtTap(model.trunk, nn.Sequential(Breaks(), model.head), maps), images, targets)
        assert not any(len(each._forward_hooks) + len(each._backward_hooks) for each in model.modules())


# the command


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["attribute", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def read(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of the latest run in a folder."""
    return attribution_arrays(View(Record(folder)).finished("attribute")[-1][1])


SMALL = ("--arch", "test_resnet", "--image-size", SIZE, "--weights", "scratch", "--at", "layer2.0", "--draws", 100)
CHEAP = ("--images", 3, "--checked", 2, "--steps", 4, "--samples", 2)


@pytest.mark.usefixtures("print_quality")
@pytest.mark.parametrize("method", ["gradcam", "integrated-gradients", "gradient-shap"])
def test_the_command_writes_maps_numbers_and_a_panel(things: Path, tmp_path: Path, method: str) -> None:
    answer = json.loads(
        run(*SMALL, *CHEAP, "--data", things / "labels.csv", "--masks", things / "masks", "--method", method,
            "--out", tmp_path, "--json").stdout
    )  # fmt: skip
    assert [Path(file).name for file in answer["files"]][:2] == [f"attribution_{method}.csv", "results.jsonl"]
    assert all(Path(file).stat().st_size for file in answer["files"])
    assert len(answer["files"]) == 5
    saved = read(tmp_path)
    assert saved["maps_0"].shape == (3, SIZE, SIZE)
    assert saved["pictures"].shape == (3, SIZE, SIZE, 3)
    bright = saved["pictures"].mean(3) > 128
    assert (bright & ~saved["masks"]).sum() < 0.1 * bright.sum()  # each mask is that of its image
    assert (saved["targets"][0] == saved["labels"]).all()
    assert str(saved["method"]) == METHODS[method].title
    table = pd.read_csv(tmp_path / f"attribution_{method}.csv", keep_default_na=False)
    assert set(table["id"]) == set(saved["ids"])
    rows = read_rows(tmp_path / "results.jsonl")
    assert set(rows["method"]) == {method}
    whole = rows[(rows["class"] == "micro") & rows["strategy"].isna()].set_index("metric")
    wanted = {"probability", "energy_in_mask", "mask_area", "pointing_game", "deletion_area", "insertion_area_random"}
    assert wanted <= set(whole.index)
    assert ("completeness_gap" in whole.index) == (method == "integrated-gradients")
    mine = table[(table["metric"] == "energy_in_mask")]["value"].astype(float)
    assert whole["value"]["energy_in_mask"] == pytest.approx(mine.mean())
    drawn = rows[rows["metric"] == "rank_correlation"]["strategy"].dropna()
    parts = ("head", "layer2.0", "layer1.0", "stem")
    assert list(dict.fromkeys(drawn)) == [f"randomised down to {part}" for part in parts]
    assert set(rows["arm"]) == {"scratch"}
    assert all("images=3, checked=2" in setting for setting in rows["setting"])
    assert {"disc", "square", "cross"} <= set(rows["class"])


def test_arms_stand_side_by_side_on_the_same_images(things: Path, tmp_path: Path) -> None:
    data = ("--data", things / "labels.csv", "--masks", things / "boxes.csv")
    model, again = tmp_path / "cut.safetensors", tmp_path / "cut minus again.safetensors"
    net = probe.truncate(probe.backbone("test_resnet", "scratch", image_size=SIZE), 2, sorted(KINDS)[::-1])
    for file in (model, again):
        probe.save(net, file)
    shown = run(
        *SMALL, "--at", "layer1.0", *data, "--model", model, "--model", again, "--images", 0, "--checked", 0,
        "--out", tmp_path / "out",
    ).stdout  # fmt: skip
    assert "scratch minus cut" in shown
    assert "energy in mask" in shown
    assert "re-initialised" not in shown
    saved = read(tmp_path / "out")
    assert saved["arms"].tolist() == ["scratch", "scratch", "cut", "cut minus again"]
    assert saved["taps"].tolist() == ["layer2.0", "layer1.0", "layer2.0", "layer2.0"]
    assert len(saved["ids"]) == 12
    np.testing.assert_array_equal(saved["maps_2"], saved["maps_3"])
    assert all((targets == saved["labels"]).all() for targets in saved["targets"])
    rows = read_rows(tmp_path / "out" / "results.jsonl")
    apart = rows[(rows["arm"] == "scratch minus cut") & (rows["class"] == "micro")]
    assert set(apart["metric"]) == {"energy_in_mask", "pointing_game"}
    assert apart["weights"].isna().all()
    means = rows[rows["class"].eq("micro") & rows["tap"].eq("layer2.0")].set_index(["arm", "metric"])["value"]
    for metric in ("energy_in_mask", "pointing_game"):
        difference = means["scratch", metric] - means["cut", metric]
        assert means["scratch minus cut", metric] == pytest.approx(difference)
    assert "scratch minus cut minus again" in set(rows["arm"])
    assert set(rows[rows["arm"].eq("cut minus again")]["weights"]) == {str(again)}
    third = tmp_path / "again.safetensors"
    probe.save(net, third)
    models = [word for file in (model, again, third) for word in ("--model", file)]
    clash = run(*models, *data[:2], "--out", tmp_path / "out", code=1).stderr.splitlines()[-1]
    assert "a difference of two, are called 'cut minus again'; rename" in clash
    alone = run("--model", model, *data[:2], "--target", "predicted", "--images", 1, "--out", tmp_path / "one")
    assert "rank correlation" in alone.stdout
    assert "one image: its numbers have no interval" in alone.stderr


def test_targets_are_labels_predictions_or_a_class(things: Path, tmp_path: Path) -> None:
    found = {}
    for target in ("label", "predicted", "square"):
        run(*SMALL, "--data", things / "labels.csv", "--target", target, "--checked", 0, "--out", tmp_path / target)
        saved = read(tmp_path / target)
        found[target] = saved["targets"][0].tolist()
        if target == "label":
            assert found[target] == saved["labels"].tolist()
        if target == "predicted":
            table = pd.read_csv(tmp_path / target / "attribution_gradcam.csv")
            assert table[table["metric"] == "probability"]["value"].min() >= 1 / 3
    assert set(found["square"]) == {"square"}
    assert found["predicted"] != found["label"]


def test_an_image_is_read_once_for_all_networks(things: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for its mask, which takes its size, and for another size of input."""
    loaded: list[str] = []
    load = ImageFiles.load
    monkeypatch.setattr(ImageFiles, "load", lambda self, i: (loaded.append(str(self.files[i])), load(self, i))[1])
    models: list[object] = []
    for name, size in (("a", SIZE), ("b", SIZE), ("c", 2 * SIZE)):
        net = probe.backbone("test_resnet", "scratch", image_size=size)
        probe.save(probe.truncate(net, 2, sorted(KINDS)), tmp_path / f"{name}.safetensors")
        models += ["--model", tmp_path / f"{name}.safetensors"]
    data = ("--data", things / "labels.csv", "--out", tmp_path, "--images", 4, "--checked", 0, "--samples", 2)
    run(*models[:4], *data, "--method", "gradient-shap")
    assert len(loaded) == len(set(loaded)) == 4 + 24  # and the training images
    loaded.clear()
    run(*models[:4], *data, "--masks", things / "masks")
    assert len(loaded) == 2 * 4
    loaded.clear()
    run(*models, *data)
    assert len(loaded) == 2 * 4


def test_a_target_is_looked_up_before_features_are_made(
    things: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probe.studies.attributed_networks.extract", None)
    model = tmp_path / "cut.safetensors"
    probe.save(probe.truncate(probe.backbone("test_resnet", "scratch", image_size=SIZE), 2, ["disc", "ring"]), model)
    data = ("--data", things / "labels.csv", "--out", tmp_path)
    assert "unknown target 'ring'" in run(*SMALL, *data, "--target", "ring", code=1).stderr
    assert "knows no class 'cross'" in run(*SMALL, "--model", model, *data, code=1).stderr


def test_what_cannot_be_done_is_told_in_one_line(things: Path, tmp_path: Path) -> None:
    data = ("--data", things / "labels.csv", "--out", tmp_path)
    model = tmp_path / "cut.safetensors"
    net = probe.backbone("test_resnet", "scratch", image_size=SIZE)
    probe.save(probe.truncate(net, 2, ["disc", "ring"]), model)
    (tmp_path / "tags.csv").write_text(
        "file,labels,split\n"
        + "".join(f"{things}/images/{i:02d}.png,{'a|b' if i % 2 else 'a' * (i % 4 > 0)},{s}\n"
                  for i, s in enumerate(["train"] * 8 + ["val"] * 8 + ["test"] * 8))
    )  # fmt: skip
    for arguments, message in (
        ([*SMALL, *data, "--target", "ring"], "unknown target 'ring'"),
        ([*SMALL, *data, "--at", "layer9"], "unknown tap 'layer9'"),
        ([*SMALL, *data, "--masks", tmp_path / "none"], "no masks at"),
        ([*SMALL, *data, "--method", "occlusion", "--patch", 40], "patch of 40 pixels is larger"),
        ([*SMALL, "--data", tmp_path / "tags.csv", "--out", tmp_path], "no one target: take predicted"),
        (["--model", model, *data], "the network knows no class 'cross'"),
        (["--model", model, "--model", model, *data], "two networks are called 'cut'"),
        (["--arch", "test_resnet", "--image-size", SIZE // 4, "--weights", "scratch", *data], "is a single position"),
    ):
        result = run(*arguments, code=1)
        assert message in result.stderr.splitlines()[-1]
        assert "Traceback" not in result.output
    assert "give one or both" in run(*data, code=2).stderr
    assert "a saved network has its own" in run("--model", model, "--at", "stem", *data, code=2).stderr
    for wrong, message in (
        ({"images": -1}, "images is -1"),
        ({"steps": 1}, "steps is 1; it must be at least 2"),
        ({"patch": 0}, "patch is 0"),
        ({"method": "lime"}, "method is 'lime'"),
        ({"draws": 5}, "5 bootstrap draws"),
    ):
        with pytest.raises(ProbeError, match=message):
            Attribution(**wrong)


def test_a_network_is_built_once_and_what_is_known_is_not_attributed_again(
    things: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []
    make = building._create
    monkeypatch.setattr(building, "_create", lambda source, *how: (built.append(source.name), make(source, *how))[1])
    asked = (
        *SMALL, *CHEAP, "--checked", 0, "--data", things / "labels.csv", "--masks", things / "boxes.csv",
        "--out", tmp_path / "out",
    )  # fmt: skip
    first = json.loads(run(*asked, "--json").stdout)
    assert built == ["test_resnet"]
    again = json.loads(run(*asked, "--json").stdout)
    assert built == ["test_resnet"]
    assert again == first
    run(*asked, "--method", "saliency")
    drawn = ["figure", "attribution", "--results", tmp_path / "out", "--out", tmp_path / "again"]
    assert CliRunner().invoke(main, list(map(str, drawn))).exit_code == 0
    files = list((tmp_path / "again").iterdir())
    assert {path.stem for path in files} == {"attribution_gradcam", "attribution_saliency"}
    for path in files:
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()


def test_other_masks_are_other_numbers(things: Path, tmp_path: Path) -> None:
    data = probe.dataset(things / "labels.csv")
    box = find_masks(write_boxes(tmp_path, *(f"{i:02d},0,0,{SIZE},9" for i in range(48))), data)
    same = find_masks(write_boxes(tmp_path, *(f"{i:02d},0,0,{SIZE},9" for i in range(48))), data)
    other = find_masks(write_boxes(tmp_path, *(f"{i:02d},0,0,{SIZE},8" for i in range(48))), data)
    files = FileHashes()
    assert box.fingerprint(files) == same.fingerprint(files) != other.fingerprint(files)
    folder = find_masks(things / "masks", data)
    assert folder.fingerprint(files) == find_masks(things / "masks", data).fingerprint(files)


def test_from_python_networks_that_are_there_are_asked_and_left_alone(things: Path) -> None:
    data = probe.dataset(things / "labels.csv")
    net = probe.backbone("test_resnet", "scratch", image_size=SIZE)
    cut = probe.truncate(net, 2, data.classes)
    before = {name: tensor.clone() for name, tensor in cut.weights().items()}
    how = {"data": data, "masks": things / "boxes.csv", "attribution": Attribution(images=3, checked=2, draws=100)}
    found = probe.attribute(net, taps=["layer2.0"], models={"cut": cut, "again": cut}, **how)
    assert found.record.folder is None
    assert found.arrays["arms"].tolist() == ["scratch", "cut", "again"]
    np.testing.assert_array_equal(found.arrays["maps_1"], found.arrays["maps_2"])
    assert not np.array_equal(found.arrays["maps_0"], found.arrays["maps_1"])
    assert set(found.rows["arm"]) == {"scratch", "cut", "again", "scratch minus cut", "scratch minus again"}
    assert all(parameter.requires_grad for parameter in cut.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in cut.weights().items())
    named = probe.attribute(
        "test_resnet", weights=["scratch"], taps=["layer2.0"], network=Network(image_size=SIZE), **how
    )
    np.testing.assert_array_equal(named.arrays["maps_0"], found.arrays["maps_0"])
    with pytest.raises(ProbeError, match="no network was given"):
        probe.attribute(data=data)


# the panel


def saved_maps(columns: int, count: int = 8, signed: bool = False) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    masks = np.zeros((count, 9, 9), bool)
    masks[:, 2:5, 2:5] = True
    masks[1] = False
    return {
        "arms": np.array([f"net{i // 3}" for i in range(columns)]),
        "taps": np.array([f"$layer{i}" for i in range(columns)]),
        "targets": np.array([["a"] * count] * columns), "labels": np.array(["a", "b"] * (count // 2)),
        "pictures": rng.integers(0, 255, (count, 9, 9, 3), dtype=np.uint8), "masks": masks, "data": np.array("cells"),
        "method": np.array("Grad-CAM"), "unit": np.array("logits"), "signed": np.array(signed),
        **{f"maps_{i}": rng.uniform(-1 if signed else 0, 1, (count, 9, 9)) for i in range(columns)},
    }  # fmt: skip


@pytest.mark.parametrize("signed", [False, True])
def test_the_panel_shows_the_maps_on_one_stated_scale(signed: bool) -> None:
    saved = saved_maps(5, signed=signed)
    (figure,) = panels(saved)
    assert figure.get_size_inches()[0] <= WIDTHS["full"] + 1e-9
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == ROWS * 6
    for row in range(ROWS):
        np.testing.assert_array_equal(shown[row * 6].images[0].get_array(), saved["pictures"][row])
        for column in range(5):
            values, axes = saved[f"maps_{column}"][row], shown[row * 6 + 1 + column]
            np.testing.assert_allclose(axes.images[0].get_array(), values / np.abs(values).max())
            assert axes.images[0].get_clim() == ((-1, 1) if signed else (0, 1))
            assert axes.get_xlabel() == ("a: " if row % 2 else "") + f"{np.abs(values).max():.2g}"
    assert [bool(axes.collections) for axes in shown[:12:6]] == [True, False]  # no mask, no outline
    words = " ".join(text.get_text() for text in figure.findobj(mpl.text.Text))
    for text in ("Grad-CAM, share of the map's largest", "in logits)", "net0", "net1", r"\$layer4", "cells"):
        assert text in words
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * figure.dpi
    boxes = [text.get_window_extent() for text in figure.findobj(mpl.text.Text) if text.get_text().strip()]
    assert min(box.x0 for box in boxes) >= 0
    assert max(box.x1 for box in boxes) <= width
    assert max(box.y1 for box in boxes) <= height


def test_more_maps_than_fit_go_on_a_page_each_network() -> None:
    assert len(panels(saved_maps(ACROSS))) == 1
    assert len(panels(saved_maps(ACROSS + 1))) == 3
    assert len(panels(saved_maps(1, count=2))[0].axes) == 2 * 2 + 1
