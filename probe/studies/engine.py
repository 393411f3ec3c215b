"""Cells that are not recorded yet are computed and recorded one by one, so that a run that was stopped goes on."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tqdm import tqdm

from probe.base.errors import ProbeError
from probe.base.runtime import hardware, log, pick_device
from probe.records.cell import Cell, Outcome
from probe.records.record import Entry, Record

Work = Callable[[Cell], Outcome]
Done = tuple[Cell, Outcome | ProbeError, float]


class Engine(Protocol):
    """Where cells are computed. Results may come in any order; the caller alone writes them."""

    def map(self, work: Work, cells: Sequence[Cell]) -> Iterator[Done]:
        """Each cell with its outcome, or the error that it met, and seconds."""
        ...


class Local:
    """One cell after the other in this process."""

    def map(self, work: Work, cells: Sequence[Cell]) -> Iterator[Done]:
        """Each cell in order; an error that is the user's to fix ends that cell alone."""
        for cell in cells:
            start = time.perf_counter()
            outcome: Outcome | ProbeError
            try:
                outcome = work(cell)
            except ProbeError as error:
                outcome = error
            yield cell, outcome, time.perf_counter() - start


def complete(
    record: Record, cells: Sequence[Cell], work: Work, *, engine: Engine | None = None, doing: str = "cells"
) -> list[Entry]:
    """The entries of all cells, in order. Those that are recorded are read; the others are computed first.

    A cell that fails ends alone, and the rest goes on. Raises ProbeError at the end if any failed; where others are
    done, those that failed are recorded with their errors.
    """
    missing = [cell for cell in dict.fromkeys(cells) if not is_done(record, cell)]
    if missing and len(missing) < len(cells):
        log.info("%d of %d %s are recorded already", len(cells) - len(missing), len(cells), doing)
    failed: list[tuple[Cell, ProbeError]] = []
    with tqdm(total=len(missing), unit="cell", disable=None if len(missing) > 1 else True, desc=doing) as bar:
        for cell, outcome, seconds in (engine or Local()).map(work, missing):
            if isinstance(outcome, ProbeError):
                failed.append((cell, outcome))
            else:
                outcome.facts.setdefault("hardware", hardware(pick_device(_device(cell))))
                record.write(cell, outcome, seconds)
            bar.update()
    if failed:
        if len(failed) < len(cells):
            for cell, error in failed:
                record.fail(cell, error)
        raise _summary(failed, len(cells))
    return [entry.labelled(cell.labels) for cell in cells if (entry := record.entry(cell.digest)) is not None]


def _device(cell: Cell) -> str:
    """The device that a cell asks for in one of its settings."""
    settings = (part for part in cell.asked.values() if isinstance(part, Mapping))
    return next((str(part["device"]) for part in settings if "device" in part), "cpu")


def is_done(record: Record, cell: Cell) -> bool:
    """Whether a cell is recorded, without an error and with the network that it was asked to keep."""
    entry = record.entry(cell.digest)
    if entry is None or entry.error is not None:
        return False
    return not cell.keeps or (path := model_file(record, cell)) is None or path.is_file()


def model_file(record: Record, cell: Cell) -> Path | None:
    """Where the trained network of a cell is kept; None where results are kept in memory."""
    return None if record.folder is None else record.folder / "cells" / f"{cell.digest}.safetensors"


def _summary(failed: Sequence[tuple[Cell, ProbeError]], count: int) -> ProbeError:
    cell, error = failed[0]
    if len(failed) == count:
        return error
    where = ", ".join(str(value) for value in cell.labels.values() if value not in (None, ""))
    return ProbeError(f"{len(failed)} of {count} cells failed, the others are kept; the first ({where}): {error}")
