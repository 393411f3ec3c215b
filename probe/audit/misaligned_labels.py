"""Whether labels belong to their images: rows in another order than the files leave no relation between the two."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.audit.table_checks import Finding

NEIGHBOURS = 10
RAREST = 5  # images with a class, and without it, below which it is left out
PERMUTATIONS = 999
MOST = 2000  # rows looked at, one per group
LEAST = 50  # rows below which nothing can be said
CHANCE = 0.01  # a relation is seen when its p-value is no higher


@dataclass(frozen=True)
class Relation:
    """How far labels agree between an image and those that look like it; chance is 0, and 1 full agreement."""

    agreement: float
    p: float
    images: int


def label_relation(
    thumbnails: NDArray[np.uint8],
    answers: NDArray[np.int64],
    groups: NDArray[np.str_] | None,
    generator: np.random.Generator,
) -> Relation | None:
    """The correlation of labels between an image and its nearest neighbours, and its permutation p-value.

    `thumbnails` are (n, pixels), `answers` (n, classes) 1, 0, or -1 for unknown. Neighbours by
    the Euclidean distance of thumbnails of equal mean and contrast; one image per group, so that
    rows can change places. The nearest-neighbour statistic of Schilling 1986
    (doi:10.1080/01621459.1986.10478337) with every class given the same weight; the p-value counts
    the true order (Phipson and Smyth 2010, doi:10.2202/1544-6115.1585). None when fewer than 50
    images, or no class with and without five images, are left.
    """
    rows = generator.permutation(len(answers))
    if groups is not None:
        rows = generator.permutation(rows[np.unique(groups[rows], return_index=True)[1]])
    rows = rows[:MOST]
    scores = _standardised(answers[rows])
    if len(rows) < LEAST or not scores.shape[1]:
        return None
    alike = scores @ scores.T / scores.shape[1]
    first, second = _neighbours(thumbnails[rows])
    found = alike[first, second].mean()
    orders = (generator.permutation(len(rows)) for _ in range(PERMUTATIONS))
    as_high = sum(alike[order[first], order[second]].mean() >= found for order in orders)
    return Relation(float(found), float((1 + as_high) / (1 + PERMUTATIONS)), len(rows))


def check_relations(relations: Mapping[str, Relation]) -> list[Finding]:
    """A warning for every split whose labels have nothing to do with how its images look."""
    return [
        Finding(
            "warning",
            "row_order",
            f"{split}: labels agree no more between images that look alike than by chance (p = {relation.p:.2g}, "
            f"{relation.images} images); either the rows are not in the order of the images, or the classes differ "
            "only in fine detail",
        )
        for split, relation in relations.items()
        if relation.p > CHANCE
    ]


def _standardised(answers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Class memberships of mean 0 and spread 1, unknown ones 0; classes too rare or too common are left out."""
    known = answers >= 0
    with_it, without = (answers == 1).sum(0), (answers == 0).sum(0)
    enough = (with_it >= RAREST) & (without >= RAREST)
    mean = with_it[enough] / (with_it + without)[enough]
    return np.where(known[:, enough], (answers[:, enough] - mean) / np.sqrt(mean * (1 - mean)), 0.0)


def _neighbours(thumbnails: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    from sklearn.neighbors import NearestNeighbors  # slow to load, seldom needed

    values = thumbnails.astype(np.float64)
    spread = np.maximum(values.std(1, keepdims=True), 1)  # less than a grey level is rounding
    second = (
        NearestNeighbors(n_neighbors=NEIGHBOURS).fit((values - values.mean(1, keepdims=True)) / spread).kneighbors()[1]
    )
    return np.repeat(np.arange(len(second)), NEIGHBOURS), second.ravel()
