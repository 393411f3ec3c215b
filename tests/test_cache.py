"""The cache: keyed by everything that changes a bit, resumed after a kill, repaired after damage."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import BY_EIGHT, files, tiny_data, tiny_net

import probe
from probe.base.files import replace_text, write_signed
from probe.cache.manifest import read_manifest
from probe.cache.store import CHUNK
from probe.data import Dataset
from probe.features import Features, extract, walk
from probe.settings import Extraction


def test_a_mapping_from_tap_to_memory_mapped_array() -> None:
    net, data = tiny_net(), tiny_data()
    features = extract(net, data, BY_EIGHT)
    assert tuple(features) == net.taps
    assert all(isinstance(array, np.memmap) and array.dtype == np.float32 for array in features.values())
    assert features.ids is data.ids
    assert features.labels is data.labels
    assert (features.folder / "rows.csv").read_text().splitlines()[1] == f"0,a,,{data.splits[0]}"
    with pytest.raises(KeyError, match="did you mean 'layer1.0'"):
        features["layer1"]


def test_bytes_on_disk_are_the_payload(many: Dataset) -> None:
    features = extract(tiny_net(), many, BY_EIGHT)
    payload = sum(array.nbytes for array in features.values())
    assert sum(map(len, files(features).values())) == payload + 128 * len(features)
    assert sum(path.stat().st_size for path in features.folder.iterdir()) <= 1.02 * payload


def test_a_second_run_computes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    net, data = tiny_net(), tiny_data()
    first = files(extract(net, data, BY_EIGHT))
    monkeypatch.setattr(walk, "walk_dataset", None)
    assert files(extract(net, data, BY_EIGHT)) == first


def test_the_key_holds_everything_that_changes_a_bit() -> None:
    net, data = tiny_net(), tiny_data()
    base = extract(net, data, BY_EIGHT)
    pre = net.origin.preprocessing
    other_mean = tiny_net()
    other_mean.origin = replace(net.origin, preprocessing=replace(pre, mean=(0.1, 0.1, 0.1)))
    changed = [
        extract(probe.backbone("resnet10t", "scratch", image_size=64), data, BY_EIGHT),
        extract(probe.backbone("resnet10t", "scratch", image_size=32, seed=1), data, BY_EIGHT),
        extract(probe.backbone("resnet10t", "scratch", image_size=32, level="stage"), data, BY_EIGHT),
        extract(probe.backbone("resnet10t", "scratch", image_size=32, crop="center"), data, BY_EIGHT),
        extract(other_mean, data, BY_EIGHT),
        extract(net.cut("layer2.0"), data, BY_EIGHT),
        extract(net, data, replace(BY_EIGHT, pool="max")),
        extract(net, data, replace(BY_EIGHT, dtype="bfloat16")),
        extract(net, data, replace(BY_EIGHT, channels_last=False)),
        extract(net, tiny_data(n=22), BY_EIGHT),
    ]
    assert len({features.request for features in [base, *changed]}) == 11
    same = [extract(net, data, replace(BY_EIGHT, num_workers=1)), extract(net, data.redraw(5), BY_EIGHT)]
    assert {features.request for features in same} == {base.request}


def test_one_changed_weight_is_another_key() -> None:
    net, data = tiny_net(), tiny_data()
    before = extract(net, data, BY_EIGHT).request
    next(net.parameters()).data.view(-1)[0] += 1e-3
    assert extract(net, data, BY_EIGHT).request != before


def test_rows_state_the_splits_in_use() -> None:
    net, data = tiny_net(), tiny_data()
    extract(net, data, BY_EIGHT)
    features = extract(net, data.redraw(3), BY_EIGHT)
    written = [line.split(",")[3] for line in (features.folder / "rows.csv").read_text().splitlines()[1:]]
    assert written == data.redraw(3).splits.tolist()


@pytest.fixture
def many() -> Dataset:
    return tiny_data(n=CHUNK * 2 + 30, size=8)


def test_a_flipped_byte_is_found_and_made_again(many: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    net = tiny_net()
    features = extract(net, many, BY_EIGHT)
    whole = files(features)
    rng = np.random.default_rng(0)
    for name in list(whole)[:3]:
        damaged = bytearray(whole[name])
        damaged[int(rng.integers(len(damaged)))] ^= 1
        (features.folder / name).write_bytes(damaged)
        assert files(extract(net, many, BY_EIGHT)) == whole
    assert "damaged" in caplog.text


def test_missing_arrays_and_manifests_are_made_again(many: Dataset) -> None:
    net = tiny_net()
    features = extract(net, many, BY_EIGHT)
    whole = files(features)
    for victim in ("layer1.0.npy", "manifest.json"):
        (features.folder / victim).unlink()
        assert files(extract(net, many, BY_EIGHT)) == whole
    (features.folder / "manifest.json").write_text("{ half")
    assert files(extract(net, many, BY_EIGHT)) == whole


def test_an_array_never_mixes_two_batch_sizes(many: Dataset) -> None:
    net = tiny_net()
    features = extract(net, many, BY_EIGHT)
    whole = files(features)
    manifest = read_manifest(features.folder)
    del manifest["chunks"]["0"]
    write_signed(features.folder / "manifest.json", manifest)
    assert files(extract(net, many, Extraction(batch_size=50))) == whole


KILLED = """
import sys; sys.path.insert(0, {tests!r})
from helpers import BY_EIGHT, tiny_data, tiny_net
from probe.features import extract
import probe.cache.store as store, torch, time
torch.set_num_threads(1)
commit = store.Store.commit
def slow(self, start, block):
    commit(self, start, block); print("committed", flush=True); time.sleep(60 if start >= {after} else 0)
store.Store.commit = slow
extract(tiny_net('test_resnet'), tiny_data(n={n}, size=8), BY_EIGHT, cache={cache!r})
"""


@pytest.mark.parametrize("after", [0, CHUNK])
def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path, many: Dataset, after: int) -> None:
    net = tiny_net("test_resnet")
    expected = files(extract(net, many, BY_EIGHT))
    code = KILLED.format(tests=str(Path(__file__).parent), after=after, n=len(many), cache=str(tmp_path / "killed"))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(after // CHUNK + 1):
            assert process.stdout.readline() == "committed\n"
        process.send_signal(signal.SIGKILL)
    (folder,) = [path.parent for path in (tmp_path / "killed").glob("*/manifest.json")]
    assert len(json.loads((folder / "manifest.json").read_text())["chunks"]) == after // CHUNK + 1
    assert files(extract(net, many, BY_EIGHT, cache=tmp_path / "killed")) == expected


def test_two_at_once_make_it_once(many: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    walks = []
    real = walk.walk_dataset

    def counted(*args: object) -> object:
        walks.append(args)
        time.sleep(0.2)
        return real(*args)

    monkeypatch.setattr(walk, "walk_dataset", counted)
    found: list[Features] = []
    nets = [tiny_net(), tiny_net()]
    threads = [threading.Thread(target=lambda net=net: found.append(extract(net, many, BY_EIGHT))) for net in nets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(walks) == 1
    assert files(found[0]) == files(found[1])


def test_writers_of_one_text_do_not_take_each_others_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=5)
    monkeypatch.setattr(os, "fsync", lambda _: both.wait())  # each has written, neither has renamed
    threads = [threading.Thread(target=replace_text, args=(tmp_path / "rows.csv", text)) for text in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
    assert (tmp_path / "rows.csv").read_text() in ("one", "two")


def test_a_disk_too_small_is_told_before_the_first_image(monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))
    monkeypatch.setattr(walk, "walk_dataset", None)
    with pytest.raises(probe.ProbeError, match="GB free"):
        extract(tiny_net(), tiny_data(), BY_EIGHT)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    """Ten times the images, under 5 % more memory; measured in processes of their own."""
    peaks = []
    for n in (200, 2000):
        code = (
            f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            "from helpers import *; from probe.features import extract\n"
            "import resource, torch; torch.set_num_threads(1)\n"
            f"extract(tiny_net('test_resnet'), tiny_data(n={n}, size=4), BY_EIGHT, cache={str(tmp_path / str(n))!r})\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
        )
        peaks.append(
            int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        )
    assert peaks[1] < 1.05 * peaks[0]
