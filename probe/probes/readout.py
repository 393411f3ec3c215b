"""What all read-outs have in common: probabilities at every setting, one setting kept, finite rows."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from probe.base.array_types import Features2d, Labels, ProbabilitiesAt
from probe.base.errors import ProbeError
from probe.tasks import Task

CHUNK = 8192  # rows read at a time

Readable = Features2d | Float[Tensor, "n d"]  # an array, or a tensor that is kept where the probes are fitted


class ReadOut(Protocol):
    """A fitted read-out at one or several settings: strengths of a penalty, numbers of neighbours."""

    def probabilities(self, features: Readable, which: int | slice = slice(None), /) -> ProbabilitiesAt:
        """(settings, n, classes), or (n, classes) at one of them; rows of multi-label data do not sum to 1."""
        ...

    def only(self, which: int, /) -> "ReadOut":
        """The read-out at one of its settings."""
        ...


def named(name: str, text: str) -> str:
    """What is wrong, behind the name of what it is wrong with."""
    return f"{name}: {text}" if name else text


def rows_of(features: Readable, at: slice | NDArray[np.integer]) -> Tensor:
    """A copy of some rows in float64, where the features are."""
    if isinstance(features, Tensor):
        return features[at].to(torch.float64, copy=True)
    return torch.from_numpy(np.array(features[at], np.float64))


def blocks(features: Readable, size: int = CHUNK) -> Iterator[tuple[slice, Tensor]]:
    """Rows (n, d), `size` at a time, in float64, with their place."""
    for start in range(0, len(features), size):
        place = slice(start, start + size)
        yield place, rows_of(features, place)


def check_finite(features: Readable, name: str = "") -> None:
    """Raise ProbeError, `name` first, when some rows (n, d) are not finite."""
    bad = [place.start + int(row) for place, rows in blocks(features) for row in (~rows.isfinite().all(1)).nonzero()]
    if bad:
        raise ProbeError(named(name, f"{len(bad)} rows of features are not finite, the first of them row {bad[0]}"))


def shown_and_known(labels: Labels, task: Task) -> tuple[Tensor, Tensor]:
    """Per row and class whether the class is there, and whether that is known; (n, classes) each, float64 0 and 1."""
    answers = torch.from_numpy(task.answers(np.asarray(labels, np.int64)))
    return (answers == 1).double(), (answers >= 0).double()
