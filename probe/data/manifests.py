"""A manifest: a CSV or parquet table of files, labels, splits and groups."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.base.errors import ProbeError, reason
from probe.base.runtime import log, optional
from probe.data.nifti import volume_of
from probe.data.screening import Listed, is_there
from probe.tasks import Classes, Labels, Task
from probe.tasks.multi_label import UNKNOWN

SUFFIXES = (".csv", ".parquet")
NOT_LABELS = ("file", "id", "split", "group")
FLAGS = {"0": 0, "0.0": 0, "1": 1, "1.0": 1, "-1": UNKNOWN, "-1.0": UNKNOWN, "": UNKNOWN}


def read_manifest(path: Path, missing_ok: bool) -> Listed:
    """The rows of a table with the columns `file`, relative to it, and optionally `split` and `group`.

    The labels have one of three forms. `label` holds one name. `labels` holds names joined by `|`
    (in parquet also a list), empty for none; a question mark before a name says that it is unknown.
    Without either, every other column that holds nothing but 0 and 1 (also as 0.0 and 1.0), and -1 or
    an empty cell for unknown, and at least one 0 or 1, is a label named by its head; columns with
    anything else, such as an age, are left alone.
    Raises ProbeError for a table that cannot be read, lacks a column or has both named forms, and,
    unless `missing_ok`, for a file that is not there.
    """
    table, files = read_files(path, missing_ok)
    if "group" in table and table["group"].eq("").any():
        raise ProbeError(f"'{path}' has no group in row {_row(path, table['group'].eq(''))}")
    labels, task = _labels(table, path)
    return Listed(
        name=path.parent.name if path.stem == "labels" else path.stem,
        files=files,
        ids=table["file"].tolist(),
        labels=labels,
        task=task,
        groups=table["group"].tolist() if "group" in table else None,
        splits=table["split"].tolist() if "split" in table else None,
    )


def read_labels(path: Path) -> tuple[NDArray[np.int64], Task, dict[str, list[str]]]:
    """Labels of a table without files, and of the columns id, group and split what is there.

    The last by the names `ids`, `groups`, `splits`. Raises ProbeError as `read_manifest` does.
    """
    table = _read(path)
    labels, task = _labels(table, path)
    columns = {name: table[name].tolist() for name in ("id", "group", "split") if name in table}
    return labels, task, {f"{name}s": cells for name, cells in columns.items() if any(cells)}


def read_files(path: Path, missing_ok: bool) -> tuple[pd.DataFrame, list[Path]]:
    """A table with the column `file`, and the files it names. Raises ProbeError as `read_manifest` does."""
    table = _read(path)
    if "file" not in table:
        raise ProbeError(f"'{path}' has no column 'file'; it has {_names(table.columns)}")
    files = [path.parent / file for file in table["file"]]
    missing = next((file for file in files if not missing_ok and not is_there(volume_of(file))), None)
    if missing is not None:
        raise ProbeError(f"'{path}' names '{missing}', which is not there")
    return table, files


def _read(path: Path) -> pd.DataFrame:
    """All cells as text, empty where there is nothing."""
    parquet = path.suffix.lower() == ".parquet"
    if parquet:
        optional("pyarrow", "parquet", f"reading '{path}'")
    try:
        table = pd.read_parquet(path) if parquet else pd.read_csv(path, dtype=str, keep_default_na=False)
    except Exception as error:  # a parser of damaged files raises whatever the first wrong byte leads to
        kind = "parquet table" if parquet else "CSV"
        raise ProbeError(f"'{path}' is not a readable {kind}: {reason(error)}") from None
    table.columns = table.columns.map(str)
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise ProbeError(f"'{path}' has two columns '{twice[0]}'")
    return table.reset_index(drop=True).map(_text) if parquet else table


def _text(cell: Any) -> str:
    if isinstance(cell, np.ndarray | list | tuple):
        return "|".join(map(_text, cell))
    if isinstance(cell, bytes | dict):  # such as the pixels themselves
        return type(cell).__name__
    if cell is None or cell is pd.NA or cell != cell:
        return ""
    if isinstance(cell, bool | np.bool_):
        return str(int(cell))
    whole = isinstance(cell, float | np.floating) and float(cell).is_integer()  # a column of integers with gaps
    return str(int(cell) if whole else cell)


def _labels(table: pd.DataFrame, path: Path) -> tuple[NDArray[np.int64], Task]:
    if "label" in table and "labels" in table:
        raise ProbeError(f"'{path}' states labels in two forms, 'label' and 'labels'; keep one")
    if "label" in table:
        return _named(table["label"], path)
    if "labels" in table:
        lists = table["labels"].tolist()
        several = Labels.named_in(lists)
        return several.encode(lists), several
    flags = [name for name in table.columns if name not in NOT_LABELS and _are_flags(table[name])]
    if not flags:
        raise ProbeError(
            f"'{path}' has no column 'label' (one name) or 'labels' (names joined by |), nor label columns of 0 and 1; "
            f"it has {_names(table.columns)}"
        )
    log.info("labels are the columns of 0 and 1: %s", _names(flags))
    return table[flags].apply(lambda column: column.str.strip().map(FLAGS)).to_numpy(np.int64), Labels(flags)


def _are_flags(column: "pd.Series[str]") -> bool:
    cells = set(column.str.strip())
    return cells <= set(FLAGS) and any(FLAGS[cell] != UNKNOWN for cell in cells)


def _named(column: "pd.Series[str]", path: Path) -> tuple[NDArray[np.int64], Task]:
    column = column.str.strip()
    if (column == "").any():
        row = _row(path, column == "")
        raise ProbeError(f"'{path}' has no label in row {row}; several or none per image go in a column 'labels'")
    names = column.tolist()
    task = Classes.named_in(names)
    return task.encode(names), task


def _row(path: Path, where: "pd.Series[bool]") -> int:
    """The first row of some as a reader counts: from 1, in a CSV with the head as the first."""
    return int(where.to_numpy().argmax()) + (2 if path.suffix.lower() == ".csv" else 1)


def _names(columns: Iterable[str]) -> str:
    return ", ".join(map(repr, columns)) or "none"
