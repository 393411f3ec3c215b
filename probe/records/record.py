"""A record: the folder in which runs leave what was asked and what it came to. The one writer, and the one reader.

`study.json` lists the runs: command, settings, data, versions, hardware, and the digests of their cells.
`cells/<digest>.json` is a finished cell: what was asked, its rows and facts, seconds, versions. `cells/<digest>.npz`
holds its arrays, predictions among them. `results.jsonl` has the rows of all cells and can be rebuilt at any time.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from zipfile import BadZipFile

from filelock import FileLock

from probe.base.errors import ProbeError, reason
from probe.base.files import Damaged, plain, read_signed, replace_file, replace_text, write_signed
from probe.base.runtime import check_folder, log, versions
from probe.records.cell import LABELS, Cell, Outcome

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

FORMAT = 1
STUDY, CELLS, ROWS = "study.json", "cells", "results.jsonl"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One request of a command: its settings, its cells in order, and facts for whoever repeats it.

    `cells` hold a digest (`cell`) each, and the labels that this run gives the cell.
    """

    command: str
    asked: Mapping[str, Any]
    cells: Sequence[Mapping[str, Any]]
    facts: Mapping[str, Any]

    @classmethod
    def of(
        cls, command: str, asked: Mapping[str, Any], cells: "Sequence[Cell | Entry]", facts: Mapping[str, Any]
    ) -> Self:
        """The run of some cells, now."""
        listed = [{"cell": cell.digest, **cell.labels} for cell in cells]
        now = {"argv": sys.argv, "time": datetime.now(UTC).isoformat(timespec="seconds"), "versions": versions()}
        return cls(command=command, asked=plain(asked), cells=plain(listed), facts=plain({**now, **facts}))


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A cell as recorded: done, or failed with an `error`. `stored` names its arrays, which take `size` bytes."""

    digest: str
    kind: str
    asked: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    facts: Mapping[str, Any]
    seconds: float
    error: str | None = None
    stored: Sequence[str] = ()
    size: int = 0
    labels: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = field(default=None, repr=False)

    def labelled(self, labels: Mapping[str, Any]) -> Self:
        """The same under the labels of a run, its rows too; a label that is None leaves that of a row."""
        given = {name: value for name, value in labels.items() if value is not None}
        other = replace(self, labels=labels, rows=[{**row, **given} for row in self.rows])
        if "arrays" in self.__dict__:  # kept in memory
            other.__dict__["arrays"] = self.__dict__["arrays"]
        return other

    @cached_property
    def arrays(self) -> "Mapping[str, np.ndarray[Any, Any]]":
        """Its arrays by name, each read when it is asked for. Raises ProbeError where they are damaged."""
        return _Arrays(self.folder / f"{self.digest}.npz", self.stored) if self.folder else {}


class _Arrays(Mapping[str, Any]):
    """The arrays of an .npz, each read when it is asked for."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path, self.names = path, names

    def __getitem__(self, name: str) -> Any:
        import numpy as np

        if name not in self.names:
            raise KeyError(name)
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return arrays[name]
        except (OSError, ValueError, EOFError, BadZipFile, KeyError) as error:
            problem = f"cannot read '{self.path}': {reason(error)}"
            raise ProbeError(f"{problem}; delete it and run the command again") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class Record:
    """The runs and cells of a folder; without a folder they are kept in memory."""

    def __init__(self, folder: str | Path | None, *, writes: bool = True) -> None:
        """Of several processes that train together, one `writes`; the others keep what they compute in memory.

        Raises ProbeError for a folder that cannot be written, or that version 0.1.0 has written."""
        self.folder = None if folder is None else Path(folder)
        self.writes = writes and folder is not None
        self._runs: list[Run] = []
        self._entered: Run | None = None  # and not yet written
        self._entries: dict[str, Entry] = {}
        self._told: set[str] = set()
        if self.folder:
            _check_version(self.folder)

    @property
    def runs(self) -> list[Run]:
        """What was asked, in the order of the last time that it was."""
        stored = self._runs if self.folder is None else [Run(**run) for run in _study(self.folder)["runs"]]
        return [*stored] if self._entered is None else _with(stored, self._entered)

    def enter(self, run: Run) -> None:
        """Note a run as the latest; the same request of earlier is replaced by it.

        It is written with the first of its cells, so that a request that cannot be met leaves no folder behind. Raises
        ProbeError, before anything is computed, for a folder that cannot be written and a study that is damaged.
        """
        if self.folder and self.writes:
            check_folder(self.folder)
        _ = self.runs  # which reads the study
        self._entered = run
        if any(self.entry(listed["cell"]) for listed in run.cells):
            self._write_run()

    def _write_run(self) -> None:
        if self._entered is None or (self.folder and not self.writes):
            return
        with self._locked():
            self._runs = self.runs
            if self.folder:
                content = {"format": FORMAT, "runs": [asdict(each) for each in self._runs]}
                _write(self.folder / STUDY, lambda path: write_signed(path, content))
            self._entered = None

    def entry(self, digest: str) -> Entry | None:
        """A recorded cell; None where there is none, or where its file is damaged, which is logged."""
        if digest not in self._entries and self.folder:
            path = self.folder / CELLS / f"{digest}.json"
            try:
                entry = Entry(**read_signed(path), folder=path.parent)
                if entry.stored and _size(path.with_suffix(".npz")) != entry.size:
                    raise Damaged(path.with_suffix(".npz"))
                self._entries[digest] = entry
            except FileNotFoundError:
                return None
            except OSError as error:
                raise ProbeError(f"cannot read '{path}': {error.strerror or reason(error)}") from None
            except (Damaged, TypeError):
                if digest not in self._told:
                    self._told.add(digest)
                    log.warning("'%s' is damaged, so what it stood for is computed again", path)
                return None
        return self._entries.get(digest)

    def write(self, cell: Cell, outcome: Outcome, seconds: float) -> Entry:
        """Record what a cell came to. Raises ProbeError when it cannot be written."""
        rows = [{**row, "cell": cell.digest} for row in outcome.rows]
        entry = self._keep(cell, outcome.arrays, rows=rows, facts=outcome.facts, seconds=seconds)
        if outcome.spent is not None and self.writes:
            outcome.spent.unlink(missing_ok=True)
        return entry

    def fail(self, cell: Cell, error: ProbeError) -> Entry:
        """Record that a cell could not be computed, and why; what was recorded of it without an error stays."""
        recorded = self.entry(cell.digest)
        if recorded is not None and recorded.error is None:
            return recorded
        return self._keep(cell, {}, rows=[], facts={}, seconds=0.0, error=str(error))

    def of(self, run: Run) -> list[Entry]:
        """The finished cells of a run, in its order and under the labels that it gives them."""
        listed = [(self.entry(each["cell"]), {label: each.get(label) for label in LABELS}) for each in run.cells]
        return [entry.labelled(labels) for entry, labels in listed if entry is not None and entry.error is None]

    def entries(self, *commands: str) -> list[Entry]:
        """The finished cells of the runs of some commands, or of all, each once under its labels; the latest last."""
        latest: dict[str, Entry] = {}
        for run in self.runs:
            for entry in self.of(run) if run.command in commands or not commands else ():
                name = json.dumps([entry.digest, *entry.labels.values()])
                latest.pop(name, None)
                latest[name] = entry
        return list(latest.values())

    def rows(self, *commands: str) -> "pd.DataFrame":
        """The rows of the cells of some commands, or of all; of rows that are numbers of the same the latest."""
        from probe.records.result_rows import frame, latest_rows

        return frame(latest_rows(row for entry in self.entries(*commands) for row in entry.rows))

    def rebuild(self) -> list[str]:
        """Write `results.jsonl` from the cells; returns its path."""
        if self.folder is None or not self.writes:
            return []
        from probe.records.result_rows import latest_rows

        path, rows = self.folder / ROWS, latest_rows(row for entry in self.entries() for row in entry.rows)
        _write(path, lambda place: replace_text(place, (json.dumps(row) + "\n" for row in rows)))
        return [str(path)]

    def export(self, tables: Mapping[str, str]) -> list[str]:
        """Write tables by name beside the cells, for other programs; their paths. Without a folder there are none."""
        if self.folder is None or not self.writes:
            return []
        for name, text in tables.items():
            _write(self.folder / name, partial(replace_text, text=text))
        return [str(self.folder / name) for name in tables]

    def _keep(self, cell: Cell, arrays: "Mapping[str, np.ndarray[Any, Any]]", **known: Any) -> Entry:
        content = plain(
            {"digest": cell.digest, "kind": cell.kind, "asked": cell.asked, "stored": list(arrays), **known}
        )
        content["facts"]["versions"] = versions()
        self._write_run()
        if self.folder is None or not self.writes:
            entry = Entry(**content)
            entry.__dict__["arrays"] = dict(arrays)
        else:
            place = self.folder / CELLS / f"{cell.digest}.json"
            if arrays:
                _write(place.with_suffix(".npz"), lambda path: replace_file(path, lambda file: _save(file, arrays)))
                content["size"] = _size(place.with_suffix(".npz"))
            _write(place, lambda path: write_signed(path, content))
            entry = Entry(**content, folder=place.parent)
        self._entries[cell.digest] = entry
        return entry

    def _locked(self) -> Any:
        if self.folder is None or not self.writes:
            return nullcontext()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ProbeError(f"cannot write results to '{self.folder}': {reason(error)}") from None
        return FileLock(self.folder / ".study.lock")


def _with(runs: Sequence[Run], run: Run) -> list[Run]:
    return [*(old for old in runs if _request(old) != _request(run)), run]


def _request(run: Run) -> tuple[str, Mapping[str, Any], str | None]:
    """What tells requests apart: the command, what it was asked, and the data set where there is one."""
    return run.command, run.asked, run.facts.get("data", {}).get("name")


def is_record(folder: Path) -> bool:
    """Whether runs have left something in a folder."""
    return (folder / STUDY).is_file()


def read_results(place: str | Path | Record) -> "pd.DataFrame":
    """The rows of a record, of its folder, or of its `results.jsonl`. Raises ProbeError where there are none."""
    from probe.records.result_rows import read_rows

    if isinstance(place, Record):
        return place.rows()
    if Path(place).is_dir() and not is_record(Path(place)):
        raise ProbeError(f"'{place}' holds no results; give the folder that 'probe layerwise' wrote into")
    return Record(place).rows() if Path(place).is_dir() else read_rows(Path(place))


def _study(folder: Path) -> dict[str, Any]:
    try:
        study = read_signed(folder / STUDY)
    except FileNotFoundError:
        return {"format": FORMAT, "runs": []}
    except (OSError, Damaged) as error:
        raise ProbeError(f"'{folder / STUDY}' is damaged: {reason(error)}; take another folder, or delete it") from None
    if study.get("format") != FORMAT:
        raise ProbeError(f"'{folder}' was written by another version of probe; take another folder")
    return study


def _check_version(folder: Path) -> None:
    older = (folder / ROWS).is_file() or (folder / "run.json").is_file()
    if older and not is_record(folder) and not (folder / CELLS).is_dir():
        raise ProbeError(f"'{folder}' holds results of version 0.1.0, which this one cannot read; take another folder")


def _write(path: Path, write: Any) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)
    except OSError as error:
        told = "what is finished is kept, and the same command goes on from there"
        raise ProbeError(f"cannot write '{path}': {error.strerror or reason(error)}; {told}") from None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _save(file: Any, arrays: "Mapping[str, np.ndarray[Any, Any]]") -> None:
    import numpy as np

    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # its last argument is no array
