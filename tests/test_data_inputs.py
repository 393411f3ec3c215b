"""Inputs: labels in columns, parquet, published data sets, groups from headers, and unreadable files left out."""

import gzip
import hashlib
import io
import json
import logging
import struct
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import medmnist
import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
import torchvision.datasets
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset as Header
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from probe.base.errors import ProbeError
from probe.cache.requests import data_fingerprint
from probe.commands import main
from probe.data import FileHashes, dataset, make_dataset
from probe.data.image_sources import ImageArrays, ImageFiles, images_in
from probe.data.published_sets import TORCHVISION_SETS
from probe.records.record import Record
from probe.settings import Reading


def manifest(folder: Path, head: str, rows: Sequence[str], name: str = "m.csv") -> Path:
    """A CSV whose row i starts with the image `i.png`, which is there and holds the value i."""
    for i in range(len(rows)):
        Image.new("RGB", (4, 4), (i, i, i)).save(folder / f"{i}.png")
    (folder / name).write_text("\n".join([f"file,{head}", *(f"{i}.png,{row}" for i, row in enumerate(rows))]) + "\n")
    return folder / name


# labels in columns of 0 and 1


def test_columns_of_0_and_1_are_labels_and_empty_is_unknown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = ["61,1.0,0,,", "17,0.0,1,0, 1", "40,,-1.0,1,0", "33,-1,0,0,1"] * 5
    with caplog.at_level(logging.INFO, "probe"):
        data = dataset(manifest(tmp_path, "Age,Pneumonia,Edema,Mass,Hernia", rows))
    assert (data.task.name, data.classes) == ("multilabel", ("Pneumonia", "Edema", "Mass", "Hernia"))
    assert data.labels[:4].tolist() == [[1, 0, -1, -1], [0, 1, 0, 1], [-1, -1, 1, 0], [-1, 0, 0, 1]]
    assert data.labels.dtype == np.int64
    assert data.label_names()[:3] == ["Pneumonia|?Mass|?Hernia", "Edema|Hernia", "?Pneumonia|?Edema|Mass"]
    assert "labels are the columns of 0 and 1: 'Pneumonia', 'Edema', 'Mass', 'Hernia'" in caplog.text


def test_columns_that_are_no_labels(tmp_path: Path) -> None:
    rows = [f"{i % 2},{i},{i % 3},,{'MF'[i % 2]},{'train' if i % 3 else 'test'},{i}" for i in range(20)]
    data = dataset(manifest(tmp_path, "a,number,stage,notes,sex,split,group", rows))
    assert (data.classes, data.task.name, data.drawn) == (("a",), "multilabel", ("val",))
    assert data.labels[:, 0].tolist() == [0, 1] * 10


@pytest.mark.parametrize("head", ["label", "labels"])
def test_beside_named_labels_other_columns_are_left_alone(tmp_path: Path, head: str) -> None:
    rows = [f"{'xy'[i % 2]},{i % 2},{20 + i}" for i in range(20)]
    assert dataset(manifest(tmp_path, f"{head},male,age", rows)).classes == ("x", "y")


@pytest.mark.parametrize(
    ("head", "row", "words"),
    [
        ("label,labels", "x,y", "in two forms, 'label' and 'labels'; keep one"),
        ("age,sex", "30,F", "no column 'label' .*nor label columns of 0 and 1; it has 'file', 'age', 'sex'"),
        ("a,b", "-1,", "nor label columns of 0 and 1"),
        ("a,b", "0,", "no label at all"),
    ],
)
def test_labels_that_are_not_clear(tmp_path: Path, head: str, row: str, words: str) -> None:
    with pytest.raises(ProbeError, match=words):
        dataset(manifest(tmp_path, head, [row] * 20))


def test_a_label_that_nobody_has_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "probe"):
        dataset(manifest(tmp_path, "a,b,c", ["1,0,", "0,-1,0"] * 10))
    assert caplog.messages == ["m: no image is known to have 'b', 'c', so it cannot be learnt"]


def test_the_unknown_are_not_spread_as_present() -> None:
    """Were -1 counted as present, the rarest label would seem to be one of those that nobody knows."""
    labels = np.full((100, 3), -1)
    labels[:20, 0], labels[20:70, 1] = 1, 1
    blank = ImageArrays([np.zeros((100, 2, 2), np.uint8)])
    data = make_dataset("t", blank, [str(i) for i in range(100)], labels, ["a", "b", "c"])
    for rows, share in ((slice(0, 20), 12), (slice(20, 70), 30), (slice(70, 100), 18)):
        assert (data.splits[rows] == "train").sum() == share


# parquet


@pytest.mark.parametrize(
    "columns",
    [
        {"label": ["ant", "bee"] * 10, "split": ["train", "train", "val", "test"] * 5, "group": range(20)},
        {"label": [3, 7] * 10},
        {"labels": ["ant|bee", ""] * 10},
        {"a": [1, 0] * 10, "b": [0, 1] * 10},
    ],
)
def test_parquet_is_read_as_csv_is(tmp_path: Path, columns: dict[str, Sequence[Any]]) -> None:
    manifest(tmp_path, "label", ["x"] * 20)
    table = pd.DataFrame({"file": [f"{i}.png" for i in range(20)], **columns})
    table.to_parquet(tmp_path / "p.parquet")
    table.to_csv(tmp_path / "c.csv", index=False)
    one, other = dataset(tmp_path / "p.parquet"), dataset(tmp_path / "c.csv")
    for name in ("ids", "labels", "splits", "groups"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    assert (one.classes, one.name) == (other.classes, "p")


def test_what_only_parquet_holds(tmp_path: Path) -> None:
    manifest(tmp_path, "label", ["x"] * 20)
    files = [f"{i}.png" for i in range(20)]
    lists = pd.DataFrame({"file": files, "labels": [["b", "a"], [], None, ["c"]] * 5})
    gaps = pd.DataFrame({"file": files, "a": [True, False, None, True] * 5, "b": [1.0, np.nan, 0.0, -1.0] * 5})
    lists.to_parquet(tmp_path / "lists.parquet")
    gaps.to_parquet(tmp_path / "gaps.parquet", index=False)
    assert dataset(tmp_path / "lists.parquet").label_names()[:4] == ["a|b", "", "", "c"]
    assert dataset(tmp_path / "gaps.parquet").labels[:4].tolist() == [[1, 1], [0, -1], [-1, 0], [1, -1]]
    pd.DataFrame({"file": files, "label": ["x", None] * 10}).to_parquet(tmp_path / "hole.parquet")
    with pytest.raises(ProbeError, match="no label in row 2"):
        dataset(tmp_path / "hole.parquet")


def test_a_damaged_parquet_is_told(tmp_path: Path) -> None:
    pd.DataFrame({"file": ["a"], "label": ["b"]}).to_parquet(tmp_path / "m.parquet")
    content = (tmp_path / "m.parquet").read_bytes()
    for part in (b"", b"PAR1", content[:50], content[: len(content) // 2] + bytes(9) + content[len(content) // 2 :]):
        (tmp_path / "m.parquet").write_bytes(part)
        with pytest.raises(ProbeError, match=r"'.*m\.parquet' is not a readable parquet table: ") as error:
            dataset(tmp_path / "m.parquet")
        assert "\n" not in str(error.value)


# published data sets: the packages' own downloaders, with a folder in place of the network


class Answer(io.BytesIO):
    """What urlopen returns."""

    url = None

    @property
    def length(self) -> int:
        return len(self.getvalue())


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose files are served under their names, whatever the host."""
    folder = tmp_path / "mirror"
    folder.mkdir()

    def serve(request: urllib.request.Request | str, **options: object) -> Answer:
        print("downloading")  # noqa: T201 - as the downloaders of older versions do
        address = request if isinstance(request, str) else request.full_url
        file = folder / address.partition("?")[0].rpartition("/")[2]
        if not file.is_file():
            raise urllib.error.URLError("tests run without a network")
        return Answer(file.read_bytes())

    monkeypatch.setattr(urllib.request, "urlopen", serve)
    return folder


def md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the medmnist package keeps its files."""
    (tmp_path / "home").mkdir()
    monkeypatch.setattr(medmnist.info, "DEFAULT_ROOT", str(tmp_path / "home"))
    return tmp_path / "home"


def publish(mirror: Path, monkeypatch: pytest.MonkeyPatch, flag: str, size: str, **arrays: Any) -> None:
    """Put a MedMNIST file on the mirror with the checksum the package expects."""
    np.savez(mirror / f"{flag}{size}.npz", **arrays)
    monkeypatch.setitem(medmnist.INFO[flag], f"MD5{size}", md5(mirror / f"{flag}{size}.npz"))


@pytest.mark.parametrize(("size", "side"), [(None, 28), (28, 28), (64, 64)])
def test_medmnist_is_fetched_once(
    mirror: Path, home: Path, monkeypatch: pytest.MonkeyPatch, size: int | None, side: int
) -> None:
    rng, arrays = np.random.default_rng(0), {}
    for split, count in {"train": 20, "val": 8, "test": 9}.items():
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count, dtype=np.uint8) % 7)[:, None]
    publish(mirror, monkeypatch, "dermamnist", "_64" if side == 64 else "", **arrays)
    data = dataset("medmnist:dermamnist", size=size)
    assert data.counts() == {"train": 20, "val": 8, "test": 9}
    assert (data.drawn, data.task.name, data.classes[5]) == ((), "multiclass", "melanocytic nevi")
    assert np.array_equal(np.asarray(data.images.load(28)), arrays["test_images"][0])
    for file in mirror.iterdir():
        file.unlink()
    assert np.array_equal(dataset("medmnist:dermamnist", size=size).labels, data.labels)


def test_medmnist_with_several_labels(mirror: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.random.default_rng(0).integers(0, 2, (30, 14), dtype=np.uint8)
    parts = {"train": slice(0, 20), "val": slice(20, 25), "test": slice(25, 30)}
    arrays = {f"{split}_labels": labels[rows] for split, rows in parts.items()}
    arrays |= {f"{split}_images": np.zeros((len(labels[rows]), 28, 28), np.uint8) for split, rows in parts.items()}
    publish(mirror, monkeypatch, "chestmnist", "", **arrays)
    data = dataset("medmnist:chestmnist")
    assert (data.task.name, data.classes[:2]) == ("multilabel", ("atelectasis", "cardiomegaly"))
    assert np.array_equal(data.labels, labels)


def test_medmnist_from_a_real_file(shared: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = shared / "medmnist28" / "breastmnist.npz"
    (home / file.name).symlink_to(file)
    monkeypatch.setitem(medmnist.INFO["breastmnist"], "MD5", md5(file))
    data = dataset("medmnist:breastmnist")
    assert data.counts() == {split: medmnist.INFO["breastmnist"]["n_samples"][split] for split in data.counts()}
    assert data.classes == ("malignant", "normal, benign")


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("medmnist:breast", None, "unknown MedMNIST data set 'breast'; did you mean 'breastmnist'"),
        ("medmnist:organmnist3d", None, "unknown MedMNIST data set 'organmnist3d'"),  # volumes
        ("medmnist:breastmnist", 32, "size is 32; breastmnist comes in 28, 64, 128, 224 pixels"),
        ("medmnist:breastmnist", None, r"is not at '.*breastmnist\.npz' and cannot be fetched: .*without a network"),
        ("digits", 28, "size is for medmnist: data sets alone, and 'digits' is not one; leave it out"),
        ("torchvision:MNIS", None, "unknown torchvision data set 'MNIS'; did you mean 'MNIST'"),
        ("torchvision:CIFAR10", None, "can neither be read from '.*CIFAR10' nor fetched: .*without a network"),
    ],
)
def test_published_sets_that_cannot_be_had(mirror: Path, home: Path, name: str, size: int, words: str) -> None:
    with pytest.raises(ProbeError, match=words) as error:
        dataset(name, size=size)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", TORCHVISION_SETS)
def test_torchvision_sets_take_the_arguments_they_are_given(name: str, mirror: Path) -> None:
    """Each is built by its own class, which comes as far as looking for its files."""
    with pytest.raises(ProbeError, match=f"'torchvision:{name}' can neither be read") as error:
        dataset(f"torchvision:{name}")
    assert not any(words in str(error.value) for words in ("argument", "Unknown value", "attribute", "positional"))


def idx(values: NDArray[np.uint8]) -> bytes:
    """MNIST's file format."""
    return gzip.compress(struct.pack(f">I{values.ndim}I", 0x800 | values.ndim, *values.shape) + values.tobytes())


def test_torchvision_keeps_the_official_test_split(
    mirror: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, resources, images = np.random.default_rng(0), [], {}
    for part, count in {"train": 60, "t10k": 20}.items():
        images[part] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        files = {f"{part}-images-idx3-ubyte.gz": images[part]}
        files[f"{part}-labels-idx1-ubyte.gz"] = np.arange(count, dtype=np.uint8) % 10
        for name, values in files.items():
            (mirror / name).write_bytes(idx(values))
            resources.append((name, md5(mirror / name)))
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)
    data = dataset("torchvision:MNIST")
    assert (data.counts(), data.drawn) == ({"train": 48, "val": 12, "test": 20}, ("val",))
    assert (data.name, data.classes[3], data.ids[60]) == ("MNIST", "3 - three", "test-000000")
    assert data.labels.tolist() == [i % 10 for i in range(60)] + [i % 10 for i in range(20)]
    assert np.array_equal(np.asarray(data.images.load(0))[..., 0], images["train"][0])
    assert np.array_equal(np.asarray(data.images.load(61))[..., 2], images["t10k"][1])
    hashes = data.images.hashes(FileHashes())
    assert len(hashes) == 8  # packed and unpacked
    assert capsys.readouterr().out == ""


def test_torchvision_from_files_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Imagenette calls its held-out images val, has synonyms for classes, and keeps pairs of file and class."""
    root = Path(torch.hub.get_dir()).parent / "datasets" / "Imagenette" / "imagenette2"
    for i, synset in enumerate(torchvision.datasets.Imagenette._WNID_TO_CLASS):
        for part, count in {"train": 5, "val": 2}.items():
            (root / part / synset).mkdir(parents=True)
            for j in range(count):
                Image.new("L", (8, 8), 10 * i + j).save(root / part / synset / f"{j}.JPEG", quality=100)
    monkeypatch.setattr(torchvision.datasets.Imagenette, "_check_exists", lambda self: True)
    monkeypatch.setattr(torchvision.datasets.Imagenette, "_download", lambda self: None)
    data = dataset("torchvision:Imagenette")
    assert (data.counts(), data.drawn) == ({"train": 40, "val": 10, "test": 20}, ("val",))
    assert (data.classes[0], len(data.classes)) == ("tench", 10)
    shown = [data.images.load(i).getpixel((0, 0)) for i in range(len(data))]
    assert all(abs(pixel[0] // 10 - label) <= 0 for pixel, label in zip(shown, data.labels, strict=True))


# optional libraries


@pytest.mark.parametrize(
    ("package", "extra", "source"),
    [
        ("pydicom", "dicom", "x.dcm"),
        ("nibabel", "nifti", "x.nii.gz"),
        ("pyarrow", "parquet", "m.parquet"),
        ("medmnist", "medmnist", "medmnist:breastmnist"),
    ],
)
@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_a_missing_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, extra: str, source: str, on_error: str
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    if ":" not in source:
        (tmp_path / source).write_bytes(b"x")
        if extra != "parquet":
            (tmp_path / "m.csv").write_text(f"file,label\n{source},a\n")
        source = str(tmp_path / ("m.parquet" if extra == "parquet" else "m.csv"))
    with pytest.raises(ProbeError, match=rf"takes {package}: pip install 'truncated-probe\[{extra}\]'"):
        dataset(source, on_error=on_error)


# groups from headers


def scan(file: Path, patient: str | None, value: int = 0) -> None:
    header = Header()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID = header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7"
    header.Rows, header.Columns, header.SamplesPerPixel, header.PixelRepresentation = 2, 2, 1, 0
    header.BitsAllocated, header.BitsStored, header.HighBit = 8, 8, 7
    header.PhotometricInterpretation, header.PixelData = "MONOCHROME2", bytes([value] * 4)
    if patient is not None:
        header.PatientID = patient
    file.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(file, enforce_file_format=True)


def dicom_folder(root: Path, patients: Callable[[int], str | None]) -> Path:
    for i in range(20):
        scan(root / "ab"[i % 2] / f"{i:02d}.dcm", patients(i), i)
    return root


def test_dicom_files_are_grouped_by_patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = dicom_folder(tmp_path / "scans", lambda i: f"P{i // 3}")
    data = dataset(root)
    assert data.groups is not None
    assert data.groups.tolist() == [f"P{int(Path(name).stem) // 3}" for name in data.ids]
    assert [data.images.load(i).getpixel((0, 0))[0] for i in range(20)] == [int(Path(name).stem) for name in data.ids]
    monkeypatch.setattr("probe.data.screening.read_patient", None)  # a second look opens no file
    assert dataset(root).groups.tolist() == data.groups.tolist()
    rows = [f"{name},{name[0]},g{i}" for i, name in enumerate(data.ids)]
    (root / "m.csv").write_text("\n".join(["file,label,group", *rows]))
    assert dataset(root / "m.csv").groups.tolist() == [f"g{i}" for i in range(20)]


def test_patients_that_are_not_named_stand_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = dataset(dicom_folder(tmp_path, lambda i: None if i == 1 else "" if i == 2 else f"P{i // 6}"))
    assert data.groups is not None
    assert data.groups[[0, 1, 10]].tolist() == ["P0", "a/02.dcm", "b/01.dcm"]
    assert "2 DICOM files have no PatientID and stand alone, 'a/02.dcm' for one" in caplog.text


def test_one_patient_id_in_all_files_groups_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert dataset(dicom_folder(tmp_path, lambda i: "ANON")).groups is None
    assert "all DICOM files have the PatientID 'ANON'" in caplog.text


def test_slices_are_grouped_by_volume(tmp_path: Path) -> None:
    rows = []
    for i in range(10):
        volume = np.zeros((4, 4, 3)) + np.arange(3) * 50 + 10 * i
        nibabel.Nifti1Image(volume, np.eye(4)).to_filename(tmp_path / f"v{i}.nii.gz")
        rows += [f"v{i}.nii.gz#axis=2&slice={k},{'ab'[i % 2]}" for k in range(3)]
    (tmp_path / "m.csv").write_text("\n".join(["file,label", *rows]))
    data = dataset(tmp_path / "m.csv", window="0,255")
    assert data.groups is not None
    assert data.groups.tolist() == [f"v{i}.nii.gz" for i in range(10) for _ in range(3)]
    assert [data.images.load(i).getpixel((1, 1))[0] for i in range(30)] == [
        50 * k + 10 * i for i in range(10) for k in range(3)
    ]
    for i in range(10):
        (tmp_path / "f" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        (tmp_path / f"v{i}.nii.gz").rename(tmp_path / "f" / "ab"[i % 2] / f"v{i}.nii.gz")
    folder = dataset(tmp_path / "f", window="0,255")
    assert folder.ids[0] == "a/v0.nii.gz"
    assert folder.images.load(0).getpixel((1, 1))[0] == 50  # the middle one


# unreadable files


def damaged(tmp_path: Path) -> Path:
    """A manifest of 20 images of which one is cut short, one is text, one is gone and one DICOM is empty."""
    path = manifest(tmp_path, "label", ["a", "b"] * 10)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)).save(tmp_path / "3.png")
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:400])
    (tmp_path / "4.png").write_text("no image")
    (tmp_path / "5.png").unlink()
    (tmp_path / "x.dcm").write_bytes(b"")
    path.write_text(path.read_text() + "x.dcm,a\n")
    return path


def test_unreadable_files_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = dataset(damaged(tmp_path), on_error="skip")
    assert [name for name, _ in data.skipped] == ["3.png", "4.png", "5.png", "x.dcm"]
    reasons = dict(data.skipped)
    assert "truncated" in reasons["3.png"]
    assert "not an image" in reasons["4.png"]
    assert "not there" in reasons["5.png"]
    assert "cannot read DICOM" in reasons["x.dcm"]
    kept = [i for i in range(20) if i not in (3, 4, 5)]
    assert data.ids.tolist() == [f"{i}.png" for i in kept]
    assert data.label_names() == ["ab"[i % 2] for i in kept]
    assert [data.images.load(row).getpixel((0, 0))[0] for row in range(17)] == kept
    assert caplog.messages == ["SKIPPED 4 of 21 images that cannot be read: '3.png', '4.png', '5.png', ..."]


def test_each_file_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = damaged(tmp_path), []
    real = ImageFiles.load
    monkeypatch.setattr(ImageFiles, "load", lambda self, i: seen.append(self.files[i].name) or real(self, i))
    first = dataset(path, on_error="skip")
    assert len(seen) == 20  # all but the one that is not there
    assert dataset(path, on_error="skip").skipped == first.skipped
    assert len(seen) == 20
    Image.new("L", (9, 9)).save(tmp_path / "4.png")
    assert "4.png" in dataset(path, on_error="skip").ids
    assert seen[20:] == ["4.png"]
    dataset(path, on_error="skip", window="percentile")  # under another rule the outcome may be another
    assert len(seen) == 41


def test_a_slice_that_is_not_there_is_left_out_alone(tmp_path: Path) -> None:
    rows = []
    for i in range(10):
        nibabel.Nifti1Image(np.zeros((4, 4, 3)) + i, np.eye(4)).to_filename(tmp_path / f"v{i}.nii")
        rows += [f"v{i}.nii#slice={k},{'ab'[i % 2]}" for k in range(3 + (i == 0))]
    (tmp_path / "m.csv").write_text("\n".join(["file,label", *rows]))
    for _ in range(2):
        data = dataset(tmp_path / "m.csv", on_error="skip")
        assert [name for name, _ in data.skipped] == ["v0.nii#slice=3"]
        assert len(data) == 30


def test_unreadable_files_fail_unless_told_otherwise(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match=r"names '.*5\.png', which is not there"):
        dataset(damaged(tmp_path))
    (tmp_path / "m.csv").write_text("file,label\n4.png,a\nx.dcm,b\n")
    with pytest.raises(ProbeError, match="none of the 2 images of m can be read; the first: '.*4.png' is not an image"):
        dataset(tmp_path / "m.csv", on_error="skip")
    with pytest.raises(ProbeError, match="on_error is 'ignore'; choose from fail, skip"):
        dataset(tmp_path / "m.csv", on_error="ignore")


@pytest.fixture
def _quiet() -> Iterator[None]:
    """The log goes back to where it went."""
    log = logging.getLogger("probe")
    handlers, level = log.handlers, log.level
    yield
    log.handlers = handlers
    log.setLevel(level)


@pytest.mark.usefixtures("_quiet")
def test_skipped_files_are_recorded(tmp_path: Path) -> None:
    common = ["--arch", "test_resnet", "--weights", "scratch", "--image-size", "32", "--data", str(damaged(tmp_path))]
    out = tmp_path / "out"
    failed = CliRunner().invoke(main, ["extract", *common], prog_name="probe")
    assert failed.exit_code == 1
    assert "5.png" in failed.stderr
    options = ["--on-error", "skip", "--window", "0,100", "--draws", "100", "--out", str(out), "--json"]
    result = CliRunner().invoke(main, ["layerwise", *common, *options], prog_name="probe")
    assert result.exit_code == 0, result.stderr
    assert "SKIPPED 4 of 21 images" in result.stderr
    (run,) = Record(out).runs
    data = run.facts["data"]
    assert {name for name, _ in data["skipped"]} == {"3.png", "4.png", "5.png", "x.dcm"}
    assert json.loads(result.stdout)["skipped_images"] == data["skipped"]
    assert data["images"] == 17
    assert data["reading"]["window"] == run.asked["Reading"]["window"] == "0,100"
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [row["value"] for row in rows if row["metric"] == "skipped_images"] == [4]


# what decides the pixels decides the cache


def test_the_rule_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    path = manifest(tmp_path, "label", ["a", "b"] * 5)
    found = {window: data_fingerprint(dataset(path, window=window), FileHashes()) for window in ("auto", "0,9", "0,8")}
    assert len(set(found.values())) == 3
    assert found["auto"] == data_fingerprint(dataset(path, seed=5), FileHashes())


def test_the_libraries_that_decode_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    scan(tmp_path / "x.dcm", "p")
    nibabel.Nifti1Image(np.zeros((2, 2, 2)), np.eye(4)).to_filename(tmp_path / "v.nii")
    assert "pydicom" in ImageFiles([tmp_path / "x.dcm"]).reading
    assert "nibabel" in ImageFiles([Path(f"{tmp_path / 'v.nii'}#slice=1")]).reading
    assert set(ImageFiles([tmp_path / "x.png"], Reading()).reading) == {"rules", "window"}


def test_a_file_that_may_not_be_looked_at_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    looked = Path.is_file

    def refused(path: Path) -> bool:
        if path.name == "a.png":
            raise PermissionError
        return looked(path)

    monkeypatch.setattr(Path, "is_file", refused)
    assert [file.name for file in images_in(tmp_path)] == ["a.png"]
