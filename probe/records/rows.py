"""Results as flat rows: one number each, with all that is needed to know what it is a number of."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from probe.base.errors import ProbeError
from probe.base.runtime import log

COLUMNS = (
    "study", "dataset", "arch", "weights", "tap", "depth", "task", "method", "strategy", "split", "metric",
    "class", "seed", "fold", "n_train", "value", "ci_low", "ci_high", "request",
)  # fmt: skip
TRAINING_SIZE = "training_size"  # the study of rows of probes from fewer images
WITHOUT_PROBE = "none"  # the method of scores that need no probe
RUN = ["study", "dataset", "arch", "weights", "method", "seed", "n_train"]  # of probes, which are fitted at all taps
SAME = [*RUN, "tap", "strategy", "split", "metric", "class", "fold"]  # what a number is a number of


def make_row(**known: Any) -> dict[str, Any]:
    """A row with every column; what does not apply is None, and so is a number that is not defined.

    Raises ProbeError for a column that no row has.
    """
    extra = set(known) - set(COLUMNS)
    if extra:
        raise ProbeError(f"rows have no column {sorted(extra)[0]!r}; they have {', '.join(COLUMNS)}")
    return {name: _plain(known.get(name)) for name in COLUMNS}


def append_rows(path: Path, rows: Iterable[Mapping[Any, Any]]) -> None:
    """Add rows to a JSON-lines file."""
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(to_json(row) + "\n" for row in rows))  # at once: Ctrl-C in between would tear a line


def read_rows(path: Path) -> pd.DataFrame:
    """The rows of a JSON-lines file, of which the later run counts: what earlier ones left is left out, and said.

    Of probes, all rows are of the last request; of any two rows that are numbers of the same, the last is kept.
    """
    try:
        rows = frame([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])
    except (OSError, ValueError) as error:
        raise ProbeError(f"cannot read results from '{path}': {error}") from None
    latest = _latest(rows)
    if len(latest) < len(rows):
        log.info("'%s': %d rows of earlier runs left out, the later run counts", path, len(rows) - len(latest))
    return latest


def _latest(rows: pd.DataFrame) -> pd.DataFrame:
    """Seeds, and sizes of training sets where they are studied, stand side by side; all other settings do not."""
    keys = rows.assign(n_train=rows["n_train"].where(rows["study"].eq("training_size")))
    last = keys.groupby(RUN, dropna=False)["request"].transform("last")
    stale = rows["strategy"].eq("frozen") & rows["request"].notna() & rows["request"].ne(last)
    return rows[~(stale | keys.duplicated(SAME, keep="last"))].reset_index(drop=True)


def frame(rows: Iterable[Mapping[Any, Any]]) -> pd.DataFrame:
    """Rows as a table."""
    table = pd.DataFrame(list(rows), columns=list(COLUMNS))
    numbers = ["depth", "seed", "fold", "n_train", "value", "ci_low", "ci_high"]
    table[numbers] = table[numbers].apply(pd.to_numeric)
    return table


def to_json(value: Any, indent: int | None = None) -> str:
    """Strict JSON of nested data: NumPy's numbers as plain ones, and null for a number that is not defined."""
    return json.dumps(_plain(value), indent=indent, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
