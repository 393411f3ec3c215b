"""The probes of one network at every tap, over its seeds: as they are recorded, and as they are read again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.backbones import Tap
from probe.base.runtime import hardware
from probe.features import Features
from probe.probes import sweep
from probe.records.cell import Outcome
from probe.records.record import Entry
from probe.records.result_rows import frame, records
from probe.scoring.recommendation import recommend
from probe.settings import Controls, ProbeGrid

STUDY = "layerwise"
RECOMMENDED = ("best", "earliest_sufficient", "oracle")


@dataclass(frozen=True)
class ProbedArm:
    """The recorded probes of one network with one set of weights, over all of its seeds."""

    entry: Entry

    @property
    def arch(self) -> str:
        """Name of the network."""
        return str(self.entry.labels["arch"])

    @property
    def weights(self) -> str:
        """Name of its weights."""
        return str(self.entry.labels["weights"])

    @property
    def taps(self) -> list[Tap]:
        """Where its features were read, bottom to top."""
        return list(map(Tap.from_dict, self.entry.facts["taps"]))

    @property
    def seeds(self) -> list[int]:
        """Those that changed something."""
        return [network["seed"] for network in self.entry.facts["networks"]]

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Its rows."""
        return frame(self.entry.rows)

    def draws(self, method: str, split: str) -> NDArray[np.float64]:
        """(taps, 1 + draws) the score of every tap and its bootstrap draws, means over seeds."""
        drawn: NDArray[np.float64] = self.entry.arrays[f"draws/{method}/{split}"]
        return drawn


def probed(
    features: Mapping[int, Features], probes: Sequence[str], grid: ProbeGrid, controls: Controls, device: str
) -> Outcome:
    """The probes of one network, by seed, as they are recorded."""
    swept = sweep(features, probes, grid, controls, device=device)
    first = next(iter(features.values()))
    main = swept.rows[swept.rows["study"] == STUDY]
    recommended = {}
    for method in dict.fromkeys(probes):
        chosen = recommend(main[main["method"] == method], first.taps, grid)
        recommended[method] = {name: chosen[name] and chosen[name]["tap"] for name in RECOMMENDED}
    networks = [
        {"seed": seed, "origin": each.origin, "features": str(each.folder), "request": each.details}
        for seed, each in features.items()
    ]
    return Outcome(
        rows=records(swept.rows),
        facts={
            "taps": [tap.to_dict() for tap in first.taps],
            "recommended": recommended,
            "networks": networks,
            "hardware": hardware(device),
        },
        arrays=swept.arrays(),
    )
