"""Prediction depth: from which tap on a read-out of each image gives what it gives at the last."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Integer
from numpy import ndarray
from numpy.typing import NDArray
from tqdm import tqdm

from probe.base.errors import ProbeError
from probe.base.shapes import Probabilities
from probe.data import SPLITS
from probe.features import Features
from probe.metrics import MACRO, MICRO, Scores, ones
from probe.metrics.names import by_class
from probe.metrics.scores import one_against_rest
from probe.metrics.sums import add_columns, ratio
from probe.probes import find_method, fit_neighbours, fit_taps
from probe.probes.fitting import first_of_equal
from probe.records.rows import frame, make_row
from probe.scoring.statistics import bootstrap_weights, percentile_interval
from probe.scoring.trials import whole_trial
from probe.settings import Depths, ProbeGrid

Decided = Integer[ndarray, "t n"] | Bool[ndarray, "t n k"]
ReadTap = Callable[[str, str, NDArray[np.integer]], Probabilities]  # of a tap, a split and all rows of it
DEPTH = "prediction_depth"  # mean relative depth of a class
SETTLED = "settled"  # share of images whose prediction no longer changes


def prediction_depths(predicted: Decided) -> Integer[ndarray, "n"]:
    """Per image the first tap from which on all predictions are those of the last tap; 0 to t - 1.

    `predicted` are classes (t, n), or sets of labels (t, n, labels), which agree when every label does. Baldock
    et al. 2021 (arXiv:2106.09647), section 2. There the last prediction is the network's own; here it is the last
    tap's read-out, for a pretrained network has no answer to these labels.
    """
    agrees = predicted == predicted[-1]
    if agrees.ndim == 3:
        agrees = agrees.all(2)
    trailing: NDArray[np.int64] = np.cumprod(agrees[::-1], axis=0).sum(0)
    return len(agrees) - trailing


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
    agrees = predicted == last
    taps, depths = np.array(list(features)), np.array([tap.depth for tap in features.taps])
    return pd.DataFrame(
        {
            "id": data.ids[rows],
            "group": None if data.groups is None else data.groups[rows],
            "label": np.array(data.label_names())[rows],
            "split": data.splits[rows],
            "predicted": replace(data, labels=last.astype(np.int64)).label_names(),
            "correct": _correct(data.labels[rows], last).array,
            "index": index,
            "tap": taps[index],
            "depth": depths[index],
            "agreeing_taps": (agrees.all(2) if agrees.ndim == 3 else agrees).sum(0),
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
    origin = features.origin
    seed = origin["seed"] if origin["weights"] == "scratch" else data.seed  # of other weights, that of drawn splits
    known = {
        "study": "depth", "dataset": data.name, "arch": features.origin["arch"],
        "weights": features.origin["weights"], "task": data.task, "method": depths.readout, "strategy": "frozen",
        "split": depths.split, "seed": seed, "n_train": int((data.splits == "train").sum()),
        "request": features.request,
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

    answers = one_against_rest(data.task, data.labels[table.index], data.classes)
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
        decided[tap] = probabilities > 0.5 if features.data.task == "multilabel" else probabilities.argmax(1)
    return np.stack([decided[tap] for tap in features])


def _knn(features: Features, k: int, device: str) -> ReadTap:
    data = features.data
    train = np.flatnonzero(data.splits == "train")

    def read(tap: str, split: str, rows: NDArray[np.integer]) -> Probabilities:
        x, name = features.nearest(tap), f"tap '{tap}' of {data.name}"
        fitted = fit_neighbours(
            x[train], data.labels[train], data.task, len(data.classes), (k,), name=name, device=device
        )
        itself = np.searchsorted(train, rows) if split == "train" else None
        return fitted.probabilities(x[rows], 0, without=itself)

    return read


def _linear(features: Features, device: str) -> ReadTap:
    data, grid = features.data, ProbeGrid()
    trial = whole_trial(data, grid)
    fitted = fit_taps(features, trial, find_method("linear")(grid, data.task, len(data.classes), device=device))

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
