"""Tables that stand in cells: a column is an array, and a run says what the networks in them are called."""

from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.records.record import Entry, Run

Arrays = Mapping[str, NDArray[Any]]


def to_arrays(name: str, table: pd.DataFrame) -> dict[str, NDArray[Any]]:
    """The columns of a table, numbers or words, as arrays NAME/COLUMN."""
    columns = {f"{name}/{column}": table[column].to_numpy() for column in table}
    return {place: np.array(values, str) if values.dtype == object else values for place, values in columns.items()}


def to_table(name: str, arrays: Arrays) -> pd.DataFrame:
    """The table of which `to_arrays` made the arrays NAME/COLUMN."""
    return pd.DataFrame(
        {place.removeprefix(f"{name}/"): arrays[place] for place in arrays if place.startswith(f"{name}/")}
    )


def similarity_table(run: Run, entries: Sequence[Entry]) -> pd.DataFrame:
    """Of `probe similarity`, a row per two taps of one network and of every two.

    Columns `arm_a`, `tap_a`, `arm_b`, `tap_b`, `measure`, `value`, `ci_low`, `ci_high`, `null`, `dataset`.
    """
    parts = []
    for (a, b), entry in _pairs(run, entries):
        part = to_table("taps", entry.arrays).assign(arm_a=a, arm_b=b, measure=entry.facts["measure"])
        parts.append(part[["arm_a", "tap_a", "arm_b", "tap_b", "measure", "value", "ci_low", "ci_high", "null"]])
    return pd.concat(parts, ignore_index=True).assign(dataset=run.facts["title"])


def correlation_tables(run: Run, entries: Sequence[Entry]) -> dict[str, pd.DataFrame]:
    """Of `probe similarity`, canonical correlations of two networks with the same taps, by the stem of their file.

    Columns `tap`, `share`, `coefficient`, `chance`, `arm_a`, `arm_b` and `score`, which is not a number where none is
    known for the second network.
    """
    tables: dict[str, pd.DataFrame] = {}
    for (a, b), entry in _pairs(run, entries):
        if "cca/tap" in entry.arrays:
            table, scores = to_table("cca", entry.arrays), run.facts.get("scores", {}).get(b, {})
            stem = f"cca_{len(tables) + 1}" if tables else "cca"
            tables[stem] = table.assign(arm_a=a, arm_b=b, score=table["tap"].map(scores).astype(float))
    return tables


def embedding_tables(entries: Sequence[Entry]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Of `probe embed`, a row per image and map (`arm`, `tap`, `image`, `label`, `x`, `y`), and a row per map."""
    points, maps = [], []
    for entry in [entry for entry in entries if entry.kind == "embedding"]:
        arm, settings = entry.labels["arm"], {k: v for k, v in entry.asked["Embedding"].items() if k != "sample"}
        known = {name: entry.facts[name] for name in ("images", "of")}
        known = {"dataset": entry.labels["dataset"], **known, "seed": entry.asked["seed"], **settings}
        points.append(_named(arm, to_table("points", entry.arrays)))
        maps.append(_named(arm, to_table("maps", entry.arrays)).assign(**known))
    return pd.concat(points, ignore_index=True), pd.concat(maps, ignore_index=True)


def thumbnails(entries: Sequence[Entry]) -> dict[str, NDArray[np.uint8]]:
    """Of `probe embed`, small pictures (height, width, 3) by image, where they were asked for."""
    pictures: dict[str, NDArray[np.uint8]] = {}
    for arrays in [entry.arrays for entry in entries if entry.kind == "thumbnails"]:
        shapes = arrays["shapes"]
        parts = np.split(arrays["pixels"], np.cumsum(shapes.prod(axis=1))[:-1])
        named = zip(arrays["ids"].tolist(), parts, shapes.tolist(), strict=True)
        pictures |= {name: part.reshape(shape) for name, part, shape in named}
    return pictures


def depth_table(entry: Entry) -> pd.DataFrame:
    """Of `probe depth`, a row per image; its index is the row of the image in the data.

    Columns `id`, `group`, `label`, `split`, `predicted`, `correct` (missing where no label is known), `index`, `tap`,
    `depth` and `agreeing_taps`.
    """
    table = to_table("images", entry.arrays).set_index("row")
    if "group" not in table:
        table.insert(1, "group", None)
    right = pd.Series(table["correct"] == 1, dtype="boolean").where(table["correct"] >= 0)
    return table.assign(correct=right)


def attribution_arrays(entries: Sequence[Entry]) -> dict[str, NDArray[Any]]:
    """Of `probe attribute`, images, masks and maps, a column per network and tap.

    `pictures` (n, h, w, 3) bytes, `masks` (n, h, w), `ids` and `labels` (n,); by column `arms`, `taps`, `targets`
    (columns, n) and `maps_0`, `maps_1`, ... (n, h, w); `method`, `unit`, `signed` and `data`.
    """
    own = [entry for entry in entries if entry.kind == "attribution"]
    first = own[0]
    arrays = {name: first.arrays[name] for name in ("pictures", "masks", "ids", "labels")}
    arrays |= {name: np.array(first.facts[name]) for name in ("method", "unit", "signed")}
    arrays |= {name: np.concatenate([entry.arrays[name] for entry in own]) for name in ("taps", "targets")}
    names = [entry.labels["arm"] for entry in own for _ in entry.arrays["taps"]]
    maps = [entry.arrays[f"maps/{tap}"] for entry in own for tap in entry.arrays["taps"]]
    arrays |= {"arms": np.array(names), "data": np.array(first.labels["dataset"])}
    return arrays | {f"maps_{column}": values for column, values in enumerate(maps)}


def _pairs(run: Run, entries: Sequence[Entry]) -> list[tuple[tuple[str, str], Entry]]:
    """Every network with itself and with those after it, and the cell in which they are compared."""
    return list(zip(combinations_with_replacement(run.facts["arms"], 2), entries, strict=True))


def _named(arm: str, table: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([pd.DataFrame({"arm": [arm] * len(table)}), table], axis=1)
