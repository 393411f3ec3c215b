"""The search in two steps: which taps it asks for, what it takes, and what stands beside it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import FAST, SMALL, shapes_data
from test_check import same_cells

import probe
from probe import finetuning
from probe.backbones import Layout, Tap
from probe.base.errors import ProbeError
from probe.commands import main
from probe.studies.cut_search import search_cut, stage_ends

SIZES = (16, 16, 16, 8, 8, 8, 4, 4, 4, 2, 2)


def tap(index: int, layout: str, *shape: int) -> Tap:
    return Tap(name=f"t{index}", index=index, depth=0.0, layout=Layout(layout), shape=shape)


TAPS = [tap(i, "nchw", 10 + i, size, size) for i, size in enumerate(SIZES)]
ENDS = ["t2", "t5", "t8", "t10"]


class Ground:
    """Networks whose scores are given: on validation by tap, on test another; trained ones are counted."""

    def __init__(self, val: list[float], test: list[float] | None = None, known: int = 0) -> None:
        self.val, self.test = val, test or val
        self.known = {f"t{i}" for i in range(known)}
        self.trained: list[tuple[str, int]] = []

    def cell(self, tap: str, seed: int) -> dict[str, Any]:
        place = int(tap[1:])
        draws = [self.test[place] + 0.001 * k for k in range(101)]
        return {"tap": tap, "seed": seed, "val": self.val[place] + 0.1 * seed, "draws": draws}

    def train(self, tap: str, seed: int) -> dict[str, Any]:
        self.trained.append((tap, seed))
        return self.cell(tap, seed)

    def recall(self, tap: str, seed: int) -> dict[str, Any] | None:
        return self.cell(tap, seed) if tap in self.known else None


def test_ends_are_the_last_of_each_resolution() -> None:
    assert stage_ends(TAPS) == ENDS
    tokens = [tap(i, "ntd", 50, 192) for i in range(12)]
    assert stage_ends(tokens) == ["t2", "t5", "t8", "t11"]  # one resolution throughout: quarters
    maps = [tap(i, "nhwc", 8 // 2**i, 8 // 2**i, 96) for i in range(4)]
    assert stage_ends(maps) == ["t0", "t1", "t2", "t3"]


@pytest.mark.parametrize(("peak", "around"), [(7, ["t6", "t7", "t9"]), (10, ["t9"]), (0, ["t0", "t1", "t3", "t4"])])
def test_the_blocks_around_the_best_end_are_trained(peak: int, around: list[str]) -> None:
    val = [1 - 0.01 * abs(i - peak) for i in range(len(TAPS))]
    ground = Ground(val)
    search, trained = search_cut(TAPS, (0, 1), ground.train, ground.recall)
    assert (search.ends, search.around, search.found) == (ENDS, around, f"t{peak}")
    assert sorted(ground.trained) == sorted((tap, seed) for tap in [*ENDS, *around] for seed in (0, 1))
    assert (search.trained, search.every) == (len(ground.trained), 22)
    places = [int(cell["tap"][1:]) for cell in trained]
    assert places == sorted(places)  # bottom to top
    assert (search.oracle, search.regret, search.missing) == (None, None, 11 - len(ENDS) - len(around))


def test_only_validation_is_looked_at_and_of_equals_the_lower_wins() -> None:
    flat = Ground([0.5] * 11, test=list(np.linspace(0, 1, 11)))
    assert search_cut(TAPS, (0,), flat.train, flat.recall)[0].found == "t0"
    low = Ground([float(abs(i - 4)) for i in range(11)])
    assert search_cut(TAPS, (0,), low.train, low.recall, sign=-1)[0].found == "t4"  # less is better


def test_a_search_misses_a_peak_far_from_the_ends_and_says_so() -> None:
    val = [0.5, 0.95, 0.5, 0.5, 0.5, 0.6, 0.6, 0.7, 0.8, 0.6, 0.6]
    test = [0.5, 0.7, 0.5, 0.5, 0.9, 0.6, 0.6, 0.6, 0.65, 0.6, 0.6]
    ground = Ground(val, test, known=11)
    search, _ = search_cut(TAPS, (0,), ground.train, ground.recall)
    assert (search.found, search.chosen, search.oracle, search.missing) == ("t8", "t1", "t4", 0)
    assert search.regret is not None
    assert search.oracle_regret is not None
    assert search.regret.value == pytest.approx(0.05)
    assert search.oracle_regret.value == pytest.approx(0.25)
    assert search.regret.low == pytest.approx(0.05)  # the draws are paired
    fewer = Ground(val, test, known=10)  # t10 is an end, and was trained
    assert search_cut(TAPS, (0,), fewer.train, fewer.recall)[0].missing == 0
    with pytest.raises(ProbeError, match="nothing to search among 2 taps: t0, t1"):
        search_cut(TAPS[:2], (0,), ground.train, ground.recall)


def test_a_check_searches_and_knows_what_was_trained_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = shapes_data(60)
    asked: dict[str, Any] = {"seeds": [0], "out": tmp_path, "network": SMALL, "training": FAST}
    found = probe.check("resnet10t", ["scratch"], data, search="two-stage", **asked)
    ((weights, strategy, search),) = found.searches
    assert (weights, strategy) == ("scratch", "ftl")
    assert search.trained == len(found.cells) == len(found.taps)
    assert {cell["tap"] for cell in found.cells} == {*search.ends, *search.around}
    best = max(found.cells, key=lambda cell: cell["val"])
    assert search.found == best["tap"]
    assert len(found.verdicts) == 1
    every = probe.check("resnet10t", ["scratch"], data, taps=range(5), **asked)
    assert not every.searches
    monkeypatch.setattr(finetuning, "finetune", None)  # from here on nothing is trained
    again = probe.check("resnet10t", ["scratch"], data, search="two-stage", **asked)
    ((*_, beside),) = again.searches
    assert same_cells(again.cells, found.cells)
    table = {cell["tap"]: cell for cell in every.cells}
    assert beside.missing == 0
    assert beside.chosen == max(table, key=lambda tap: table[tap]["val"])
    lost = table[beside.chosen]["draws"][0] - table[beside.found]["draws"][0]
    assert beside.regret is not None
    assert beside.regret.value == pytest.approx(lost)
    with pytest.raises(ProbeError, match="a two-stage search finds its taps itself; leave out 0, 1, 2"):
        probe.check("resnet10t", ["scratch"], data, search="two-stage", taps=[0, 1, 2], **asked)
    with pytest.raises(ProbeError, match="unknown search 'three-stage'; did you mean 'two-stage'"):
        probe.check("resnet10t", ["scratch"], data, search="three-stage", **asked)


def test_the_command_tells_what_the_search_found(tmp_path: Path) -> None:
    data = shapes_data(60)
    images = np.stack([np.asarray(data.images.load(row)) for row in range(60)])
    parts = {f"{split}_{kind}": column[at : at + 20] for at, split in ((0, "train"), (20, "val"), (40, "test"))
             for kind, column in (("images", images), ("labels", data.labels[:, None]))}  # fmt: skip
    np.savez(tmp_path / "shapes.npz", **parts)
    shown = ["check", "--arch", "resnet10t", "--weights", "scratch", "--data", tmp_path / "shapes.npz", "--image-size",
             32, "--search", "two-stage", "--strategy", "ftl", "--seeds", 1, "--epochs", 1, "--draws", 100,
             "--out", tmp_path / "out"]  # fmt: skip
    result = CliRunner().invoke(main, list(map(str, shown)))
    assert result.exit_code == 0, result.output
    assert "networks trained where training everywhere takes 5" in result.stdout
    told = json.loads(CliRunner().invoke(main, [*map(str, shown), "--json"]).stdout)
    assert told["searches"][0]["every"] == 5
