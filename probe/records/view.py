"""A view of a record: the rows and cells that a figure is drawn from, of one data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from probe.base.errors import ProbeError
from probe.records.record import Entry, Record, Run
from probe.records.result_rows import frame, latest_rows

CHOOSING = ("ProbeGrid", "Training")  # settings that name the metric by which something is chosen


class Missing(LookupError):
    """What a figure shows is not in the record; the message names the command that computes it."""


@dataclass(frozen=True)
class View:
    """A record, the data set and the metric that are shown, and the width of a figure (None for what suits it).

    Where `dataset` is None the record must be of a single one. Given `run`, figures of a single run show that one.
    """

    record: Record
    metric: str | None = None
    column: str | None = None
    dataset: str | None = None
    run: Run | None = None

    @cached_property
    def shown(self) -> str:
        """The data set that is shown. Raises ProbeError where it is not in the record, or has to be chosen."""
        names = list(dict.fromkeys(entry.labels["dataset"] for entry in self.record.entries()))
        names = [name for name in names if name is not None]
        if self.dataset is not None and self.dataset not in names:
            there = f"there are those of {', '.join(names)}" if names else "there are none"
            raise ProbeError(f"no results of '{self.dataset}' in '{self.record.folder}'; {there}")
        if self.dataset is None and len(names) > 1:
            raise ProbeError(f"'{self.record.folder}' holds results of {', '.join(names)}; choose one with --data")
        return self.dataset or (names[0] if names else "")

    def entries(self, kind: str, *commands: str) -> list[Entry]:
        """The cells of a kind from the runs of some commands. Raises Missing where there is none."""
        cells = [entry for entry in self.record.entries(*commands) if entry.kind == kind]
        cells = [entry for entry in cells if entry.labels["dataset"] in (self.shown, None)]
        if not cells:
            raise Missing(f"nothing of 'probe {commands[0]}' in '{self.record.folder}'")
        return cells

    def rows(self, *commands: str) -> pd.DataFrame:
        """The rows from the runs of some commands; an arm that was run with several settings is named with each."""
        entries = [entry for entry in self.record.entries(*commands) if entry.labels["dataset"] == self.shown]
        return name_settings(frame(latest_rows(row for entry in entries for row in entry.rows)))

    def scores(self, studies: Sequence[str], *commands: str) -> pd.DataFrame:
        """The rows of some studies. Raises Missing when one of them has no score in the metric that is shown."""
        rows, metric = self.rows(*commands), self.metric_of(commands[0])
        for study in studies:
            if not (rows["study"].eq(study) & rows["metric"].eq(metric)).any():
                raise Missing(f"no {metric} of 'probe {commands[0]}' in '{self.record.folder}'")
        return rows[rows["study"].isin(studies)]

    def metric_of(self, command: str) -> str:
        """The metric that is shown of a command: the one asked for, or that by which its latest run chose."""
        run = self.latest(command)
        settings = [run.asked.get(kind, {}) for kind in CHOOSING] if run else []
        return self.metric or next((str(each["metric"]) for each in settings if "metric" in each), "auroc")

    def latest(self, command: str) -> Run | None:
        """The latest run of a command on this data set."""
        runs = [run for run in self.record.runs if run.command == command]
        return next((run for run in reversed(runs) if run.facts.get("data", {}).get("name") == self.shown), None)

    def finished(self, command: str) -> list[tuple[Run, list[Entry]]]:
        """The runs of a command on this data set, or on none, of which every cell is there: the latest last.

        Raises Missing where there is none.
        """
        runs = [run for run in self.record.runs if run.command == command] if self.run is None else [self.run]
        runs = [run for run in runs if "data" not in run.facts or run.facts["data"]["name"] == self.shown]
        whole = [(run, cells) for run in runs if len(cells := self.record.of(run)) == len(run.cells)]
        if not whole:
            raise Missing(f"nothing of 'probe {command}' in '{self.record.folder}'")
        return whole


def name_settings(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the setting in the name of every arm that stands there with several."""
    settings = rows["setting"].fillna("")
    several = settings.groupby([rows["arch"], rows["weights"], rows["arm"]], dropna=False).transform("nunique") > 1
    named = rows["arm"].where(~several | settings.eq(""), rows["arm"] + ", " + settings)
    return rows.assign(arm=named)
