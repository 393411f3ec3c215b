"""Images on a plane, as some taps of networks see them: where each lies, and how far to trust the map."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.embedding import embed_arms, subsample
from probe.base.errors import ProbeError
from probe.base.lookup import find_index
from probe.data import Dataset
from probe.features import Features
from probe.records.cell import Cell, Outcome
from probe.records.record import Entry, Record, Run
from probe.records.stored_tables import embedding_tables, to_arrays
from probe.settings import Embedding, Extraction, Network, Reading
from probe.studies.arms import Arms, Given, Setup, gather
from probe.studies.engine import complete
from probe.studies.identity import decisive, setting_words

if TYPE_CHECKING:
    from probe.backbones import Backbone

STUDY = "embed"
SPREAD = 6  # taps of each network by default
THUMBNAIL = 64  # pixels of a small picture's longer side


@dataclass(frozen=True)
class Embedded:
    """Maps of the same images: a cell for every network, and one of small pictures where they are asked for."""

    record: Record
    run: Run
    entries: list[Entry]

    @cached_property
    def tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Points and maps; see `records.stored_tables.embedding_tables`."""
        return embedding_tables(self.entries)

    @property
    def points(self) -> pd.DataFrame:
        """A row per image and map: `arm`, `tap`, `image`, `label`, `x`, `y`."""
        return self.tables[0]

    @property
    def maps(self) -> pd.DataFrame:
        """A row per map: `arm`, `tap`, `trustworthiness`, `silhouette`, `silhouette_map`, and what it is a map of."""
        return self.tables[1]

    @property
    def skipped(self) -> list[dict[str, str]]:
        """Networks whose weights could not be had."""
        return list(self.run.facts["skipped"])


def embed(
    networks: "str | Backbone | Features | Sequence[str | Backbone | Features]",
    weights: Sequence[str] = (),
    data: str | Path | Dataset = "digits",
    *,
    taps: Sequence[str | int] = (),
    label: str = "",
    thumbnails: bool = False,
    seed: int = 0,
    embedding: Embedding | None = None,
    reading: Reading | None = None,
    network: Network | None = None,
    extraction: Extraction | None = None,
    cache: str | Path | None = None,
    out: str | Path | Record | None = None,
) -> Embedded:
    """Draw the same images on a plane as some taps of networks see them; recorded in `out`.

    Networks are given by name, built, or as features. Names are built with every one of `weights`, by default
    pretrained and scratch. Without `taps` six are taken, spread over the depth. Of several labels per image, `label`
    is the one that silhouettes and colours are of. `thumbnails` keeps small pictures of the images. `seed` is that of
    maps, of the images drawn and of scratch weights. Raises ProbeError for other images or labels, and as
    `analysis.embedding` does.
    """
    record = out if isinstance(out, Record) else Record(out)
    arms = gather(networks, weights, data, Setup.of(seed, reading, network, extraction, cache))
    _check_labels(arms, thumbnails)
    job = _Job(arms, tuple(taps), label, embedding or Embedding(), arms.setup)
    cells = [*map(job.cell, arms.by_name), *([job.pictures_cell()] if thumbnails else [])]
    run = Run.of(STUDY, job.asked(thumbnails), cells, {"data": arms.data.facts(), "skipped": arms.skipped})
    record.enter(run)
    return Embedded(record, run, complete(record, cells, job.work, doing="embeddings"))


@dataclass(frozen=True)
class _Job:
    """What is drawn, and how."""

    arms: Arms
    taps: tuple[str | int, ...]
    label: str
    embedding: Embedding
    setup: Setup

    def asked(self, thumbnails: bool) -> dict[str, Any]:
        """The request, as plain values."""
        settings = decisive(self.embedding, self.setup.reading, self.setup.network, self.setup.extraction)
        return {
            "arms": list(self.arms.by_name), "data": self.arms.data.name, "taps": list(self.taps), "label": self.label,
            "thumbnails": thumbnails, "seed": self.setup.seed, **settings,
        }  # fmt: skip

    def cell(self, name: str) -> Cell:
        """The maps of a network."""
        arm = self.arms.by_name[name]
        asked = {"network": arm.identity, "data": self.arms.identity, "taps": list(self.taps), "label": self.label}
        asked["umap-learn"] = version("umap-learn")
        words = setting_words(self.setup.reading, self.setup.network, self.setup.extraction, self.embedding)
        return Cell(
            kind="embedding",
            asked={**asked, "seed": self.setup.seed, **decisive(self.setup.extraction, self.embedding)},
            labels={
                "dataset": self.arms.data.name, "arch": arm.origin["arch"], "weights": arm.origin["weights"],
                "arm": name, "setting": words, "seed": self.setup.seed,
            },
        )  # fmt: skip

    def pictures_cell(self) -> Cell:
        """Small pictures of the images that are drawn."""
        drawn = {"label": self.label, "sample": self.embedding.sample, "seed": self.setup.seed}
        return Cell(
            kind="thumbnails", asked={"data": self.arms.identity, **drawn, "pixels": THUMBNAIL},
            labels={"dataset": self.arms.data.name, "setting": setting_words(self.setup.reading)},
        )  # fmt: skip

    def work(self, cell: Cell) -> Outcome:
        """Maps of a network, or small pictures."""
        data = self.arms.data
        labels = data.task.one_name(data.labels, self.label)
        rows = subsample(labels, self.embedding.sample, np.random.default_rng(self.setup.seed))
        if cell.kind == "thumbnails":
            return Outcome(rows=[], arrays=_small_pictures(data, rows))
        arm = cell.labels["arm"]
        features = self.arms.features(arm)
        chosen = {arm: {tap: features[tap] for tap in _some(list(features), self.taps)}}
        how = {name: value for name, value in asdict(self.embedding).items() if name != "sample"}
        how["silhouettes"] = data.task.row_classes(data.labels) is not None
        points, maps = embed_arms(chosen, data.ids, labels, rows, seed=self.setup.seed, **how)
        arrays = to_arrays("points", points.drop(columns="arm")) | to_arrays("maps", maps.drop(columns="arm"))
        return Outcome(rows=[], facts={"images": len(rows), "of": len(data)}, arrays=arrays)


def _check_labels(arms: Arms, thumbnails: bool) -> None:
    first = next(iter(arms.by_name))
    for name, arm in arms.by_name.items():
        if arm.data.classes != arms.data.classes or not np.array_equal(arm.data.labels, arms.data.labels):
            raise ProbeError(f"'{first}' and '{name}' do not have the same labels")
    if thumbnails and all(isinstance(arm, Given) for arm in arms.by_name.values()):
        raise ProbeError("small pictures are made of images, and features come without: give a network too")


def _some(every: list[str], wanted: Sequence[str | int]) -> list[str]:
    """The taps asked for, or some spread over the depth, bottom to top."""
    if wanted:
        return [every[place] for place in sorted({find_index("tap", tap, every) for tap in wanted})]
    count = min(SPREAD, len(every))
    return [every[round(at * (len(every) - 1) / max(1, count - 1))] for at in range(count)]


def _small_pictures(data: Dataset, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """`ids` and `shapes` (m, 3) of small pictures, and `pixels`, their bytes one after the other."""
    pictures = []
    for row in rows.tolist():
        picture = data.images.load(row)
        picture.thumbnail((THUMBNAIL, THUMBNAIL))
        pictures.append(np.asarray(picture))
    shapes = np.array([picture.shape for picture in pictures])
    return {"ids": data.ids[rows], "shapes": shapes, "pixels": np.concatenate([each.ravel() for each in pictures])}
