"""A cell: one thing that is computed once, named by all that decides its numbers; and what it came to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe.base.files import digest_of, plain

if TYPE_CHECKING:
    import numpy as np

LABELS = ("dataset", "arch", "weights", "tap", "arm", "setting", "seed")  # columns that tell cells apart in print


@dataclass(frozen=True, kw_only=True, eq=False)
class Cell:
    """What is asked: plain values, known before anything is built.

    `kind` says what is computed (probes, trained, ...). `asked` holds all that decides the numbers: settings, the
    identity of the network, the hash of the images. `labels` are columns of its rows, by which a reader tells cells
    apart; they decide no number, so a renamed file is the same cell under another label.
    With `keeps` the trained network is kept in a file beside the record of the cell.
    """

    kind: str
    asked: Mapping[str, Any]
    labels: Mapping[str, Any]
    keeps: bool = False

    def __post_init__(self) -> None:
        if strangers := set(self.labels) - set(LABELS):
            raise ValueError(f"a cell has no label {sorted(strangers)[0]!r}; it has {', '.join(LABELS)}")
        object.__setattr__(self, "labels", {label: self.labels.get(label) for label in LABELS})

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cell) and self.digest == other.digest

    @cached_property
    def digest(self) -> str:
        """Its name: 128 bits of SHA-256 over kind and `asked`."""
        return digest_of(plain({"kind": self.kind, **self.asked}))


@dataclass(kw_only=True)
class Outcome:
    """What a cell came to: rows, facts, arrays by name, and a file that is `spent` once they are recorded."""

    rows: list[dict[str, Any]]
    facts: dict[str, Any] = field(default_factory=dict)
    arrays: "dict[str, np.ndarray[Any, Any]]" = field(default_factory=dict)
    spent: Path | None = None
