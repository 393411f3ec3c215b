"""`probe cache`: what is listed, verified, measured and removed."""

import json
import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from filelock import FileLock
from helpers import extract_by_eight, tiny_data

from probe.cache.inventory import entries
from probe.cache.store import lock_of
from probe.commands import main


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two sets of features, and things that are not ours."""
    for n in (40, 20):
        extract_by_eight(tmp_path / "cache", tiny_data(n=n, size=4))
    (tmp_path / "cache" / ("0" * 32)).mkdir()
    (tmp_path / "cache" / ("0" * 32) / "letter.txt").write_text("not ours")
    (tmp_path / "cache" / "recipes").mkdir()
    (tmp_path / "cache" / "recipes" / "soup.json").write_text("not ours")
    return tmp_path / "cache"


def run(place: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["cache", *arguments, "--cache", str(place)], prog_name="probe")


def test_ls(place: Path) -> None:
    found = json.loads(run(place, "ls", "--json").stdout)
    assert [entry["rows"] for entry in found] == [20, 40]
    (entry, _) = found
    assert (entry["arch"], entry["weights"], entry["dataset"], entry["taps"]) == ("test_resnet", "scratch", "tiny", 5)
    assert (entry["state"], entry["done"]) == ("complete", 20)
    there = Path(entry["folder"])
    assert there.name == entry["digest"]
    assert entry["bytes"] == sum(path.stat().st_blocks * 512 for path in there.iterdir())
    head, first, _ = run(place, "ls").stdout.splitlines()
    assert head.split() == ["digest", "state", "arch", "weights", "data", "taps", "images", "MB", "last", "used"]
    assert first.split()[:7] == [entry["digest"][:12], "complete", "test_resnet", "scratch", "tiny", "5", "20"]


def test_using_features_puts_them_first(place: Path) -> None:
    for path in place.glob("*/manifest.json"):
        os.utime(path, (1, 1))
    extract_by_eight(place, tiny_data(n=40, size=4))
    assert [entry.rows for entry in entries(place)] == [40, 20]


def test_verify(place: Path) -> None:
    result = run(place, "verify")
    assert (result.exit_code, result.stdout.count("complete")) == (0, 3)
    first, second = (entry.digest for entry in entries(place))
    array = place / first / "stem.npy"
    array.write_bytes(array.read_bytes()[:-1] + b"x")
    result = run(place, "verify", "--json")
    assert result.exit_code == 1
    found = {finding["name"]: finding for finding in json.loads(result.stdout)}
    assert found[first] == {
        "name": first,
        "state": "damaged",
        "faults": ["stem.npy: rows 0 to 19 are damaged"],
    }
    assert run(place, "verify", second[:6]).exit_code == 0
    (place / first / "manifest.json").write_bytes(b"\xff")
    result = run(place, "verify", first[:6])
    assert (result.exit_code, "manifest.json is damaged" in result.stdout) == (1, True)


def test_rm_by_prefix(place: Path) -> None:
    first, second = (entry.digest for entry in entries(place))
    result = run(place, "rm", first[:8], "--json")
    assert (result.exit_code, json.loads(result.stdout)["removed"]) == (0, [first])
    assert [entry.digest for entry in entries(place)] == [second]
    assert extract_by_eight(place, tiny_data(n=20, size=4)).request == first


def test_rm_refuses_what_is_unknown_or_ambiguous(place: Path) -> None:
    first, second = (entry.digest for entry in entries(place))
    (place / second).rename(place / (first[:8] + second[8:]))
    result = run(place, "rm", first[:5])
    assert (result.exit_code, f"begins 2 digests: {first}" in result.stderr) == (1, True)
    result = run(place, "rm", first, first[:-1] + "x")
    assert (result.exit_code, f"did you mean '{first}'" in result.stderr) == (1, True)
    assert run(place, "rm", "").exit_code == 1
    assert len(entries(place)) == 2
    for wrong in ([], ["--all", "--older-than", "3"], [first, "--all"], ["--older-than", "-1"]):
        assert run(place, "rm", *wrong).exit_code == 2


def test_rm_by_age(place: Path) -> None:
    first, second = entries(place)
    old = time.time() - 10 * 86400
    os.utime(Path(first.folder) / "manifest.json", (old, old))
    assert "0 removed" in run(place, "rm", "--older-than", "11").stdout
    assert first.digest in run(place, "rm", "--older-than", "9").stdout
    assert [entry.digest for entry in entries(place)] == [second.digest]


def test_what_a_process_works_on_stays(place: Path) -> None:
    first, second = entries(place)
    with FileLock(lock_of(Path(first.folder)).lock_file):
        states = {finding["name"]: finding["state"] for finding in json.loads(run(place, "verify", "--json").stdout)}
        assert states[first.digest] == "in use"
        assert run(place, "rm", first.digest).exit_code == 1
        result = run(place, "rm", "--all")
    assert (result.exit_code, second.digest in result.stdout) == (1, True)
    assert f"in use by another process and kept: {first.digest}" in result.stderr
    assert [entry.digest for entry in entries(place)] == [first.digest]


def test_rm_all_leaves_what_is_not_ours(place: Path) -> None:
    assert run(place, "rm", "--all").exit_code == 0
    left = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    assert {name for name in left if not name.startswith("locks/")} == {"0" * 32 + "/letter.txt", "recipes/soup.json"}


def test_size(place: Path) -> None:
    found = json.loads(run(place, "size", "--json").stdout)
    assert found["entries"] == 2
    assert found["features"] == sum(entry.bytes for entry in entries(place))
    assert found["free"] > 0
    assert "2 sets of features" in run(place, "size").stdout


@pytest.mark.parametrize("action", ["ls", "verify", "size"])
def test_no_cache_is_an_empty_one(tmp_path: Path, action: str) -> None:
    assert run(tmp_path / "none", action).exit_code == 0
    assert not (tmp_path / "none").exists()


def test_a_file_is_no_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = run(tmp_path / "file", "ls")
    assert (result.exit_code, "cannot read the cache" in result.stderr) == (1, True)
