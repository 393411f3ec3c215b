"""The demonstration: what it writes, and that its sentences are its numbers."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from probe.commands import main
from probe.records.result_rows import read_rows
from probe.studies import demo
from probe.studies.demo import HELD, LABELLED, Demo, run_demo


def test_the_second_half_has_few_labelled_images_of_every_class() -> None:
    first = demo._five(0, 1)
    second = demo._labelled(demo._five(5, 1), 1)
    assert (first.name, first.classes) == ("digits 0 to 4", ("0", "1", "2", "3", "4"))
    assert (second.classes, len(first) + len(second)) == (("5", "6", "7", "8", "9"), 1797)
    assert not set(first.ids.tolist()) & set(second.ids.tolist())
    counts = second.counts()
    assert (counts["train"], counts["val"]) == (LABELLED, HELD)
    for split, count in (("train", LABELLED), ("val", HELD)):
        assert np.bincount(second.labels[second.splits == split]).tolist() == [count // 5] * 5


@pytest.mark.slow
def test_three_sentences_and_a_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Demo] = []

    def quick(*given: object, **options: object) -> Demo:
        made.append(run_demo(*given, **options, epochs=1))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(demo, "run_demo", quick)
    found = CliRunner().invoke(main, ["demo", "--out", str(tmp_path), "--json"])
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert len(told["sentences"]) == 3
    assert {Path(file).name for file in told["files"]} >= {"weights.safetensors", "check.csv", "check.png"}
    assert all(Path(file).is_file() for file in told["files"])
    rows = read_rows(tmp_path / "results.jsonl")
    rows = rows[(rows.split == "test") & (rows.metric == "auroc") & (rows["class"] == "macro")]
    source = told["files"][0]
    best = made[0].check.study.summaries()[0]["best"]["tap"]
    probed = rows[(rows.weights == source) & (rows.tap == best) & (rows.method == "linear")]
    cut = rows[(rows.weights == source) & (rows.tap == best) & (rows.strategy == "ftl")]
    assert f"test AUROC {probed.value.item():.3f} [" in told["sentences"][0]
    assert f"test AUROC {cut.value.item():.3f} [" in told["sentences"][1]
    (verdict,) = (v for name, strategy, v in made[0].check.verdicts if (name, strategy) == (source, "ftl"))
    assert f"{verdict.spearman.value:.2f} [" in told["sentences"][2]
    assert f"costs {verdict.regret.value:.3f} [" in told["sentences"][2]
    assert not re.search(r"\bnan\b", " ".join(told["sentences"]))
