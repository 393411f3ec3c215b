"""Transferability scores of every tap, as rows: no probe is fitted."""

import numpy as np

from analysis.transferability import transferability
from probe.features import Features
from probe.metrics import MACRO
from probe.records.result_rows import WITHOUT_PROBE, make_row
from probe.scoring.score_rows import Rows, describe
from probe.scoring.trials import Trial


def transfer_rows(features: Features, trial: Trial) -> Rows:
    """The scores of `analysis.transferability` on the training rows of every tap; of a dead tap there are none."""
    data = features.data
    rows: Rows = []
    for tap in features.taps:
        x = np.asarray(features[tap.name][trial.trained])
        if (np.ptp(x, axis=0) == 0).all():
            continue
        estimates = transferability(x, data.task.questions(data.labels[trial.trained]))
        known = describe(features, tap, trial.n_train) | {"method": WITHOUT_PROBE, "split": "train", "seed": trial.seed}
        rows += [make_row(**known, metric=name, **{"class": MACRO}, value=value) for name, value in estimates.items()]
    return rows
