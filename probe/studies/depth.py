"""Prediction depth: from which tap on a read-out of each image gives what it gives at the last."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Integer
from numpy import ndarray
from numpy.typing import NDArray
from tqdm import tqdm

from probe.backbones import Backbone
from probe.base.array_types import Probabilities
from probe.base.errors import ProbeError
from probe.base.runtime import probing_device
from probe.data import SPLITS, Dataset
from probe.features import Features
from probe.metrics import MACRO, MICRO, Scores, ones
from probe.metrics.score_names import by_class
from probe.metrics.weighted_sums import add_columns, ratio
from probe.probes import find_method, fit_neighbours, fit_taps
from probe.probes.fitting import first_of_equal
from probe.records.cell import Cell, Outcome
from probe.records.record import Entry, Record, Run
from probe.records.result_rows import frame, make_row, records
from probe.records.stored_tables import depth_table, to_arrays
from probe.scoring.statistics import bootstrap_weights, percentile_interval
from probe.scoring.trials import whole_trial
from probe.settings import Depths, Extraction, Network, ProbeGrid, Reading
from probe.studies.arms import Arms, Setup, gather
from probe.studies.engine import complete
from probe.studies.identity import decisive, setting_words

Decided = Integer[ndarray, "t n"] | Integer[ndarray, "t n k"]  # labels, in the form of labels
ReadTap = Callable[[str, str, NDArray[np.integer]], Probabilities]  # of a tap, a split and all rows of it
STUDY = "depth"
UNKNOWN = -1  # in place of right or wrong where no label is known
SHOWN = 8  # images kept of those that settle first, and of those that settle last
DEPTH = "prediction_depth"  # mean relative depth of a class
SETTLED = "settled"  # share of images whose prediction no longer changes


@dataclass(frozen=True)
class SettledImages:
    """Where the images of a split settle, in a network: one cell."""

    record: Record
    run: Run
    entries: list[Entry]

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per image; see `sample_depths`."""
        return depth_table(self.entries[0])

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Shares settled by tap, and mean depths by class; see `depth_rows`."""
        return frame(self.entries[0].rows)


def depth(
    arch: str | Backbone | Features,
    weights: str = "pretrained",
    data: str | Path | Dataset = "digits",
    *,
    seed: int = 0,
    depths: Depths | None = None,
    reading: Reading | None = None,
    network: Network | None = None,
    extraction: Extraction | None = None,
    cache: str | Path | None = None,
    out: str | Path | Record | None = None,
) -> SettledImages:
    """Tell for every image of a split the tap from which on its prediction stays; recorded in `out`.

    The network is given by name, built, or as features that were read off images. `seed` is that of scratch weights,
    of splits that are drawn, and of the images that are kept to be shown. Raises ProbeError as `sample_depths` does.
    """
    record, depths = out if isinstance(out, Record) else Record(out), depths or Depths()
    setup = Setup.of(seed, reading, network, extraction, cache)
    arms = gather([arch], [weights], data, setup)
    (origin,) = [arm.origin for arm in arms.by_name.values()]
    settings = decisive(depths, setup.reading, setup.network, setup.extraction)
    asked = {"arch": origin["arch"], "weights": origin["weights"], "data": arms.data.name, "seed": seed, **settings}
    cell = _cell(arms, depths, setup)
    run = Run.of(STUDY, asked, [cell], {"data": arms.data.facts(), "skipped": arms.skipped})
    record.enter(run)
    entries = complete(record, [cell], lambda _: _settled(arms, depths, setup), doing="networks")
    return SettledImages(record, run, entries)


def _cell(arms: Arms, depths: Depths, setup: Setup) -> Cell:
    (arm,) = arms.by_name.values()
    labels = {name: arm.origin[name] for name in ("arch", "weights")}
    return Cell(
        kind="depth",
        asked={
            "network": arm.identity, "data": arms.identity, "seed": setup.seed, **decisive(setup.extraction, depths),
        },
        labels={
            "dataset": arms.data.name, **labels, "seed": setup.seed,
            "setting": setting_words(setup.reading, setup.network, setup.extraction, depths),
        },
    )  # fmt: skip


def _settled(arms: Arms, depths: Depths, setup: Setup) -> Outcome:
    """The table of images, its means as rows, and the pictures of those that settle first and last."""
    (features,) = [arm.features for arm in arms.by_name.values()]
    device = probing_device(setup.extraction.device)
    table = sample_depths(features, k=depths.k, readout=depths.readout, split=depths.split, device=device)
    generator = np.random.default_rng(setup.seed)
    pictures: dict[str, NDArray[np.uint8]] = {}
    for end, rows in zip(("first", "last"), extremes(table, SHOWN, generator), strict=True):
        pictures |= {f"{end}/{row}": np.asarray(features.data.images.load(row)) for row in rows.index.tolist()}
    columns = table.reset_index().assign(correct=table["correct"].astype("Int8").fillna(UNKNOWN).to_numpy(np.int8))
    if columns["group"].isna().all():
        columns = columns.drop(columns="group")
    return Outcome(
        rows=records(depth_rows(features, table, depths)), facts={"taps": list(features)},
        arrays=to_arrays("images", columns) | pictures,
    )  # fmt: skip


def prediction_depths(predicted: Decided) -> Integer[ndarray, "n"]:
    """Per image the first tap from which on all predictions are those of the last tap; 0 to t - 1.

    `predicted` are classes (t, n), or sets of labels (t, n, labels), which agree when every label does. Baldock
    et al. 2021 (arXiv:2106.09647), section 2. There the last prediction is the network's own; here it is the last
    tap's read-out, for a pretrained network has no answer to these labels.
    """
    agrees = _agree(predicted)
    trailing: NDArray[np.int64] = np.cumprod(agrees[::-1], axis=0).sum(0)
    return len(agrees) - trailing


def _agree(predicted: Decided) -> Bool[ndarray, "t n"]:
    """Whether all that a tap reads in an image is what the last one reads."""
    same = predicted == predicted[-1]
    agrees: NDArray[np.bool_] = same.reshape(*same.shape[:2], -1).all(2)
    return agrees


def sample_depths(
    features: Features, *, k: int = 30, readout: str = "knn", split: str = "test", device: str = "cpu"
) -> pd.DataFrame:
    """One row per image of a split, or of `all`; the table's index is its row in the data.

    `predicted` is what the last tap reads, `correct` whether that is the label, `index`, `tap` and `depth`
    (relative) where the prediction has settled, and `agreeing_taps` how many taps, in whatever order, read the
    same. The read-out is `knn`, of `k` training images as in Baldock et al. (there Euclidean and with equal votes,
    here as in `fit_neighbours`), where a training image has no vote for itself; or `linear`, the probe of
    `fit_taps`, which cannot read training images. Of several labels the whole set must settle, a label being read
    when its probability is above .5; `correct` is then of the known labels, and not stated when there are none.
    A read-out that knows nothing gives the commonest class, or no label, at every tap: where one class is far
    commoner than the others, its images settle early for that alone.

    Raises ProbeError for what cannot be read, and for a split without images.
    """
    data, features = features.data, features.on(device)
    wanted = SPLITS if split == "all" else (split,)
    rows = np.flatnonzero(np.isin(data.splits, wanted))
    if not len(rows):
        raise ProbeError(f"{data.name} has no {split} images, so there is no depth to tell")
    predicted = _predict(
        features, rows, _linear(features, device) if readout == "linear" else _knn(features, k, device)
    )
    index, last = prediction_depths(predicted), predicted[-1]
    taps, depths = np.array(list(features)), np.array([tap.depth for tap in features.taps])
    return pd.DataFrame(
        {
            "id": data.ids[rows],
            "group": None if data.groups is None else data.groups[rows],
            "label": np.array(data.label_names())[rows],
            "split": data.splits[rows],
            "predicted": replace(data, labels=last).label_names(),
            "correct": _correct(data.labels[rows], last).array,
            "index": index,
            "tap": taps[index],
            "depth": depths[index],
            "agreeing_taps": _agree(predicted).sum(0),
        },
        index=pd.Index(rows, name="row"),
    )


def depth_rows(features: Features, table: pd.DataFrame, depths: Depths) -> pd.DataFrame:
    """A table of `sample_depths` as rows of results: shares settled by tap, mean depths by class.

    Intervals are 95 % percentile bootstrap, by group when the data name one. Macro is the mean over classes,
    micro the mean over images, which `prediction_depth_correct` and `_wrong` are too.
    """
    data, rows = features.data, table.index.to_numpy()
    groups = None if data.groups is None else data.groups[rows]
    drawn = bootstrap_weights(len(rows), groups, depths.draws, np.random.default_rng(0))
    counts = np.ascontiguousarray(np.vstack([ones(len(rows)), drawn]).T)
    known = {
        "study": STUDY, "dataset": data.name, "arch": features.origin["arch"],
        "weights": features.origin["weights"], "task": data.task.name, "method": depths.readout, "strategy": "frozen",
        "split": depths.split, "seed": features.origin["seed"], "n_train": int((data.splits == "train").sum()),
    }  # fmt: skip
    found = []
    settled = table["index"].to_numpy()[:, None] <= np.arange(len(features))
    for tap, line in zip(features.taps, ratio(add_columns(settled, counts), counts.sum(0)), strict=True):
        low, high = percentile_interval(line[1:])
        at = {"tap": tap.name, "depth": tap.depth, "metric": SETTLED, "class": MACRO}
        found.append(make_row(**known, **at, value=line[0], ci_low=low, ci_high=high))
    for (metric, name), line in _mean_depths(features, table, counts).items():
        low, high = percentile_interval(line[1:])
        found.append(make_row(**known, metric=metric, **{"class": name}, value=line[0], ci_low=low, ci_high=high))
    if depths.readout == "knn":
        found.append(make_row(**known, metric="k", value=depths.k))
    return frame(found)


def extremes(table: pd.DataFrame, count: int, generator: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The images that settle first, and last, `count` each or half of all; drawn at random among equals.

    Of images that settle at the same tap, those are harder on which fewer taps agree with the last.
    """
    shuffled = table.iloc[generator.permutation(len(table))]
    ordered = shuffled.sort_values(["index", "agreeing_taps"], ascending=[True, False], kind="stable")
    count = min(count, (len(table) + 1) // 2)
    return ordered.head(count), ordered.tail(count).iloc[::-1]


def _mean_depths(features: Features, table: pd.DataFrame, counts: NDArray[np.float32]) -> Scores:
    data, depth = features.data, table["depth"].to_numpy()[:, None]

    def mean(member: NDArray[np.bool_]) -> NDArray[np.float64]:
        return ratio(add_columns(member * depth, counts), add_columns(member, counts))

    answers = data.task.answers(data.labels[table.index])
    scores = by_class(DEPTH, mean(answers == 1), data.classes)
    scores[DEPTH, MICRO] = mean(np.ones_like(depth, bool))[0]
    right = table["correct"].fillna(False).to_numpy(bool)
    wrong = (~table["correct"].fillna(True)).to_numpy(bool)
    for name, member in (("correct", right), ("wrong", wrong)):
        scores[f"{DEPTH}_{name}", MICRO] = mean(member[:, None])[0]
    return scores


def _predict(features: Features, rows: NDArray[np.integer], read: ReadTap) -> Decided:
    """What every tap reads in every row; taps of equal features are read once."""
    splits, first = features.data.splits[rows], first_of_equal(features)
    decided: dict[str, Decided] = {}
    for tap in tqdm(features, unit="tap", disable=None, desc="read-outs", leave=False):
        if first[tap] != tap:
            decided[tap] = decided[first[tap]]
            continue
        probabilities = np.empty((len(rows), len(features.data.classes)))
        for split in dict.fromkeys(splits.tolist()):
            probabilities[splits == split] = read(tap, split, rows[splits == split])
        decided[tap] = features.data.task.decide(probabilities)
    return np.stack([decided[tap] for tap in features])


def _knn(features: Features, k: int, device: str) -> ReadTap:
    data = features.data
    train = np.flatnonzero(data.splits == "train")

    def read(tap: str, split: str, rows: NDArray[np.integer]) -> Probabilities:
        x, name = features.nearest(tap), f"tap '{tap}' of {data.name}"
        fitted = fit_neighbours(x[train], data.labels[train], data.task, (k,), name=name, device=device)
        itself = np.searchsorted(train, rows) if split == "train" else None
        return fitted.probabilities(x[rows], 0, without=itself)

    return read


def _linear(features: Features, device: str) -> ReadTap:
    data, grid = features.data, ProbeGrid()
    trial = whole_trial(data, grid)
    fitted = fit_taps(features, trial, find_method("linear")(grid, data.task, device=device))

    def read(tap: str, split: str, _: NDArray[np.integer]) -> Probabilities:
        if split == "train":
            raise ProbeError("a linear probe has learnt the labels of its training images; read them out with knn")
        found: Probabilities = fitted[tap].predict(features.nearest(tap), trial, split)[0]
        return found

    return read


def _correct(labels: NDArray[np.int64], last: NDArray[np.generic]) -> "pd.Series[bool]":
    """Whether all known labels are as predicted; missing where none is known."""
    known = (labels >= 0).reshape(len(labels), -1)
    right = (labels == last).reshape(len(labels), -1) | ~known
    return pd.Series(right.all(axis=1), dtype="boolean").where(pd.Series(known.any(axis=1)))
