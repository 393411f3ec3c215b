"""Transferability scores of every tap, as rows: no probe is fitted."""

import numpy as np

from probe.cache import Features
from probe.metrics import MACRO
from probe.probes.rows import Rows, describe
from probe.probes.trials import Trial
from probe.results import make_row
from probe.transferability import transferability

WITHOUT_PROBE = "none"  # the method of their rows


def transfer_rows(features: Features, trial: Trial) -> Rows:
    """The scores of `probe.transferability` on the training rows of every tap; of a dead tap there are none."""
    data = features.data
    rows: Rows = []
    for tap in features.taps:
        x = np.asarray(features[tap["tap"]][trial.trained])
        if (np.ptp(x, axis=0) == 0).all():
            continue
        found = transferability(x, data.labels[trial.trained], data.task, len(data.classes))
        known = describe(features, tap, trial.n_train) | {"method": WITHOUT_PROBE, "split": "train", "seed": trial.seed}
        rows += [make_row(**known, metric=name, **{"class": MACRO}, value=value) for name, value in found.items()]
    return rows
