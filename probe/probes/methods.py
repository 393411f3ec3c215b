"""Kinds of read-outs behind one interface: fitted at every setting of the grid, then again at the chosen one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from probe.base.array_types import Labels
from probe.base.errors import ProbeError
from probe.base.lookup import unknown
from probe.probes.centroids import Centroids, fit_centroids
from probe.probes.linear import RegularizationPath, TrainingSet, fit_paths
from probe.probes.mlp import MLPs, MLPSet, fit_mlps
from probe.probes.neighbours import Neighbours, fit_neighbours
from probe.probes.readout import Readable
from probe.settings import MLPSetting, ProbeGrid
from probe.tasks import Task

Found = TypeVar("Found")  # read-outs fitted to one set of rows, at every setting
Setting = TypeVar("Setting")


@dataclass(frozen=True)
class Job:
    """Rows to fit read-outs to, and rows to watch while doing so."""

    features: Readable
    labels: Labels
    rows: NDArray[np.int64]
    held: NDArray[np.int64] | None
    name: str  # stands before what is wrong with it


class Method(ABC, Generic[Found, Setting]):
    """One kind of read-out; settings run from the plainest to the most flexible."""

    def __init__(self, grid: ProbeGrid, task: Task, *, seed: int = 0, device: str = "cpu") -> None:
        self.grid, self.task, self.seed, self.device = grid, task, seed, device

    def check(self, rows: int) -> None:
        """Raise ProbeError when so many training rows are too few for every setting."""

    @abstractmethod
    def fit(self, jobs: Sequence[Job]) -> list[Found]:
        """Read-outs at every setting, per job."""

    @abstractmethod
    def settle(self, found: Sequence[Found], best: int) -> Setting:
        """What the final read-out is fitted with, from those of all folds and the number of the best setting."""

    @abstractmethod
    def refit(self, jobs: Sequence[Job], settings: Sequence[Setting]) -> list[Found]:
        """Read-outs at one setting each."""

    @abstractmethod
    def predict(self, found: Found, features: Readable) -> NDArray[np.float64]:
        """Probabilities (settings, members, n, classes); members differ in their random start only."""

    @abstractmethod
    def describe(self, setting: Setting) -> Mapping[str, float]:
        """The setting by name, for the rows."""

    def only(self, found: Any, setting: int) -> Found:
        """The read-outs at one of the settings."""
        kept: Found = found.only(setting)
        return kept

    def converged(self, found: Found) -> bool:
        """Whether the solver of all these reached its tolerance."""
        return True

    def gap(self, found: Found) -> float:
        """How far the objective of the worst of these may be above its optimum, as a share of it."""
        return 0.0


class Linear(Method[RegularizationPath, float]):
    """Logistic regression; the strongest penalty first."""

    def fit(self, jobs: Sequence[Job]) -> list[RegularizationPath]:
        return self._fit(jobs, [tuple(sorted(self.grid.c_grid))] * len(jobs))

    def settle(self, found: Sequence[RegularizationPath], best: int) -> float:
        return sorted(self.grid.c_grid)[best]

    def refit(self, jobs: Sequence[Job], settings: Sequence[float]) -> list[RegularizationPath]:
        return self._fit(jobs, [(strength,) for strength in settings])

    def predict(self, found: RegularizationPath, features: Readable) -> NDArray[np.float64]:
        return found.probabilities(features)[:, None]

    def describe(self, setting: float) -> Mapping[str, float]:
        return {"chosen_c": setting}

    def converged(self, found: RegularizationPath) -> bool:
        return bool(found.converged.all())

    def gap(self, found: RegularizationPath) -> float:
        return float(found.gap.max())

    def _fit(self, jobs: Sequence[Job], strengths: Sequence[Sequence[float]]) -> list[RegularizationPath]:
        sets = [
            TrainingSet(job.features, job.labels, tried, job.rows, name=job.name)
            for job, tried in zip(jobs, strengths, strict=True)
        ]
        return fit_paths(sets, self.task, device=self.device)


class MLP(Method[MLPs, MLPSetting]):
    """One hidden layer, stopped early on the rows held out; the final one trains for as many epochs."""

    def fit(self, jobs: Sequence[Job]) -> list[MLPs]:
        tried = self._tried()
        return self._fit([MLPSet(job.features, job.labels, tried, job.rows, job.held, name=job.name) for job in jobs])

    def settle(self, found: Sequence[MLPs], best: int) -> MLPSetting:
        epochs = np.median([each.epochs[best] for each in found])
        return replace(self._tried()[best], epochs=max(1, round(float(epochs))))

    def refit(self, jobs: Sequence[Job], settings: Sequence[MLPSetting]) -> list[MLPs]:
        return self._fit(
            [
                MLPSet(job.features, job.labels, [s], job.rows, name=job.name)
                for job, s in zip(jobs, settings, strict=True)
            ]
        )

    def predict(self, found: MLPs, features: Readable) -> NDArray[np.float64]:
        return found.probabilities(features)

    def describe(self, setting: MLPSetting) -> Mapping[str, float]:
        return {f"chosen_{name}": float(getattr(setting, name)) for name in ("weight_decay", "dropout", "epochs")}

    def _tried(self) -> list[MLPSetting]:
        decays, dropouts = (
            sorted(tried, reverse=True) for tried in (self.grid.mlp_weight_decay, self.grid.mlp_dropout)
        )
        return [
            MLPSetting(hidden=self.grid.mlp_hidden, weight_decay=decay, dropout=dropout)
            for decay, dropout in product(decays, dropouts)
        ]

    def _fit(self, sets: Sequence[MLPSet]) -> list[MLPs]:
        seeds = [self.seed * self.grid.mlp_seeds + start for start in range(self.grid.mlp_seeds)]
        return fit_mlps(sets, seeds, self.task, device=self.device)


class KNN(Method[Neighbours, int]):
    """Votes of the nearest rows by cosine; the most neighbours first."""

    def check(self, rows: int) -> None:
        self._tried(rows)

    def fit(self, jobs: Sequence[Job]) -> list[Neighbours]:
        return [self._fit(job, self._tried(min(len(job.rows) for job in jobs))) for job in jobs]

    def settle(self, found: Sequence[Neighbours], best: int) -> int:
        return int(found[0].ks[best])

    def refit(self, jobs: Sequence[Job], settings: Sequence[int]) -> list[Neighbours]:
        return [self._fit(job, (k,)) for job, k in zip(jobs, settings, strict=True)]

    def predict(self, found: Neighbours, features: Readable) -> NDArray[np.float64]:
        return found.probabilities(features)[:, None]

    def describe(self, setting: int) -> Mapping[str, float]:
        return {"chosen_k": float(setting)}

    def _tried(self, rows: int) -> tuple[int, ...]:
        """Those of the grid that there are rows for; folds and subsets may have fewer than the grid's largest."""
        tried = tuple(sorted((int(k) for k in self.grid.k_grid if k <= rows), reverse=True))
        if not tried:
            raise ProbeError(f"{rows} training images are fewer than every number of neighbours in {self.grid.k_grid}")
        return tried

    def _fit(self, job: Job, ks: Sequence[int]) -> Neighbours:
        x, y = job.features[job.rows], job.labels[job.rows]
        return fit_neighbours(x, y, self.task, ks, name=job.name, device=self.device)


class NCM(Method[Centroids, None]):
    """The nearest class mean, which has nothing to choose."""

    def fit(self, jobs: Sequence[Job]) -> list[Centroids]:
        return [fit_centroids(job.features[job.rows], job.labels[job.rows], self.task, name=job.name) for job in jobs]

    def settle(self, found: Sequence[Centroids], best: int) -> None:
        return None

    def refit(self, jobs: Sequence[Job], settings: Sequence[None]) -> list[Centroids]:
        return self.fit(jobs)

    def predict(self, found: Centroids, features: Readable) -> NDArray[np.float64]:
        return found.probabilities(features)[:, None]

    def describe(self, setting: None) -> Mapping[str, float]:
        return {}


METHODS: dict[str, type[Method[Any, Any]]] = {"linear": Linear, "mlp": MLP, "knn": KNN, "ncm": NCM}


def find_method(name: str) -> type[Method[Any, Any]]:
    """A kind of read-out by name. Raises ProbeError when there is no such kind."""
    if name not in METHODS:
        raise unknown("probe", name, list(METHODS))
    return METHODS[name]
