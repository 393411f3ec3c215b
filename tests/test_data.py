"""Data: every form read as it stands, splits that tear nothing apart, and one message for whatever cannot be read."""

import gc
import hashlib
import io
import os
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, features
from sklearn.datasets import load_digits

from probe.base.errors import ProbeError
from probe.data import SPLITS, Dataset, FileHashes, dataset, make_dataset
from probe.data.image_sources import ImageArrays, ImageFiles

EXAMPLES = settings(max_examples=30, deadline=None, derandomize=True, database=None)


def save(file: Path, value: int = 0) -> Path:
    """An image whose pixels all hold one number, so that it is known again."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(file)
    return file


def value(data: Dataset, row: int) -> int:
    return int(np.asarray(data.images.load(row))[0, 0, 0])


def manifest(folder: Path, head: str, rows: Sequence[str], name: str = "m.csv") -> Path:
    """A CSV whose row i starts with the image `i.png`, which is there and holds the value i."""
    for i in range(len(rows)):
        save(folder / f"{i}.png", i)
    (folder / name).write_text("\n".join([f"file,{head}", *(f"{i}.png,{row}" for i, row in enumerate(rows))]) + "\n")
    return folder / name


def npz(folder: Path, **arrays: NDArray[np.generic]) -> Path:
    np.savez(folder / "a.npz", **arrays)
    return folder / "a.npz"


def grey(n: int, start: int = 0) -> NDArray[np.uint8]:
    return np.arange(start, start + n, dtype=np.uint8)[:, None, None] * np.ones((4, 4), np.uint8)


def classes(n: int, count: int = 2) -> NDArray[np.uint8]:
    return (np.arange(n, dtype=np.uint8) % count)[:, None]


def table(labels: NDArray[np.int64], groups: NDArray[np.str_] | None = None, seed: int = 0) -> Dataset:
    n, count = len(labels), labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
    given_groups = None if groups is None else groups.tolist()
    ids, names = [str(i) for i in range(n)], [str(i) for i in range(count)]
    return make_dataset("t", ImageArrays([grey(n)]), ids, labels, names, groups=given_groups, seed=seed)


# digits


def test_digits() -> None:
    data = dataset("digits")
    assert (len(data), len(data.classes), data.task.name, data.image_size) == (1797, 10, "multiclass", 64)
    assert data.drawn == SPLITS
    assert data.groups is None
    counts = data.counts()
    assert sum(counts.values()) == 1797
    assert [round(counts[split] / 1797, 2) for split in SPLITS] == [0.6, 0.2, 0.2]
    for label in range(10):
        assert np.mean(data.splits[data.labels == label] == "train") == pytest.approx(0.6, abs=0.02)


def test_digits_fill_the_range_of_bytes() -> None:
    data, reference = dataset("digits"), load_digits()
    pixels = np.stack([np.asarray(data.images.load(i)) for i in range(len(data))])
    assert pixels.shape == (1797, 8, 8, 3)
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert np.abs(pixels[..., 0] / 255 - reference.images / 16).max() < 0.5 / 255 + 1e-9
    assert data.label_names() == [str(label) for label in reference.target]


# manifests


def test_manifest_keeps_rows_together(tmp_path: Path) -> None:
    data = dataset(manifest(tmp_path, "label", ["cat", "ant", "bee"] * 10))
    assert (data.name, data.classes, data.task.name, data.image_size) == (
        "m",
        ("ant", "bee", "cat"),
        "multiclass",
        None,
    )
    assert data.ids.tolist() == [f"{i}.png" for i in range(30)]
    assert data.label_names() == ["cat", "ant", "bee"] * 10
    assert [value(data, i) for i in range(30)] == list(range(30))
    assert data.drawn == SPLITS
    assert data.counts() == {"train": 18, "val": 6, "test": 6}


def test_manifest_is_named_after_its_folder_when_called_labels(tmp_path: Path) -> None:
    data = dataset(manifest(tmp_path / "skin", "label", ["a", "b"] * 5, "labels.csv"))
    assert (data.name, data.task.name) == ("skin", "binary")


def test_manifest_with_splits_and_groups(tmp_path: Path) -> None:
    words = ["train", "Training", "val", "valid", "dev", "validation", "test", " testing "]
    data = dataset(
        manifest(tmp_path, "label,split,group", [f"{'ab'[i % 2]},{word},g{i}" for i, word in enumerate(words)])
    )
    assert data.splits.tolist() == ["train"] * 2 + ["val"] * 4 + ["test"] * 2
    assert data.drawn == ()
    assert data.groups is not None
    assert data.groups.tolist() == [f"g{i}" for i in range(8)]


def test_manifest_with_groups_is_drawn_by_group(tmp_path: Path) -> None:
    data = dataset(manifest(tmp_path, "label,group", [f"{'ab'[i % 2]},g{i // 4}" for i in range(80)]))
    assert torn(data) == []
    assert data.counts() == {"train": 48, "val": 16, "test": 16}


def test_val_is_drawn_from_a_given_train(tmp_path: Path) -> None:
    rows = [f"{'ab'[i % 2]},{'test' if i < 10 else 'train'},g{i // 2}" for i in range(60)]
    data = dataset(manifest(tmp_path, "label,split,group", rows))
    assert data.drawn == ("val",)
    assert np.flatnonzero(data.splits == "test").tolist() == list(range(10))
    assert data.counts() == {"train": 40, "val": 10, "test": 10}
    assert torn(data) == []


def test_manifest_of_several_labels(tmp_path: Path) -> None:
    data = dataset(manifest(tmp_path, "labels", ["b|a", "", "a", " c | b ", "|"] * 4))
    assert (data.task.name, data.classes) == ("multilabel", ("a", "b", "c"))
    assert data.labels[:5].tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 0], [0, 1, 1], [0, 0, 0]]
    assert data.label_names()[:5] == ["a|b", "", "a", "b|c", ""]


def test_words_that_pandas_takes_for_missing_are_labels(tmp_path: Path) -> None:
    words = ["NA", "null", "01", "nan"]
    data = dataset(manifest(tmp_path, "label,group", [f"{words[i % 4]},{words[i % 3]}{i // 4}" for i in range(40)]))
    assert data.classes == ("01", "NA", "nan", "null")
    assert data.groups is not None
    assert data.groups[:4].tolist() == ["NA0", "null0", "010", "NA0"]


# folders


def test_folder_of_classes(tmp_path: Path) -> None:
    for i in range(20):
        save(tmp_path / "pets" / ("cat" if i % 2 else "dog") / "deep" / f"{i:02d}.{'PNG' if i < 10 else 'bmp'}", i)
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("no image")
    save(tmp_path / "pets" / "cat" / ".hidden.png")
    save(tmp_path / "pets" / ".cache" / "x.png")
    data = dataset(tmp_path / "pets")
    assert (data.name, data.classes, len(data), data.drawn) == ("pets", ("cat", "dog"), 20, SPLITS)
    assert [name.partition("/")[0] for name in data.ids] == data.label_names()
    assert [value(data, i) for i in range(20)] == [int(Path(name).stem) for name in data.ids]
    assert data.ids[0] == "cat/deep/01.PNG"


def test_folder_of_splits(tmp_path: Path) -> None:
    for i in range(12):
        save(tmp_path / SPLITS[i // 4] / "ab"[i % 2] / f"{i}.png", i)
    data = dataset(tmp_path)
    assert data.drawn == ()
    assert [name.split("/")[:2] for name in data.ids] == [*map(list, zip(data.splits, data.label_names(), strict=True))]
    assert data.counts() == {"train": 4, "val": 4, "test": 4}


def test_folder_of_train_and_test(tmp_path: Path) -> None:
    for i in range(30):
        save(tmp_path / ("train" if i < 20 else "test") / "ab"[i % 2] / f"{i}.png")
    data = dataset(tmp_path)
    assert data.drawn == ("val",)
    assert data.counts() == {"train": 16, "val": 4, "test": 10}


def test_folder_leaves_out_what_pillow_cannot_open(tmp_path: Path) -> None:
    for i in range(10):
        save(tmp_path / "ab"[i % 2] / f"{i}.png")
    save(tmp_path / "a" / "figure.pdf")
    assert len(dataset(tmp_path)) == 10


# arrays


@pytest.mark.parametrize("colour", [False, True], ids=["grey", "rgb"])
@pytest.mark.parametrize("count", [2, 5])
def test_npz_of_three_splits(tmp_path: Path, colour: bool, count: int) -> None:
    sizes = {"train": 20, "val": 6, "test": 8}
    starts = dict(zip(SPLITS, (0, 20, 26), strict=True))
    images = {f"{split}_images": grey(n, starts[split]) for split, n in sizes.items()}
    if colour:
        images = {name: np.stack([array, array + 1, array + 2], -1) for name, array in images.items()}
    data = dataset(npz(tmp_path, **images, **{f"{split}_labels": classes(n, count) for split, n in sizes.items()}))
    assert (data.counts(), data.drawn) == (sizes, ())
    assert data.task.name == ("binary" if count == 2 else "multiclass")
    assert data.labels.tolist() == [i % count for n in sizes.values() for i in range(n)]
    for row in (0, 19, 20, 25, 26, 33):
        image = data.images.load(row)
        assert (image.mode, image.size) == ("RGB", (4, 4))
        assert image.getpixel((0, 0)) == ((row, row + 1, row + 2) if colour else (row,) * 3)


def test_npz_of_train_and_test(tmp_path: Path) -> None:
    arrays = {"train_images": grey(25), "train_labels": classes(25)[:, 0], "test_images": grey(8, 25)}
    data = dataset(npz(tmp_path, **arrays, test_labels=classes(8)[:, 0]))
    assert (data.drawn, data.counts()) == (("val",), {"train": 20, "val": 5, "test": 8})
    assert [value(data, i) for i in range(33)] == list(range(33))


def test_npz_of_several_labels(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 2, (33, 3))
    path = npz(
        tmp_path, train_images=grey(25), train_labels=labels[:25], test_images=grey(8), test_labels=labels[25:] > 0
    )
    data = dataset(path)
    assert (data.task.name, data.classes) == ("multilabel", ("0", "1", "2"))
    assert np.array_equal(data.labels, labels)


def test_arrays_are_known_by_their_file_or_their_bytes(tmp_path: Path) -> None:
    path = npz(tmp_path, train_images=grey(9), train_labels=classes(9), test_images=grey(9), test_labels=classes(9))
    assert dataset(path).images.hashes(FileHashes()) == [hashlib.sha256(path.read_bytes()).hexdigest()]
    one, same, other = grey(9), grey(9), grey(9)
    other[3, 0, 0] += 1
    found = [ImageArrays([array]).hashes(FileHashes()) for array in (one, same, other)]
    assert found[0] == found[1] != found[2]


# splits


def random_labels(seed: int) -> NDArray[np.int64]:
    """Some 30 to 200 labels, of one kind or several, common and rare."""
    rng = np.random.default_rng(seed)
    n, count = int(rng.integers(30, 200)), int(rng.integers(2, 7))
    if seed % 3 == 0:
        return (rng.random((n, count)) < rng.dirichlet(np.ones(count))).astype(np.int64) | np.eye(
            n, count, dtype=np.int64
        )
    return np.append(rng.choice(count, n - count, p=rng.dirichlet(np.ones(count))), np.arange(count)).astype(np.int64)


def random_groups(seed: int, n: int) -> NDArray[np.str_]:
    rng = np.random.default_rng(seed + 1)
    return np.append(rng.integers(0, rng.integers(5, n), n - 5), np.arange(5)).astype(str)


def torn(data: Dataset) -> list[str]:
    assert data.groups is not None
    return [name for name in set(data.groups.tolist()) if len(set(data.splits[data.groups == name])) > 1]


@given(seed=st.integers(0, 10_000))
@EXAMPLES
def test_every_row_gets_a_split_in_fifths(seed: int) -> None:
    data = table(random_labels(seed), seed=seed)
    fifth, rest = divmod(len(data), 5)
    counts = data.counts()
    assert sum(counts.values()) == len(data)
    assert all(fifth <= counts[split] <= fifth + (rest > 0) for split in ("val", "test"))
    assert data.drawn == SPLITS


@given(seed=st.integers(0, 10_000))
@EXAMPLES
def test_classes_are_spread_over_the_splits(seed: int) -> None:
    data = table(random_labels(3 * seed + 1), seed=seed)
    for label, count in enumerate(np.bincount(data.labels)):
        if count >= 25:
            shares = [np.mean(data.splits[data.labels == label] == split) for split in SPLITS]
            assert shares == pytest.approx([0.6, 0.2, 0.2], abs=0.15)


@given(seed=st.integers(0, 10_000))
@EXAMPLES
def test_no_group_is_torn_apart(seed: int) -> None:
    labels = random_labels(seed)
    data = table(labels, random_groups(seed, len(labels)), seed)
    assert torn(data) == []
    assert all(data.counts().values())
    assert sum(data.counts().values()) == len(data)


@given(seed=st.integers(0, 10_000))
@EXAMPLES
def test_small_groups_are_drawn_in_fifths(seed: int) -> None:
    labels = random_labels(seed)
    data = table(labels, (np.arange(len(labels)) // 2).astype(str), seed)
    assert data.counts()["train"] / len(data) == pytest.approx(0.6, abs=0.15)
    assert torn(data) == []


@given(seed=st.integers(0, 10_000), grouped=st.booleans())
@EXAMPLES
def test_splits_follow_from_the_seed(seed: int, grouped: bool) -> None:
    labels = random_labels(seed)
    groups = (np.arange(len(labels)) // 2).astype(str) if grouped else None
    before = np.random.get_state()[1].copy()
    first, again, other = (table(labels, groups, s) for s in (seed, seed, seed + 1))
    assert np.array_equal(first.splits, again.splits)
    assert not np.array_equal(first.splits, other.splits)
    assert np.array_equal(first.redraw(seed + 1).splits, other.splits)
    assert np.array_equal(first.redraw(seed + 1).redraw(seed).splits, first.splits)
    assert np.array_equal(np.random.get_state()[1], before)


def test_redraw_changes_only_what_was_drawn(tmp_path: Path) -> None:
    rows = [f"{'ab'[i % 2]},{'test' if i < 10 else 'train'}" for i in range(60)]
    path = manifest(tmp_path, "label,split", rows)
    data = dataset(path)
    again = data.redraw(1)
    assert data.redraw(0) is data
    assert again.counts() == data.counts()
    assert np.array_equal(again.splits == "test", data.splits == "test")
    assert not np.array_equal(again.splits, data.splits)
    assert np.array_equal(again.splits, dataset(path, seed=1).splits)
    assert (again.seed, again.drawn, again.images) == (1, ("val",), data.images)


def test_redraw_leaves_given_splits_alone(tmp_path: Path) -> None:
    data = dataset(manifest(tmp_path, "label,split", [f"{'ab'[i % 2]},{SPLITS[i % 3]}" for i in range(12)]))
    assert data.redraw(5) is data


def test_a_class_rarer_than_five_is_drawn_without_a_warning() -> None:
    assert sum(table(np.array([0] * 20 + [1] * 3)).counts().values()) == 23


# hashes


def refuse(*args: object, **options: object) -> None:
    raise AssertionError("the file was opened")


def opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("read_bytes", "read_text", "open"):
        monkeypatch.setattr(Path, name, refuse)
    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(io, "open", refuse)


def test_a_known_file_is_not_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [save(tmp_path / f"{i}.png", i) for i in range(3)]
    expected = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    kept, forgotten, memory = tmp_path / "kept", tmp_path / "forgotten", FileHashes()
    for hashes in (FileHashes(kept), FileHashes(forgotten), memory):
        assert hashes.hash(files) == expected
    opens_nothing(monkeypatch)
    assert memory.hash(files[::-1]) == expected[::-1]
    assert FileHashes(kept).hash(files) == expected
    with pytest.raises(AssertionError, match="opened"):
        FileHashes().hash(files)


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_changed_file_is_read_again(tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"before")
    os.utime(file, ns=(10**18, 10**18))
    hashes = FileHashes(tmp_path)
    old = hashes.hash([file])
    file.write_bytes(b"longer than before" if change == "size" else b"behind")
    os.utime(file, ns=(10**18, 10**18 + (change == "time")))
    new = [hashlib.sha256(file.read_bytes()).hexdigest()]
    assert hashes.hash([file]) == new != old
    opens_nothing(monkeypatch)
    assert hashes.hash([file]) == new


def test_a_moved_file_has_the_same_hash(tmp_path: Path) -> None:
    file, hashes = save(tmp_path / "a.png"), FileHashes()
    old = hashes.hash([file])
    os.utime(file, ns=(5, 5))
    assert hashes.hash([file]) == hashes.hash([file.rename(tmp_path / "b.png")]) == old


def test_hash_of_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match=r"nope\.png"):
        FileHashes().hash([tmp_path / "nope.png"])


def test_a_damaged_memory_is_made_again_or_named(tmp_path: Path) -> None:
    file = save(tmp_path / "a.png")
    (tmp_path / "files.sqlite").write_bytes(b"damaged" * 100)
    try:
        found = FileHashes(tmp_path).hash([file])
    except ProbeError:
        return
    assert found == FileHashes().hash([file])


# images


@pytest.mark.parametrize(
    ("mode", "colour", "expected", "suffix"),
    [
        ("RGB", (10, 200, 30), (10, 200, 30), "png"),
        ("L", 77, (77, 77, 77), "png"),
        ("1", 1, (255, 255, 255), "png"),
        ("LA", (77, 9), (77, 77, 77), "png"),
        ("RGBA", (10, 200, 30, 0), (10, 200, 30), "png"),
        ("P", (10, 200, 30), (10, 200, 30), "png"),
        ("P", (10, 200, 30), (10, 200, 30), "gif"),
        ("CMYK", (0, 0, 0, 255), (0, 0, 0), "tiff"),
    ],
)
def test_images_become_rgb(
    tmp_path: Path, mode: str, colour: tuple[int, ...] | int, expected: tuple[int, ...], suffix: str
) -> None:
    image = Image.new("RGB" if mode == "P" else mode, (6, 5), colour)
    (image.quantize(4) if mode == "P" else image).save(tmp_path / f"x.{suffix}")
    loaded = ImageFiles([tmp_path / f"x.{suffix}"]).load(0)
    assert (loaded.mode, loaded.size, loaded.getpixel((3, 2))) == ("RGB", (6, 5), expected)


def test_a_palette_with_transparency_becomes_rgb(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (10, 200, 30)).quantize(4).save(tmp_path / "x.png", transparency=b"\x80\xff")
    assert ImageFiles([tmp_path / "x.png"]).load(0).getpixel((0, 0)) == (10, 200, 30)


def half(file: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def without_pixels(file: Path) -> None:
    Image.new("RGB", (16, 16), (9, 99, 199)).save(file)
    content = file.read_bytes()
    start = content.index(b"mdat") + 4
    file.write_bytes(content[:start] + bytes(len(content) - start))


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("missing.png", lambda file: None),
        ("empty.png", lambda file: file.write_bytes(b"")),
        ("words.png", lambda file: file.write_text("not an image")),
        ("folder.png", lambda file: file.mkdir()),
        *((f"half.{suffix}", half) for suffix in ("png", "jpg", "bmp", "tiff", "webp")),
        pytest.param(
            "damaged.avif",
            without_pixels,
            marks=[
                pytest.mark.skipif(not features.check("avif"), reason="a Pillow without AVIF"),
            ],
        ),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, name: str, make: Callable[[Path], object]) -> None:
    make(tmp_path / name)
    with pytest.raises(ProbeError, match=f"{name}'"):
        ImageFiles([save(tmp_path / "good.png"), tmp_path / name]).load(1)


# what cannot be read


def folder(names: Sequence[str]) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        for name in names:
            save(root / name)
        return root

    return make


def written(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        (root / name).write_bytes(content)
        return root / name

    return make


def csv(head: str, rows: Sequence[str]) -> Callable[[Path], Path]:
    return lambda root: manifest(root, head, rows)


def arrays(**changes: NDArray[np.generic] | None) -> Callable[[Path], Path]:
    """A good `.npz` with some of its arrays changed, or left out."""
    good = {"train_images": grey(9), "train_labels": classes(9), "test_images": grey(9), "test_labels": classes(9)}
    return lambda root: npz(root, **{name: array for name, array in (good | changes).items() if array is not None})


def cut_short(root: Path) -> Path:
    path = arrays()(root)
    path.write_bytes(path.read_bytes()[:300])
    return path


def one_array(root: Path) -> Path:
    np.save(root / "a.npy", grey(9))
    return (root / "a.npy").rename(root / "a.npz")


def no_arrays(root: Path) -> Path:
    with zipfile.ZipFile(root / "a.npz", "w") as archive:
        for name in ("train_images", "train_labels", "test_images", "test_labels"):
            archive.writestr(name, b"bytes")
    return root / "a.npz"


def damaged(root: Path) -> Path:
    """A compressed `.npz` whose stream starts with a kind of block that does not exist."""
    path = root / "a.npz"
    np.savez_compressed(path, train_images=grey(9), train_labels=classes(9))
    content = bytearray(path.read_bytes())
    name, extra = struct.unpack("<HH", content[26:30])
    content[30 + name + extra] = 0x07
    path.write_bytes(content)
    return path


def beside_table(root: Path) -> Path:
    (root / "labels.csv").write_text("file,label\n")
    return folder([f"images/{i}.png" for i in range(9)])(root)


AB = ["a", "b"] * 10
EYE = np.eye(9, 2, dtype=np.uint8)
BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nothing there": (lambda root: root / "nope", "no data at '.*nope'.*digits.*csv"),
    "name too long": (lambda root: root / ("x" * 5000), "cannot look for data at '.*xxx': File name too long; give"),
    "unknown form": (written("data.txt", b"x"), r"cannot tell what data '.*data\.txt' holds: give 'digits'"),
    "empty folder": (folder([]), r"holds no images in root/class/\*"),
    "images beside no class": (folder(["1.png", "2.png"]), "holds no images"),
    "folder of one class": (folder([f"a/{i}.png" for i in range(9)]), "only the class 'a'"),
    "folder of images beside its table": (beside_table, "a single folder of images, .*give its table, .*labels"),
    "folder of train alone": (folder([f"train/{i % 2}/{i}.png" for i in range(9)]), "incomplete .*val, test"),
    "empty csv": (written("m.csv", b""), "not a readable CSV"),
    "csv in latin-1": (written("m.csv", "file,label\n1.png,Bläue\n".encode("latin-1")), "not a readable CSV"),
    "ragged csv": (written("m.csv", b"file,label\n1.png,a\n2.png,b,c\n"), "not a readable CSV.*line 3"),
    "csv without rows": (csv("label", []), "m holds no images"),
    "no column file": (written("m.csv", b"image,label\n1,2\n"), "no column 'file'; it has 'image', 'label'"),
    "no column label": (csv("class", AB), r"no column 'label' .*'labels' .*; it has 'file', 'class'"),
    "empty label": (csv("label", ["a", "", "b"]), "no label in row 3"),
    "file not there": (written("m.csv", b"file,label\nnope.png,a\n"), r"names '.*nope\.png', which is not there"),
    "no file named": (written("m.csv", b"file,label\n,a\n"), "which is not there"),
    "file name too long": (written("m.csv", b"file,label\n" + b"x" * 5000 + b",a\n"), "which is not there"),
    "one class": (csv("label", ["a"] * 20), "only the class 'a'; .*at least two"),
    "no label anywhere": (csv("labels", [""] * 20), "no label at all"),
    "unknown split": (csv("label,split", [f"{x},holdout" for x in AB]), "unknown split 'holdout'; choose from train"),
    "train alone": (csv("label,split", [f"{x},train" for x in AB]), "incomplete .*val, test"),
    "no test": (csv("label,split", [f"{x},{s}" for x in "ab" for s in ("train", "val")]), "incomplete .*test"),
    "no train": (csv("label,split", [f"{x},{s}" for x in "ab" for s in ("test", "val")]), "incomplete .*train"),
    "row without split": (csv("label,split", ["a,train", "b,val", "a,test", "b,"]), "incomplete"),
    "four images": (csv("label", ["a", "b"] * 2), "4 images are too few"),
    "four groups": (csv("label,group", [f"{x},g{i % 4}" for i, x in enumerate(AB)]), "4 groups are too few"),
    "torn group": (
        csv("label,split,group", [f"{x},{SPLITS[i % 3]},{'p7' if i < 2 else i}" for i, x in enumerate(AB)]),
        "1 groups lie in more than one split .'p7'",
    ),
    "no train_images": (arrays(train_images=None, test_images=None), "lacks train_images and has test_labels, train_l"),
    "no test_labels": (arrays(test_labels=None), "lacks test_labels"),
    "train alone in npz": (arrays(test_images=None), "incomplete .*val, test"),
    "no arrays in npz": (lambda root: npz(root), "lacks train_images and has nothing"),
    "floats": (arrays(test_images=np.zeros((9, 4, 4))), r"shape \(9, 4, 4\) and type float64"),
    "four channels": (arrays(train_images=np.zeros((9, 4, 4, 4), np.uint8)), r"shape \(9, 4, 4, 4\)"),
    "one image": (arrays(train_images=np.zeros((4, 4), np.uint8)), r"shape \(4, 4\)"),
    "fewer labels": (arrays(train_labels=classes(8)), "9 images and 8 labels"),
    "negative labels": (arrays(train_labels=classes(9).astype(int) - 1), "9 labels of type int64"),
    "labels of floats": (arrays(train_labels=classes(9) / 2), "labels of type float64"),
    "npz of one class": (arrays(train_labels=classes(9, 1), test_labels=classes(9, 1)), "only the class '0'"),
    "npz that is none": (written("a.npz", b"no archive"), "not a readable .npz"),
    "empty npz": (written("a.npz", b""), "not a readable .npz"),
    "npz cut short": (cut_short, "not a readable .npz"),
    "npy called npz": (one_array, "not a readable .npz"),
    "stream damaged": (damaged, "not a readable .npz"),
    "zip of something else": (no_arrays, "a.npz"),
    "label without axis": (arrays(train_labels=np.array(1)), "labels"),
    "labels of other widths": (arrays(test_labels=np.ones((9, 2), np.uint8)), "labels"),
    "labels without columns": (arrays(train_labels=np.ones((9, 0), int), test_labels=np.ones((9, 0), int)), "label"),
    "labels beyond int64": (arrays(train_labels=classes(9) * np.uint64(2**63)), "labels"),
    "several labels of 0 and 7": (arrays(train_labels=EYE * 7, test_labels=EYE), "label"),
    "npz of class 1 alone": (arrays(train_labels=classes(9, 1) + 1, test_labels=classes(9, 1) + 1), "class"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # np.load leaves a damaged archive open
@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_read_is_said(tmp_path: Path, case: str) -> None:
    make, words = BAD[case]
    with pytest.raises(ProbeError, match=words) as error:
        dataset(make(tmp_path))
    message = str(error.value)
    del error
    gc.collect(1)  # here, where the warning is ignored
    assert "\n" not in message


def test_npz_with_an_empty_split(tmp_path: Path) -> None:
    data = dataset(arrays(val_images=grey(0), val_labels=classes(0))(tmp_path))
    assert data.counts()["test"] == 9


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("where", ["train_images", "train_labels", "other"])
def test_an_npz_runs_nothing(tmp_path: Path, where: str) -> None:
    path = arrays(**{where: np.array([Trap(tmp_path / "sprung")] * 9, dtype=object)})(tmp_path)
    with pytest.raises(ProbeError, match="plain arrays"):
        dataset(path)
    assert not (tmp_path / "sprung").exists()
    np.load(path, allow_pickle=True)[where]
    assert (tmp_path / "sprung").exists()


def test_uneven_groups_leave_most_to_train() -> None:
    groups = np.repeat(list("abcde"), [100, 100, 1, 1, 1]).tolist()
    labels = np.arange(len(groups)) % 2
    blank = ImageArrays([np.zeros((len(groups), 4, 4), np.uint8)])
    data = make_dataset("uneven", blank, [str(i) for i in range(len(groups))], labels, ["a", "b"], groups=groups)
    assert data.counts()["train"] >= 200


@pytest.mark.parametrize("name", ["micro", "macro"])
def test_a_class_is_not_called_as_an_average_is(tmp_path: Path, name: str) -> None:
    blank, ids = ImageArrays([grey(6)]), list("abcdef")
    for labels in (np.arange(6) % 2, np.eye(2, dtype=np.int64)[np.arange(6) % 2]):
        with pytest.raises(ProbeError, match=f"t has a class '{name}', but that is the name of an .* rename the class"):
            make_dataset("t", blank, ids, labels, ["disc", name])
    for kind in ("disc", name):
        (tmp_path / kind).mkdir()
        Image.new("L", (4, 4)).save(tmp_path / kind / "0.png")
    with pytest.raises(ProbeError, match=f"class '{name}'"):
        dataset(tmp_path)


def test_a_row_without_group_is_told(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    (tmp_path / "m.csv").write_text("file,label,group\nx.png,a,p\nx.png,b,\n")
    with pytest.raises(ProbeError, match="no group in row 3"):
        dataset(tmp_path / "m.csv")
