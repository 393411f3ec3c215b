"""`benchmarks/compare_results.py`: what it finds equal, different and missing."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import compare_results

ROW = {"study": "layerwise", "arch": "a", "weights": "scratch", "tap": "stem", "metric": "auroc", "fold": None}


def folder(place: Path, *rows: dict[str, Any]) -> Path:
    place.mkdir()
    (place / "results.jsonl").write_text("".join(json.dumps({**ROW, **row}) + "\n" for row in rows))
    return place


def compared(a: Path, b: Path, tolerance: float = 0.0) -> compare_results.Count:
    return compare_results.compare_rows((a, b), tolerance)


def test_rows_match_whatever_their_order_columns_and_paths(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", {"value": 0.5, "weights": "/old/w.pth", "request": "x"}, {"value": 0.7, "tap": "b"})
    b = folder(tmp_path / "b", {"value": 0.7, "tap": "b"}, {"value": 0.5, "weights": "new/w.pth", "arm": "y"})
    count = compared(a, b)
    assert (count.equal, count.different, count.missing) == (2, [], [])
    assert count.say("numbers")


def test_numbers_differ_by_more_than_the_tolerance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = folder(tmp_path / "a", {"value": 0.5, "ci_low": 0.25}, {"tap": "b", "value": None})
    b = folder(tmp_path / "b", {"value": 0.5, "ci_low": 0.375}, {"tap": "b", "value": None})
    count = compared(a, b)
    assert (count.equal, [difference for difference, _ in count.different]) == (3, [0.125])
    assert not count.say("numbers")
    assert "3 equal, 1 different, 0 missing on one side; largest difference 0.125" in capsys.readouterr().out
    assert compared(a, b, tolerance=0.2).equal == 4


def test_a_number_that_only_one_side_has_or_defines(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", {"value": 0.5}, {"tap": "b", "value": 1.0})
    b = folder(tmp_path / "b", {"value": None})
    count = compared(a, b)
    assert count.equal == 0
    assert [difference for difference, _ in count.different] == [float("inf")]
    assert len(count.missing) == 1
    assert "'b'" in count.missing[0]


def test_the_later_of_two_rows_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = folder(tmp_path / "a", {"value": 0.1}, {"value": 0.5})
    assert compared(a, folder(tmp_path / "b", {"value": 0.5})).say("numbers")
    assert "1 rows are followed by one of the same" in capsys.readouterr().out


def test_arrays_of_equal_requests_are_compared_byte_by_byte(tmp_path: Path) -> None:
    for cache in ("a", "b"):
        for request in (1, 2):
            place = tmp_path / cache / f"{cache}{request}"
            place.mkdir(parents=True)
            (place / "manifest.json").write_text(json.dumps({"request": {"n": request}}))
            np.save(place / "stem.npy", np.full(3, request, np.float32))
    caches = tmp_path / "a", tmp_path / "b"
    count = compare_results.compare_caches(caches)
    assert (count.equal, count.different, count.missing) == (2, [], [])
    np.save(tmp_path / "b" / "b1" / "stem.npy", np.full(3, -0.0, np.float32))
    (tmp_path / "b" / "b2" / "stem.npy").unlink()
    count = compare_results.compare_caches(caches)
    assert (count.equal, len(count.different), len(count.missing)) == (0, 1, 1)


def test_the_exit_code_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = folder(tmp_path / "a", {"value": 0.5}), folder(tmp_path / "b", {"value": 0.6})
    for rest, code in (([a], 0), ([b], 1), ([b, "--tolerance", "0.2"], 0), ([], 2)):
        monkeypatch.setattr(sys, "argv", ["compare_results.py", str(a), *map(str, rest)])
        with pytest.raises(SystemExit) as stopped:
            compare_results.main()
        assert stopped.value.code == code
