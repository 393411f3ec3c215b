"""The whole story on a small network and scikit-learn's digits: pretrained on five, probed, cut and trained on five.

Nothing is fetched. Which taps win here says nothing of larger networks and real images.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from probe.base.runtime import log
from probe.data import Dataset, dataset, make_dataset
from probe.data.image_sources import ImageArrays
from probe.settings import Network, Training
from probe.studies.check import Check, write_check
from probe.studies.check import check as check_cuts
from probe.studies.finetune import Trainings
from probe.studies.pretrain import WEIGHTS, run_pretrain

ARCH, SIZE = "test_resnet", 32  # the smallest ResNet of timm, .4 million parameters
LABELLED, HELD = 100, 100  # training and validation images of the second five digits; the rest is test
STRATEGIES = ("lp-ft", "ftl")
DRAWS = 300  # behind each interval


@dataclass(frozen=True)
class Demo:
    """What was trained and probed, in numbers and in three sentences; `files` were written."""

    pretrained: Trainings
    check: Check = field(repr=False)
    sentences: list[str]
    files: list[str]


def run_demo(out: str | Path = "results", *, seed: int = 0, cache: str | Path | None = None, epochs: int = 10) -> Demo:
    """Pretrain on the digits 0 to 4, then check the probes of that network on 200 images of 5 to 9, beside a fresh one.

    Raises ProbeError as `pretrain` and `check` do.
    """
    place, network = Path(out), Network(image_size=SIZE)
    first, second = _five(0, seed), _labelled(_five(5, seed), seed)
    common: dict[str, Any] = {"network": network, "cache": cache}
    log.info("pretraining on %s", first.name)
    training = Training(epochs=epochs, lr=2e-3, draws=DRAWS)
    made = run_pretrain(ARCH, first, place, seed=seed, training=training, **common)
    weights = str(place / WEIGHTS)
    log.info("probing, cutting and training on %s", second.name)
    training = Training(epochs=epochs, lr=2e-3, batch_size=20, draws=DRAWS)
    found = check_cuts(
        ARCH, [weights, "scratch"], second, taps=list("01234"), strategies=STRATEGIES, seeds=[seed], out=place,
        training=training, **common,
    )  # fmt: skip
    return Demo(made, found, _sentences(weights, found), [weights, *write_check(found)])


def _five(start: int, seed: int) -> Dataset:
    """Five of scikit-learn's ten digits, from `start` on."""
    data = dataset("digits", seed=seed)
    rows = np.flatnonzero((data.labels >= start) & (data.labels < start + 5))
    images = np.stack([np.asarray(data.images.load(row)) for row in rows.tolist()])
    names = [str(digit) for digit in range(start, start + 5)]
    return make_dataset(
        f"digits {names[0]} to {names[-1]}", ImageArrays([images]), data.ids[rows].tolist(),
        data.labels[rows] - start, names, seed=seed, image_size=SIZE,
    )  # fmt: skip


def _labelled(data: Dataset, seed: int) -> Dataset:
    """The same data with few labelled images, as many of each class as of any other, and many to test on."""
    random = np.random.default_rng(seed)
    splits = np.array(["test"] * len(data), dtype="<U5")
    for label in range(len(data.classes)):
        rows = random.permutation(np.flatnonzero(data.labels == label))
        few, held = LABELLED // len(data.classes), HELD // len(data.classes)
        splits[rows[:few]], splits[rows[few : few + held]] = "train", "val"
    return make_dataset(
        data.name, data.images, data.ids.tolist(), data.labels, data.classes, splits=splits.tolist(), seed=seed,
        image_size=data.image_size,
    )  # fmt: skip


def _sentences(source: str, check: Check) -> list[str]:
    """What was seen, whatever it is."""
    given, fresh = check.study.summaries()
    chosen, whole = given["best"]["tap"], check.taps[-1]
    cut, full = (_test(check.rows, source, tap, "trained", "ftl") for tap in (chosen, whole))
    saved = 1 - next(cell["params"] for cell in check.cells if cell["tap"] == chosen) / check.cells[-1]["params"]
    verdict = next(each for name, strategy, each in check.verdicts if (name, strategy) == (source, "ftl"))
    order, regret = verdict.spearman, verdict.regret
    probed = _test(check.rows, source, chosen, "linear")
    other = fresh["best"]["tap"]
    return [
        f"Pretrained on the digits 0 to 4, the network tells 5 to 9 from {LABELLED} training and {HELD} validation "
        f"images with test AUROC {probed}, by a linear probe at {chosen}, the best tap on validation; random weights "
        f"reach {_test(check.rows, 'scratch', other, 'linear')}, at {other}.",
        f"Cut at {chosen}, with {100 * saved:.0f} % of the parameters gone, and fine-tuned on the {LABELLED}, it has "
        f"test AUROC {cut}; with all stages {full}.",
        f"After fine-tuning at every tap, test scores rank the taps with Spearman's rho {order.value:.2f} "
        f"[{order.low:.2f}, {order.high:.2f}] as the probes did on validation, and following the probe rather than "
        f"training everywhere costs {regret.value:.3f} [{regret.low:.3f}, {regret.high:.3f}] in test AUROC.",
    ]


def _test(rows: pd.DataFrame, weights: str, tap: str, method: str, strategy: str | None = None) -> str:
    """The macro AUROC on test, with its interval."""
    found = rows[
        (rows["weights"] == weights) & (rows["tap"] == tap) & (rows["method"] == method) & (rows["split"] == "test")
        & (rows["metric"] == "auroc") & (rows["class"] == "macro")
    ]  # fmt: skip
    row = found[found["strategy"] == strategy].iloc[0] if strategy else found.iloc[0]
    return f"{row['value']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
