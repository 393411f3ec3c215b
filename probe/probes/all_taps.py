"""Probes over depth: at every tap the settings are chosen on rows held out, refitted, and scored once on test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from probe.base.errors import ProbeError
from probe.base.runtime import log
from probe.data import Dataset
from probe.features import Features
from probe.metrics import MACRO, Scores, unscored
from probe.probes.controls import control_rows, majority_rows
from probe.probes.fitting import Fitted, first_of_equal, fit_taps, score_members
from probe.probes.methods import Method, find_method
from probe.probes.readout import check_finite
from probe.probes.training_sizes import size_rows
from probe.probes.transferability_rows import transfer_rows
from probe.records.metric_facts import find_metric
from probe.records.result_rows import frame, make_row
from probe.scoring.resampling import weigh
from probe.scoring.score_rows import Rows, cost_rows, describe, gap_rows, score_rows
from probe.scoring.trials import subset_trials, whole_trial
from probe.settings import Controls, ProbeGrid

PROBES = ("linear",)
MOST = 500_000_000  # bytes of predictions kept of the probes of one network
KEPT = ("val", "test")  # splits whose predictions are kept
COUNTED = "classes_scored"  # how many classes the averages of a split are over

Draws = dict[tuple[str, str], NDArray[np.float64]]


@dataclass(frozen=True)
class Sweep:
    """Rows, one number each, and the draws of the metric that selects, from which differences can be taken.

    `draws` (taps, 1 + draws) by method and split, the plain score first; means over seeds. `predictions` (n, classes)
    are probabilities by method, tap, split and seed; `scored` (n,) by split and seed the rows of the data set they are
    of, and `ids` (all,) the names of its images.
    """

    rows: pd.DataFrame
    draws: Draws
    predictions: dict[tuple[str, str, str, int], NDArray[np.float32]] = field(repr=False)
    scored: dict[tuple[str, int], NDArray[np.int64]] = field(repr=False)
    ids: NDArray[Any] = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it by name, as it is recorded: draws/METHOD/SPLIT, probabilities/METHOD/TAP/SPLIT/SEED, ..."""
        arrays: dict[str, NDArray[Any]] = {"ids": self.ids, "targets": self.labels}
        arrays |= {"/".join(("draws", *key)): draws for key, draws in self.draws.items()}
        arrays |= {"/".join(map(str, ("probabilities", *key))): found for key, found in self.predictions.items()}
        return arrays | {"/".join(map(str, ("rows", *key))): rows for key, rows in self.scored.items()}


def layerwise(
    features: Features | Mapping[int, Features],
    probes: Sequence[str] = PROBES,
    grid: ProbeGrid | None = None,
    controls: Controls | None = None,
    *,
    device: str = "cpu",
) -> pd.DataFrame:
    """Probe every tap; a table of rows, one number each.

    `features` of one network, or of several seeds of it by seed; `probes` among linear, mlp, knn and ncm. At each
    tap the setting of each kind of probe is chosen on val by `grid.metric`, or with `grid.folds` by cross-validation
    over train and val; it is refitted to train and val together, and scored once on test; intervals are 95 %
    bootstrap, by group when the data name one. The val scores are of probes fitted without the rows they are of.
    `controls` adds controls and smaller training sets. `device` is where probes are fitted: cpu or cuda.
    Raises ProbeError for an unknown probe or metric, features that are not finite, and data that cannot be chosen on.
    """
    return sweep(features, probes, grid, controls, device=device).rows


def sweep(
    features: Features | Mapping[int, Features],
    probes: Sequence[str] = PROBES,
    grid: ProbeGrid | None = None,
    controls: Controls | None = None,
    *,
    device: str = "cpu",
) -> Sweep:
    """The rows of `layerwise` and the draws behind them."""
    grid, controls = grid or ProbeGrid(), controls or Controls()
    arms = {int(features.origin["seed"]): features} if isinstance(features, Features) else dict(features)
    for arm in arms.values():
        check_request(arm.data, probes, grid, controls)
        _check_features(arm)
    arms = {seed: arm.on(device) for seed, arm in arms.items()}
    if find_metric(grid.metric).ordered:
        grid = replace(grid, ordinal=True)
    kinds = {name: find_method(name) for name in dict.fromkeys(probes)}
    first = next(iter(arms.values()))
    keeps = _fit_into_record(first, len(kinds) * len(arms))
    rows: Rows = []
    drawn: list[Draws] = []
    predictions: dict[tuple[str, str, str, int], NDArray[np.float32]] = {}
    scored: dict[tuple[str, int], NDArray[np.int64]] = {}
    for seed, arm in arms.items():
        one = _OneSeed(arm, seed, grid, kinds, device, keeps)
        rows += one.rows
        drawn.append(one.draws)
        predictions |= {(*key, seed): found for key, found in one.predictions.items()}
        scored |= {(split, seed): each.rows for split, each in one.weighing.items() if split in KEPT}
        if arm is first:
            rows += one.control_rows(controls)
            count = one.trial.n_train
    draws = {key: np.mean([each[key] for each in drawn], axis=0) for key in drawn[0]}
    for name in kinds:
        rows += gap_rows(first, draws[name, "val"], grid.metric, {"method": name}, count, "layerwise")
    rows += cost_rows(first, count) + size_rows(arms, kinds, grid, controls, device)
    return Sweep(frame(rows), draws, predictions, scored, first.ids, first.labels)


def check_request(data: Dataset, probes: Sequence[str], grid: ProbeGrid, controls: Controls) -> None:
    """Raise ProbeError for what can be known to fail before there are features."""
    data.task.wanted([grid.metric], ordinal=grid.ordinal)
    kinds = [find_method(name)(grid, data.task) for name in probes]
    for trial in (whole_trial(data, grid), *subset_trials(data, controls.shares(), controls.subsets, grid)):
        for fitted, _ in trial.folds:
            shown = data.labels[fitted]
            if len(np.unique(shown)) < 2:
                where = f"a fold of {trial.n_train} training images" if len(trial.folds) > 1 else "the training split"
                raise ProbeError(f"{where} of {data.name} holds a single class; a probe needs two")
            for kind in kinds:
                kind.check(len(fitted))


def _check_features(features: Features) -> None:
    """Raise ProbeError for rows that are not finite; say which taps are dead."""
    for tap in features:
        check_finite(features[tap], f"tap '{tap}' of {features.data.name}")
        if (np.ptp(features[tap], axis=0) == 0).all():
            log.warning("tap '%s' of %s is dead: all images have the same features there", tap, features.data.name)


class _OneSeed:
    """One network probed: its rows, and the draws by method and split."""

    def __init__(
        self, features: Features, seed: int, grid: ProbeGrid, kinds: Mapping[str, type[Method[Any, Any]]], device: str,
        keeps: bool,
    ) -> None:  # fmt: skip
        self.features, self.grid = features, grid
        self.trial = whole_trial(features.data, grid, seed)
        self.weighing = weigh(features.data, self.trial, grid)
        self.rows: Rows = []
        self.draws: Draws = {}
        self.predictions: dict[tuple[str, str, str], NDArray[np.float32]] = {}
        self.fitted: dict[str, dict[str, Fitted]] = {}
        self._counts = {split: _scored_classes(features, split, each.rows) for split, each in self.weighing.items()}
        self._first = first_of_equal(features)
        self._keeps = keeps
        for name, kind in kinds.items():
            method = kind(grid, features.data.task, seed=seed, device=device)
            self.fitted[name] = fit_taps(features, self.trial, method, self._first)
            self._read_out(name)

    def control_rows(self, controls: Controls) -> Rows:
        """Whatever is asked for besides."""
        known = (self.features, self.trial, self.weighing["test"])
        rows: Rows = []
        for name, fitted in self.fitted.items():
            real = dict(zip(self.features, self.draws[name, "test"], strict=True))
            rows += control_rows(*known, name, fitted, controls, real)
        rows += majority_rows(*known, self.grid.ordinal) if "majority" in controls.control else []
        return rows + (transfer_rows(self.features, self.trial) if controls.transferability else [])

    def _read_out(self, name: str) -> None:
        scores: dict[str, dict[str, Scores]] = {}
        for entry in tqdm(self.features.taps, unit="tap", disable=None, desc=f"{name} scores", leave=False):
            tap = entry.name
            first = self._first[tap]  # the lowest of equal features, scored already
            scores[tap] = scores[first] if first in scores else self._scores(name, tap, self.fitted[name][tap])
            for split in KEPT if self._keeps else ():
                self.predictions[name, tap, split] = self.predictions[name, first, split]
            known = describe(self.features, entry, self.trial.n_train) | {"seed": self.trial.seed, "method": name}
            self.rows += self._tap_rows(scores[tap], self.fitted[name][tap], known)
        for split in ("val", "test"):
            lines = np.array([scores[tap][split][self.grid.metric, MACRO] for tap in self.features])
            self.draws[name, split] = lines[:, : 1 + self.grid.draws]

    def _scores(self, name: str, tap: str, fitted: Fitted) -> dict[str, Scores]:
        """Scores by split; the probabilities behind them are kept."""
        x, scores = self.features.nearest(tap), {}
        for split, each in self.weighing.items():
            members = fitted.predict(x, self.trial, split)
            scores[split] = score_members(self.features, each.rows, members, each.weights, ordinal=self.grid.ordinal)
            if split in KEPT and self._keeps:
                self.predictions[name, tap, split] = members.mean(0).astype(np.float32)
        return scores

    def _tap_rows(self, scores: Mapping[str, Scores], fitted: Fitted, known: Mapping[str, Any]) -> Rows:
        rows: Rows = []
        for split, each in self.weighing.items():
            rows += score_rows(scores[split], each, {**known, "split": split})
            counted = {"split": split, "metric": COUNTED, "class": MACRO, "value": self._counts[split]}
            rows.append(make_row(**known, **counted))
        chosen = fitted.method.describe(fitted.setting)
        rows += [make_row(**known, split="val", metric=name, value=value) for name, value in chosen.items()]
        for split, converged in fitted.converged.items():
            rows.append(make_row(**known, split=split, metric="converged", value=float(converged)))
        return rows


def _fit_into_record(features: Features, times: int) -> bool:
    """Whether the predictions of all taps, made so many times, are small enough to be kept; if not, it is logged."""
    counts = features.data.counts()
    size = 4 * times * len(features) * sum(counts[split] for split in KEPT) * len(features.data.classes)
    if size > MOST:
        log.warning("predictions of the probes would take %.1f GB and are not kept; the features are", size / 1e9)
    return size <= MOST


def _scored_classes(features: Features, split: str, rows: NDArray[np.int64]) -> int:
    """How many classes have both positive and negative images in a split; the others are named in a warning."""
    data = features.data
    lacking = unscored(data.task.answers(data.labels[rows]), data.classes)
    left = len(data.classes) - len(lacking)
    if lacking:
        named = ", ".join(f"{name} (no {kind} image)" for name, kind in lacking.items())
        log.warning(
            "%s of %s: averages are over %d of %d classes, without %s", split, data.name, left, len(data.classes), named
        )
    return left
