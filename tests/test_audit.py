"""The audit: what was planted is found, what is clean stays quiet, and no pair of near copies is missed."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

from probe.audit import Audit, audit_dataset, copies, quick_audit
from probe.audit.copies import perceptual_hash
from probe.audit.misaligned_labels import label_relation
from probe.audit.report import audit_lines
from probe.audit.sample_images import IMAGES, samples
from probe.commands import main
from probe.data import Dataset, FileHashes, dataset, file_hashes, make_dataset
from probe.data.image_sources import ImageArrays, ImageFiles
from probe.settings import Network, ProbeGrid
from probe.studies.layerwise import run_layerwise

SIDE = 40


def pictures(n: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth random images, brighter on the left in every second one, (n, side, side, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 170, (n, 10, 10, 3), dtype=np.uint8)
    coarse[1::2, :, :5] += 80
    big = [np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for image in coarse]
    return np.stack(big)


def folder(place: Path, n: int = 120, head: str = "file,label,split") -> Path:
    """A clean manifest: two classes told apart by brightness, three in five of train, one of val, one of test."""
    (place / "images").mkdir(parents=True)
    for i, image in enumerate(pictures(n)):
        Image.fromarray(image).save(place / "images" / f"{i:03d}.png")
    write(place, [f"images/{i:03d}.png,{'ab'[i % 2]},{split_of(i)}" for i in range(n)], head)
    return place / "labels.csv"


def split_of(row: int) -> str:
    return ["train", "train", "train", "val", "test"][row // 2 % 5]


def write(place: Path, rows: Sequence[str], head: str = "file,label,split") -> None:
    (place / "labels.csv").write_text("\n".join([head, *rows]) + "\n")


def lines(manifest: Path) -> list[str]:
    return manifest.read_text().splitlines()[1:]


def kinds(audit: Audit) -> list[str]:
    return [finding.kind for finding in audit.findings]


def arrays(images: NDArray[np.uint8], labels: NDArray[np.int64], **more: Sequence[str] | None) -> Dataset:
    count = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
    splits = more.pop("splits", None) or [split_of(i) for i in range(len(images))]
    ids = [f"{i}.png" for i in range(len(images))]
    return make_dataset("t", ImageArrays([images]), ids, labels, [f"c{i}" for i in range(count)], splits=splits, **more)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="probe")


# known answers


def test_clean_data_are_clean(tmp_path: Path) -> None:
    audit = audit_dataset(dataset(folder(tmp_path)))
    assert audit.findings == []
    assert not audit.leaks
    assert audit.sizes == {"40x40": 120}
    assert audit.modes == {"RGB": 120}
    assert audit.counts() == {name: {"train": 36, "val": 12, "test": 12} for name in "ab"}
    assert audit.relations["train"].p == 0.001


@pytest.mark.parametrize("drawn", [False, True])
def test_a_duplicate_planted_across_splits_is_found(tmp_path: Path, drawn: bool) -> None:
    manifest = folder(tmp_path)
    shutil.copy(tmp_path / "images/000.png", tmp_path / "images/copy.png")
    rows = [*lines(manifest), "images/copy.png,a,test"]
    if drawn:
        write(tmp_path, [row.rpartition(",")[0] for row in rows], "file,label")
    else:
        write(tmp_path, rows)
    seed = next(s for s in range(20) if (of := dataset(manifest, seed=s).splits)[0] != of[-1])
    audit = audit_dataset(dataset(manifest, seed=seed))
    (finding,) = [finding for finding in audit.findings if finding.level == "leakage"]
    assert finding.kind == "identical"
    assert finding.sets == (("images/000.png", "images/copy.png"),)
    assert quick_audit(dataset(manifest, seed=seed), FileHashes()) == audit.findings


@pytest.mark.parametrize("change", ["jpeg", "smaller", "brighter", "png of the same pixels"])
def test_a_changed_copy_across_splits_is_found(tmp_path: Path, change: str) -> None:
    manifest = folder(tmp_path)
    image = Image.open(tmp_path / "images/000.png")
    name = "copy.jpg" if change == "jpeg" else "copy.png"
    image = image.resize((30, 30)) if change == "smaller" else image
    image = ImageEnhance.Brightness(image).enhance(1.2) if change == "brighter" else image
    image.save(tmp_path / "images" / name, **({"quality": 75} if change == "jpeg" else {"compress_level": 0}))
    write(tmp_path, [*lines(manifest), f"images/{name},b,test"])
    data = dataset(manifest)
    audit = audit_dataset(data)
    (finding,) = [finding for finding in audit.findings if finding.level == "leakage"]
    assert finding.kind == ("identical" if change.startswith("png") else "near_identical")
    assert finding.sets == (("images/000.png", f"images/{name}"),)
    assert f"{finding.kind}_labels" in kinds(audit)  # the original is an a
    assert audit.images["copies"].tolist() == ["images/000.png", *[""] * 119, "images/000.png"]
    assert quick_audit(data, FileHashes()) == []  # another file


def test_a_patient_planted_in_two_splits_is_found() -> None:
    data = arrays(pictures(40), np.arange(40) % 2, groups=[f"p{i}" for i in range(40)])
    names = data.groups.astype(object)
    names[[0, 1, 39]] = "mary"
    object.__setattr__(data, "groups", names.astype(str))  # the readers refuse it
    for findings in (audit_dataset(data).findings, quick_audit(data, FileHashes())):
        assert findings[0].level == "leakage"
        assert findings[0].text == "1 group in more than one split: 'mary' (2 train, 1 test)"
        assert findings[0].sets == (("0.png", "1.png", "39.png"),)


def test_the_command_goes_on_after_a_torn_group(tmp_path: Path) -> None:
    manifest = folder(tmp_path, 20)
    write(tmp_path, [f"{row},p{i % 19}" for i, row in enumerate(lines(manifest))], "file,label,split,group")
    result = invoke("data", str(manifest), "--out", str(tmp_path / "out"), "--json")
    assert result.exit_code == 1
    (finding,) = json.loads(result.stdout)["findings"]
    assert finding["kind"] == "torn_groups"
    assert finding["text"] == "1 group in more than one split: 'p0' (1 train, 1 test)"


@pytest.mark.parametrize("slip", ["permuted", "shifted", "sorted"])
def test_a_mislabelled_row_order_is_found(slip: str) -> None:
    labels = np.random.default_rng(1).integers(0, 2, 300)
    images = np.empty((300, SIDE, SIDE, 3), np.uint8)
    images[labels == 0], images[labels == 1] = (
        pictures(600)[::2][: (labels == 0).sum()],
        pictures(600)[1::2][: labels.sum()],
    )
    wrong = {"permuted": np.random.default_rng(3).permutation(labels), "shifted": np.roll(labels, 1)}
    audits = [audit_dataset(arrays(images, of)) for of in (labels, wrong.get(slip, np.sort(labels)))]
    assert kinds(audits[0]) == []
    assert set(kinds(audits[1])) == {"row_order"}
    assert [split for split, of in audits[1].relations.items() if of.p > 0.01] == ["train", "val", "test"]


def test_one_split_out_of_order_is_found_alone() -> None:
    labels = np.arange(600) % 2
    data = arrays(pictures(600), labels)
    test = np.flatnonzero(data.splits == "test")
    labels[test] = np.random.default_rng(0).permutation(labels[test])
    (finding,) = audit_dataset(arrays(pictures(600), labels)).findings
    assert (finding.level, finding.kind) == ("warning", "row_order")
    assert finding.text.startswith("test: ")


def test_file_names_against_labels(tmp_path: Path) -> None:
    manifest = folder(tmp_path, 40)
    rows = []
    for i, row in enumerate(lines(manifest)):
        name = f"images/{'Benign' if i % 2 else 'benign-tumor'}_{i}.png"
        (tmp_path / row.split(",")[0]).rename(tmp_path / name)
        rows.append(f"{name},{'benign' if i % 2 else 'benign tumor'},{split_of(i)}")
    write(tmp_path, rows)
    assert quick_audit(dataset(manifest), FileHashes()) == []
    rows[0] = rows[0].replace(",benign tumor", ",benign")
    write(tmp_path, rows)
    (finding,) = quick_audit(dataset(manifest), FileHashes())
    assert finding.text.startswith("1 of 40 files named after a class have the label of another: images/benign-tumor_0")


def test_what_is_missing_rare_unreadable_blank_or_mixed_is_a_warning(tmp_path: Path) -> None:
    manifest = folder(tmp_path)
    (tmp_path / "images/000.png").write_bytes(b"no image")
    Image.new("L", (8, 8), 7).save(tmp_path / "images/001.png")
    rows = lines(manifest)
    write(tmp_path, [row.replace(",b,val", ",a,val") for row in rows[:-1]] + [rows[-1].replace(",b,", ",once,")])
    audit = audit_dataset(dataset(manifest))
    texts = {finding.kind: finding.text for finding in audit.findings}
    assert {finding.level for finding in audit.findings} == {"warning"}
    assert (
        texts["unreadable"]
        == f"1 image cannot be read: '{tmp_path}/images/000.png' is not an image that Pillow can read"
    )
    assert texts["single_colour"] == "1 image of a single colour: images/001.png"
    assert texts["missing_class"] == "2 classes missing from a split: 'b' from val; 'once' from train and val"
    assert texts["single"] == "1 label on one image only: 'once'"
    assert texts["several_sizes"] == "2 sizes: 40x40 (118); 8x8 (1)"
    assert texts["several_modes"] == "2 modes: RGB (118); L (1)"
    assert audit.images["error"].ne("").tolist() == [True, *[False] * 119]


def test_an_unknown_label_is_counted_apart_and_contradicts_none() -> None:
    labels = np.stack([np.arange(40) % 2, np.arange(40) // 2 % 2], 1)
    images = pictures(40)
    images[[1, 2, 3]] = images[0]  # all of train
    labels[:4] = [[1, 0], [1, -1], [-1, 0], [1, 0]]
    audit = audit_dataset(arrays(images, labels))
    assert kinds(audit) == ["identical_within"]
    assert [of["unknown"] for of in audit.counts().values()] == [1, 1]
    labels[3, 0] = 0
    assert kinds(audit_dataset(arrays(images, labels))) == ["identical_labels", "identical_within"]


# near copies


RUNS = st.tuples(st.integers(0, 2), st.integers(0, 200), st.integers(0, 50))  # of flipped bits, in one of three hashes


@given(st.lists(RUNS, min_size=1, max_size=40), st.integers(0, 60))
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_no_pair_is_missed(runs: list[tuple[int, int, int]], radius: int) -> None:
    """Against all distances by SciPy, a few rows at a time."""
    bits = np.random.default_rng(0).integers(0, 2, (3, 256), dtype=np.uint8)[[base for base, _, _ in runs]]
    for row, (_, start, length) in zip(bits, runs, strict=True):
        row[start : start + length] ^= 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "BLOCK", 3)
        found = copies.near_sets(np.packbits(bits, axis=1).view(np.uint64), radius)
    near = np.round(cdist(bits, bits, "hamming") * 256) <= radius
    expected = connected_components(near, directed=False)[1]
    np.testing.assert_array_equal(found[:, None] == found, expected[:, None] == expected)


def test_a_hash_holds_through_what_copying_does_and_tells_images_apart() -> None:
    images = [Image.fromarray(image) for image in pictures(20)]
    hashes = np.stack([perceptual_hash(image) for image in images])
    grey = np.stack([perceptual_hash(image.convert("L").convert("RGB")) for image in images])
    np.testing.assert_array_equal(hashes, grey)
    apart = np.bitwise_count(hashes[:, None] ^ hashes[None]).sum(-1)
    assert apart[~np.eye(20, dtype=bool)].min() > 64


# labels and looks


@pytest.mark.parametrize("several", [False, True])
def test_under_chance_the_p_value_is_uniform(several: bool) -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(30):
        labels = rng.integers(-1, 2, (60, 3)) if several else np.eye(3, dtype=int)[rng.integers(0, 3, 60)]
        relation = label_relation(rng.integers(0, 255, (60, 4), dtype=np.uint8), labels, None, rng)
        assert relation is not None
        found.append(relation.p)
    assert 0.35 < np.mean(found) < 0.65
    assert np.mean(np.array(found) <= 0.1) < 0.25


def test_agreement_of_labels_that_images_give_away_is_full_and_too_few_say_nothing() -> None:
    labels = np.arange(80) % 2
    thumbnails = np.where(labels[:, None] == [[0, 1, 0, 1]], 0, 200).astype(np.uint8)
    rng = np.random.default_rng(0)
    answers = np.eye(2, dtype=int)[labels]
    relation = label_relation(thumbnails, answers, None, rng)
    assert relation is not None
    assert (relation.agreement, relation.p, relation.images) == (pytest.approx(1), 0.001, 80)
    assert label_relation(thumbnails[:49], answers[:49], None, rng) is None
    assert label_relation(thumbnails, answers, np.array([f"p{i % 40}" for i in range(80)]), rng) is None
    assert label_relation(thumbnails, answers[np.r_[np.zeros(77), np.ones(3)].astype(int)], None, rng) is None


# the command


def test_the_command_prints_writes_and_exits(tmp_path: Path) -> None:
    manifest = folder(tmp_path, 20)
    out = tmp_path / "out"
    result = invoke("data", str(manifest), "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "nothing found" in result.stdout
    shutil.copy(tmp_path / "images/000.png", tmp_path / "images/copy.png")
    write(tmp_path, [*lines(manifest), "images/copy.png,a,test"])
    result = invoke("data", str(manifest), "--out", str(out), "--json")
    answer = json.loads(result.stdout)
    assert result.exit_code == 1
    assert answer["leakage"]
    assert answer["findings"][0]["sets"] == [["images/000.png", "images/copy.png"]]
    assert answer["classes"]["a"] == {"train": 6, "val": 2, "test": 3}
    assert json.loads((out / "audit.json").read_text()).items() <= answer.items()
    names = ["audit.json", "audit.csv", "contact-00-a.png", "contact-01-b.png"]
    assert [Path(file).name for file in answer["files"]] == names
    for file in answer["files"][2:]:
        with Image.open(file) as sheet:
            assert sheet.width > 1000


def test_the_main_job_says_what_the_quick_audit_finds_and_reads_no_image_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = folder(tmp_path, 20)
    shutil.copy(tmp_path / "images/000.png", tmp_path / "images/copy.png")
    write(tmp_path, [*lines(manifest), "images/copy.png,a,test"])
    for _ in range(2):
        caplog.clear()
        study = run_layerwise(
            ["test_resnet"], ["scratch"], manifest, network=Network(image_size=32), grid=ProbeGrid(draws=100)
        )
        text = "LEAKAGE: 1 set of identical images in more than one split, 1 of them in test: images/000.png (train) = "
        assert text in caplog.text
        assert [finding["kind"] for finding in study.facts["audit"]] == ["identical"]
        monkeypatch.setattr(file_hashes, "hash_file", lambda file: pytest.fail(f"{file} is read again"))
        monkeypatch.setattr(ImageFiles, "load", lambda images, row: pytest.fail(f"image {row} is read again"))


def test_samples_are_seeded_readable_and_in_order_of_splits() -> None:
    labels = np.stack([np.arange(100) % 2, np.zeros(100, int)], 1)
    data = arrays(pictures(100), labels)
    readable = np.arange(100) < 80
    first, again, other = (dict(samples(data, readable, seed)) for seed in (0, 0, 1))
    assert list(first) == ["00-c0", "02-no_label"]  # nothing is c1
    sheet = first["00-c0"]
    assert sheet["names"] == again["00-c0"]["names"] != other["00-c0"]["names"]
    rows = [int(name.split(".")[0]) for name in sheet["names"]]
    assert len(set(rows)) == IMAGES
    assert all(row % 2 and row < 80 for row in rows)
    assert sheet["splits"] == [split_of(row) for row in rows]
    assert sheet["splits"] == sorted(sheet["splits"], key=["train", "val", "test"].index)
    np.testing.assert_array_equal(sheet["images"][0], pictures(100)[rows[0]])
    assert sheet["title"] == "t: c0, 24 of 50 images"


def test_words_name_counts_forms_and_relations() -> None:
    data = arrays(pictures(100), np.stack([np.arange(100) % 2, np.arange(100) // 2 % 2], 1))
    text = "\n".join(audit_lines(audit_dataset(data)))
    for words in ("t: 100 images, 2 classes, multilabel", "unknown", "sizes: 40x40 (100)", "train 0."):
        assert words in text
