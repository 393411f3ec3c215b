"""Records made from rows that a test gives, as commands would have left them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from probe.records.cell import Cell, Outcome
from probe.records.record import Record, Run


def leave(
    folder: Path, command: str, kind: str, rows: Sequence[dict[str, Any]] = (), *, facts: dict[str, Any] | None = None,
    run: dict[str, Any] | None = None, **labels: Any,
) -> Cell:  # fmt: skip
    """Enter a run of one cell with these rows and facts; `run` are facts of the run, `labels` those of the cell."""
    first = next(iter(rows), {})
    named = {name: first.get(name) for name in ("dataset", "arch", "weights")} | labels
    cell = Cell(kind=kind, asked={"rows": list(rows), "facts": facts, "labels": named}, labels=named)
    record = Record(folder)
    known = {"data": {"name": named["dataset"]}, "skipped": [], **(run or {})}
    record.enter(Run.of(command, {"cell": cell.digest}, [cell], known))
    record.write(cell, Outcome(rows=list(rows), facts=facts or {}), seconds=1.0)
    return cell
