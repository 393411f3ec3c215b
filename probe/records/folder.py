"""What commands left in a folder, as recipes read it to draw a figure again."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import pandas as pd


class Missing(LookupError):
    """What a recipe reads is not there; the message names the command that writes it."""


class Damaged(ValueError):
    """What a recipe reads is not what its command writes; the message names the file."""


@contextmanager
def reading(*paths: Path) -> Iterator[None]:
    """Raise Damaged, naming the files, when a figure cannot be made of what they hold."""
    try:
        yield
    except (Missing, Damaged):
        raise
    except (OSError, LookupError, ValueError, TypeError, AttributeError, EOFError, BadZipFile) as error:
        said = f"no {error}" if isinstance(error, KeyError) else next(iter(str(error).splitlines()), "")
        files = " and ".join(f"'{path}'" for path in paths)
        told = f"cannot draw from {files}, damaged or written otherwise: {said or type(error).__name__}"
        raise Damaged(f"{told}; run the command that writes it again") from None


@dataclass(frozen=True)
class Results:
    """A folder of results, and how its `rows` and their `marks` are found, which not every figure takes.

    `metric` is the one that is drawn and `column` the width of the figure, None for what suits it;
    `dataset` is the one asked for, where one was.
    """

    folder: Path
    read: Callable[[], pd.DataFrame]
    recommend: Callable[[pd.DataFrame, str], list[dict[str, str]]]
    metric: str = "auroc"
    column: str | None = None
    dataset: str | None = None

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The rows of its results.jsonl, of one data set."""
        return self.read()

    @cached_property
    def marks(self) -> list[dict[str, str]]:
        """The recommended taps, as `depth_curve` takes them."""
        return self.recommend(self.rows, self.metric)

    def scores(self, studies: Sequence[str], command: str) -> pd.DataFrame:
        """The rows of some studies. Raises Missing when one of them has no score in `metric`."""
        for study in studies:
            if not (self.rows["study"].eq(study) & self.rows["metric"].eq(self.metric)).any():
                raise Missing(f"no {self.metric} of '{command}' in '{self.folder}'")
        return self.rows[self.rows["study"].isin(studies)]

    def path(self, name: str, command: str) -> Path:
        """A file. Raises Missing where it is not."""
        if not (path := self.folder / name).is_file():
            raise Missing(f"no {name} of '{command}' in '{self.folder}'")
        return path

    def paths(self, pattern: str, command: str) -> list[Path]:
        """The files that match a pattern. Raises Missing where there is none."""
        if not (found := sorted(self.folder.glob(pattern))):
            raise Missing(f"no {pattern} of '{command}' in '{self.folder}'")
        return found

    def check(self, name: str, named: object = None) -> None:
        """Raise Missing where a data set was asked for and a file is of another one, or does not say of which."""
        if self.dataset is not None and named != self.dataset:
            said = (
                f"is of '{named}', not of '{self.dataset}'" if isinstance(named, str) and named else "names no data set"
            )
            raise Missing(f"'{self.folder / name}' {said}; leave out --data, or take another folder")

    def table(self, name: str, command: str) -> pd.DataFrame:
        """A CSV file. Raises Missing where it is not, and Damaged where it cannot be read."""
        path = self.path(name, command)
        with reading(path):
            return pd.read_csv(path)

    def facts(self, name: str, command: str) -> Any:
        """A JSON file. Raises Missing where it is not, and Damaged where it cannot be read."""
        path = self.path(name, command)
        with reading(path):
            return json.loads(path.read_text(encoding="utf-8"))
