"""What a read-out would score that had learnt nothing: labels permuted, features replaced by noise, no features."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from probe.features import Features
from probe.metrics import MACRO
from probe.probes.fitting import Fitted, job_of, score_members
from probe.probes.methods import Job
from probe.records.metric_facts import find_metric
from probe.scoring.resampling import Weighing, mixture
from probe.scoring.score_rows import Rows, describe, score_rows
from probe.scoring.trials import Trial
from probe.settings import Controls

NAMES = {"permuted": "permuted labels", "noise": "noise"}  # what stands behind the method in the rows
SELECTIVITY = "selectivity"


def control_rows(
    features: Features,
    trial: Trial,
    weighing: Weighing,
    method: str,
    fitted: Mapping[str, Fitted],
    controls: Controls,
    real: Mapping[str, NDArray[np.float64]],
) -> Rows:
    """Scores on test of the same probes, at the settings chosen, that were fitted to permuted labels or to noise.

    Permuted: the training labels in a random order (Hewitt and Liang 2019, arXiv:1909.03368, section 2; with
    `selectivity`, the real score, `real` (1 + draws) by tap, minus this one). Noise: normal numbers in as many
    columns. The value is the mean over `controls.permutations` of them; the interval is of a single one, its luck
    and that of the test images, so that what lies outside it is more than chance.
    """
    rows: Rows = []
    metric = next(iter(fitted.values())).method.grid.metric
    for kind in (kind for kind in controls.control if kind in NAMES):
        repeats = [_repeat(features, trial, weighing, fitted, kind, i) for i in range(controls.permutations)]
        for tap, line in zip(features.taps, mixture(repeats, weighing.draws), strict=True):
            known = describe(features, tap, trial.n_train, "control") | {"split": "test", "seed": trial.seed}
            named = known | {"method": f"{method}, {NAMES[kind]}"}
            rows += score_rows({(metric, MACRO): line}, weighing, named)
            if kind == "permuted":
                gain = (real[tap.name][: len(line)] - line) * find_metric(metric).sign
                rows += score_rows({(f"{metric}_{SELECTIVITY}", MACRO): gain}, weighing, known | {"method": method})
    return rows


def majority_rows(features: Features, trial: Trial, weighing: Weighing, ordinal: bool) -> Rows:
    """Scores on test of knowing nothing but how frequent each class is in training."""
    data = features.data
    shown, stated = data.task.counts(data.labels[trial.seen])
    predicted = np.tile(shown / np.maximum(stated, 1), (len(trial.test), 1))
    scores = data.task.score(data.labels[trial.test], predicted, weighing.weights, ordinal=ordinal)
    known = describe(features, None, trial.n_train, "control") | {"split": "test", "seed": trial.seed}
    return score_rows(scores, weighing, known | {"method": "majority"})


def _repeat(
    features: Features, trial: Trial, weighing: Weighing, fitted: Mapping[str, Fitted], kind: str, number: int
) -> NDArray[np.float64]:
    method = next(iter(fitted.values())).method
    generator = np.random.default_rng([number, trial.seed])
    labels, jobs = features.data.labels.copy(), []
    if kind == "permuted":
        labels[trial.seen] = labels[generator.permutation(trial.seen)]
    for tap in features:
        job = job_of(features, tap, trial.seen)
        jobs.append(replace(job, labels=labels) if kind == "permuted" else _noisy(job, generator))
    found = method.refit(jobs, [fitted[tap].setting for tap in features])
    metric = method.grid.metric
    return np.stack(
        [
            score_members(
                features,
                trial.test,
                method.predict(each, job.features[trial.test])[0],
                weighing.weights,
                metrics=[metric],
            )[metric, MACRO]
            for each, job in zip(found, jobs, strict=True)
        ]
    )


def _noisy(job: Job, generator: np.random.Generator) -> Job:
    return replace(job, features=generator.standard_normal(job.features.shape, np.float32))
