"""The cache under faults: flipped bytes, full and read-only disks, older versions, two writers, Ctrl-C."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import BY_EIGHT, extract_by_eight, files, tiny_data, tiny_net

import probe
from probe.backbones import NetworkSpec
from probe.base.files import Damaged, read_signed, write_signed
from probe.cache.arrays import ArrayFile
from probe.cache.inventory import entries
from probe.cache.manifest import read_manifest
from probe.cache.requests import Notebook
from probe.cache.store import Store
from probe.cache.upkeep import verify_all
from probe.commands.exits import STOPPED
from probe.data import FileHashes
from probe.features import Features, extract, walk
from probe.features.by_spec import features_of

DATA = tiny_data(n=300, size=8)


def content(features: Features) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(features.folder.iterdir())}


def damage(cache: Path) -> list[str]:
    return [fault for finding in verify_all(cache) for fault in finding["faults"]]


# flipped bytes


def test_no_byte_of_a_signed_file_can_change_unseen(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    write_signed(path, {"name": "\u00e9", "rows": 12, "spread": [0.1, 1e-9], "none": None, "deep": {"a": [{}]}})
    whole = path.read_bytes()
    for at in range(len(whole)):
        for change in (1, 2, 0x20, 0x2A, 0xFF):  # 0x2A turns a line break into a space
            path.write_bytes(bytes([*whole[:at], whole[at] ^ change, *whole[at + 1 :]]))
            with pytest.raises(Damaged):
                read_signed(path)
    for text in (b"", b"[]", b"null", b"[" * 100000, whole + b" ", whole[:-1]):
        path.write_bytes(text)
        with pytest.raises(Damaged):
            read_signed(path)


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    features = extract_by_eight(tmp_path, DATA)
    rng = np.random.default_rng(0)
    assert damage(tmp_path) == []
    for name, whole in content(features).items():
        places = [*range(0, 128, 9), *rng.integers(len(whole), size=10)]  # the header of an array, and anywhere
        for at in places:
            flipped = bytearray(whole)
            flipped[at] ^= int(rng.integers(1, 256))
            (features.folder / name).write_bytes(flipped)
            assert damage(tmp_path), (name, at)
        (features.folder / name).write_bytes(whole + b"0")
        assert damage(tmp_path), f"a byte more in {name}"
        (features.folder / name).write_bytes(whole)
    assert damage(tmp_path) == []


@pytest.mark.parametrize("at", [3, -1])
@pytest.mark.parametrize("name", ["stem.npy", "manifest.json", "rows.csv"])
def test_the_next_run_repairs_it(tmp_path: Path, name: str, at: int, caplog: pytest.LogCaptureFixture) -> None:
    features = extract_by_eight(tmp_path, DATA)
    whole = content(features)
    flipped = bytearray(whole[name])
    flipped[at] ^= 1
    (features.folder / name).write_bytes(flipped)
    assert content(extract_by_eight(tmp_path, DATA)) == whole
    (line,) = [record.message for record in caplog.records if "made again" in record.message]
    assert name in line
    assert damage(tmp_path) == []


def test_a_damaged_header_costs_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = extract_by_eight(tmp_path, DATA)
    whole = content(features)
    path = features.folder / "stem.npy"
    path.write_bytes(b"X" + whole["stem.npy"][1:] + b"more")
    monkeypatch.setattr(walk, "walk_dataset", None)
    assert content(extract_by_eight(tmp_path, DATA)) == whole


def by_name(cache: Path) -> Features:
    return features_of(NetworkSpec(arch="test_resnet", weights="scratch", image_size=32), DATA, BY_EIGHT, cache)


def test_a_damaged_note_on_a_network_is_found_and_made_again(tmp_path: Path) -> None:
    origin = by_name(tmp_path).origin
    (note,) = Notebook(tmp_path).files()
    whole = note.read_bytes()
    note.write_bytes(whole.replace(b'"arch": "test_resnet"', b'"arch": "best_resnet"'))
    assert damage(tmp_path) == [f"{note.name} is damaged"]
    assert by_name(tmp_path).origin == origin
    assert note.read_bytes() == whole


def test_a_note_of_another_version_is_no_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    by_name(tmp_path)
    (note,) = Notebook(tmp_path).files()
    old = read_signed(note)
    old["request"]["format"] = 1
    note.write_text(json.dumps(old))
    assert damage(tmp_path) == []
    assert by_name(tmp_path).origin["arch"] == "test_resnet"
    assert "damaged" not in caplog.text


def test_a_changed_hash_of_a_file_is_not_believed(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"a" * 5000)
    known = FileHashes(tmp_path).hash([file])
    place = tmp_path / "files.sqlite"
    place.write_bytes(place.read_bytes().replace(known[0].encode(), b"0" * 64))
    assert FileHashes(tmp_path).hash([file]) == known


def test_arrays_of_another_request_are_not_used(tmp_path: Path) -> None:
    features, other = extract_by_eight(tmp_path, DATA), extract_by_eight(tmp_path, tiny_data(n=40, size=8))
    expected = content(other)
    shutil.rmtree(other.folder)
    shutil.copytree(features.folder, other.folder)
    assert damage(tmp_path) == ["manifest.json belongs to another folder"]
    assert content(extract_by_eight(tmp_path, other.data)) == expected


def test_checking_takes_bounded_memory(tmp_path: Path) -> None:
    array = ArrayFile(tmp_path, "wide", 1 << 12, 1 << 12)  # 64 MB, of holes
    array.shape()
    tracemalloc.start()
    assert array.well_shaped()
    assert None not in array.checksums([range(1 << 12)])
    assert tracemalloc.get_traced_memory()[1] < 4e6
    tracemalloc.stop()


# disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_fills_up(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit, ballast = Store.commit, small_disk / "ballast"

    def fill(store: Store, start: int, block: object) -> None:
        commit(store, start, block)
        free = shutil.disk_usage(small_disk).free
        ballast.write_bytes(bytes(max(free - 8192, 0)))

    data = tiny_data(n=600, size=8)
    expected = files(extract_by_eight(small_disk.parent / "roomy", data))
    monkeypatch.setattr(Store, "commit", fill)
    with pytest.raises(probe.ProbeError, match="No space left on device; what is finished is kept"):
        extract_by_eight(small_disk, data)
    ballast.unlink()
    (entry,) = entries(small_disk)
    assert (entry.state, entry.done) == ("partial", 256)
    assert [path.name for path in Path(entry.folder).glob(".*")] == []
    monkeypatch.undo()
    assert files(extract_by_eight(small_disk, data)) == expected


def test_a_full_disk_at_any_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every array, manifest and `rows.csv` is synced; each in turn finds no space."""
    net, data = tiny_net("test_resnet"), tiny_data(n=270, size=4)
    syncs: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", syncs.append)
        whole = content(extract(net, data, BY_EIGHT, cache=tmp_path / "whole"))
    assert len(syncs) == 1 + 2 * (len(net.taps) + 1) + 2  # the manifest, two chunks, the rows and the manifest again
    for turn in range(len(syncs)):
        cache, left = tmp_path / str(turn), iter(range(turn))

        def full(_: int, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(probe.ProbeError, match="No space left on device; what is finished is kept"):
                extract(net, data, BY_EIGHT, cache=cache)
        assert damage(cache) == []
        assert [*cache.glob("*/.*")] == []
        assert content(extract(net, data, BY_EIGHT, cache=cache)) == whole


def test_a_warm_run_on_a_full_disk(small_disk: Path) -> None:
    whole = content(extract_by_eight(small_disk, DATA))
    (small_disk / "ballast").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    assert content(extract_by_eight(small_disk, DATA)) == whole


@pytest.fixture
def warm_read_only(tmp_path: Path) -> Iterator[Path]:
    """A cache with one set of features and its notes that nobody can write to."""
    place = tmp_path / "fixed"
    by_name(place)
    if os.geteuid():
        for path in (place, *place.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        yield place
        for path in (place, *place.rglob("*")):
            path.chmod(0o755)
        return
    commands = [["mount", "--bind", str(place), str(place)], ["mount", "-o", "remount,bind,ro", str(place)]]
    if any(subprocess.run(command, capture_output=True, check=False).returncode for command in commands):
        pytest.skip("root writes everywhere, and no file system may be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_read_only_cache_can_be_used(
    warm_read_only: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert damage(warm_read_only) == []
    extract_by_eight(warm_read_only, DATA)
    with monkeypatch.context() as patch:
        patch.setattr("probe.backbones.building.build", None)
        assert by_name(warm_read_only).origin["arch"] == "test_resnet"
    assert "cannot be written" not in caplog.text
    with pytest.raises(OSError, match="Read-only|Permission"):
        (warm_read_only / "new").touch()
    redrawn = extract_by_eight(warm_read_only, DATA.redraw(5))
    assert redrawn.splits.tolist() == DATA.redraw(5).splits.tolist()
    assert "rows.csv is not of these labels and splits and cannot be written" in caplog.text


def test_what_a_read_only_cache_lacks_is_an_error_in_one_line(warm_read_only: Path) -> None:
    words = f"cannot write to the cache '{warm_read_only}': (Read-only file system|Permission denied).*; choose another"
    with pytest.raises(probe.ProbeError, match=words):
        extract_by_eight(warm_read_only, tiny_data(n=10))


# versions


def test_a_manifest_of_another_version_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    features = extract_by_eight(tmp_path, DATA)
    whole = content(features)
    path = features.folder / "manifest.json"
    manifest = read_manifest(features.folder)
    unsigned = manifest | {"request": manifest["request"] | {"format": 1}}
    fewer = {key: value for key, value in manifest.items() if key != "batch_size"}
    for write in (lambda: path.write_text(json.dumps(unsigned)), lambda: write_signed(path, fewer)):
        caplog.clear()
        write()
        (entry,) = entries(tmp_path)
        assert (entry.state, entry.arch) == ("old", "test_resnet")
        assert damage(tmp_path) == []  # it is no damage
        assert content(extract_by_eight(tmp_path, DATA)) == whole
        (line,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
        assert "written by another version" in line


def test_features_of_other_versions_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="probe")
    first = extract_by_eight(tmp_path, DATA)
    now = first.details["versions"]
    monkeypatch.setattr("probe.cache.requests.versions", lambda: now | {"torch": "9.9"})
    second = extract_by_eight(tmp_path, DATA)
    assert second.request != first.request
    assert f"other versions (torch {now['torch']}, now 9.9), in {first.request}" in caplog.text


# processes

EXTRACT = [
    sys.executable,
    "-m",
    "probe",
    "extract",
    "--arch",
    "test_resnet",
    "--weights",
    "scratch",
    "--image-size",
    "64",
]


def start(cache: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*EXTRACT, "--cache", str(cache)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[1], env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.slow
def test_a_second_process_waits_and_goes_on_where_ctrl_c_ended_the_first(tmp_path: Path) -> None:
    with start(tmp_path) as first:
        while not entries(tmp_path) or not entries(tmp_path)[0].done:
            assert first.poll() is None
            time.sleep(0.01)
        first.send_signal(signal.SIGSTOP)
        done = entries(tmp_path)[0].done or 0
        with start(tmp_path) as second:
            assert second.stderr is not None
            assert "another process is making the same features" in second.stderr.readline()
            first.send_signal(signal.SIGINT)
            first.send_signal(signal.SIGCONT)
            _, words = first.communicate(timeout=300)
            second.communicate(timeout=300)
    assert (first.returncode, words.splitlines()[-1]) == (130, STOPPED)
    assert "Traceback" not in words
    assert second.returncode == 0
    (entry,) = entries(tmp_path)
    assert (entry.state, entry.rows) == ("complete", 1797)
    assert 0 < done < 1797
    assert damage(tmp_path) == []


def test_ctrl_c_in_a_place_that_swallows_exceptions(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal, probe.data; from click.testing import CliRunner; from probe.commands import main\n"
        "class Swallow:\n    def __del__(self): os.kill(os.getpid(), signal.SIGINT)\n"
        "def dataset(*a, **k): Swallow(); return None\n"
        "probe.data.dataset = dataset; sys.argv = ['probe', 'extract', '--arch', 'x']; main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, len(result.stderr.splitlines())) == (130, 1)
