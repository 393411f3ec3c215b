"""Results as flat rows: one number each, with all that is needed to know what it is a number of."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from probe.base.errors import ProbeError
from probe.base.files import plain

COLUMNS = (
    "study", "dataset", "arch", "weights", "tap", "depth", "task", "method", "strategy", "arm", "setting", "split",
    "metric", "class", "seed", "fold", "n_train", "value", "ci_low", "ci_high", "cell",
)  # fmt: skip
MEASURED = ("value", "ci_low", "ci_high", "cell")  # all other columns say what a number is a number of
TRAINED = "trained"  # the method of rows of trained networks
TRAINING_SIZE = "training_size"  # the study of rows of probes from fewer images
WITHOUT_PROBE = "none"  # the method of scores that need no probe


def make_row(**known: Any) -> dict[str, Any]:
    """A row with every column; what does not apply is None, and so is a number that is not defined.

    Its arm, unless named, is the strategy of a trained network, or the kind of probe.
    Raises ProbeError for a column that no row has.
    """
    extra = set(known) - set(COLUMNS)
    if extra:
        raise ProbeError(f"rows have no column {sorted(extra)[0]!r}; they have {', '.join(COLUMNS)}")
    known.setdefault("arm", known.get("strategy") if known.get("method") == TRAINED else known.get("method"))
    return {name: plain(known.get(name)) for name in COLUMNS}


def read_rows(path: Path) -> pd.DataFrame:
    """The rows of a JSON-lines file. Raises ProbeError when it cannot be read."""
    try:
        return frame([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])
    except (OSError, ValueError) as error:
        raise ProbeError(f"cannot read results from '{path}': {error}") from None


def latest_rows(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of rows that are numbers of the same the last one; they differ in nothing but value, interval and cell."""
    latest: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for row in rows:
        name = tuple(row.get(column) for column in COLUMNS if column not in MEASURED)
        latest.pop(name, None)
        latest[name] = row
    return list(latest.values())


def frame(rows: Iterable[Mapping[Any, Any]]) -> pd.DataFrame:
    """Rows as a table."""
    table = pd.DataFrame(list(rows), columns=list(COLUMNS))
    numbers = ["depth", "seed", "fold", "n_train", "value", "ci_low", "ci_high"]
    table[numbers] = table[numbers].apply(pd.to_numeric)
    return table


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table as a list of its lines."""
    return [{str(name): value for name, value in line.items()} for line in table.to_dict(orient="records")]


def to_json(value: Any, indent: int | None = None) -> str:
    """Strict JSON of nested data: NumPy's numbers as plain ones, and null for a number that is not defined."""
    return json.dumps(plain(value), indent=indent, allow_nan=False)
