"""Two folders of results compared number by number, and two feature caches byte by byte.

Command: `python benchmarks/compare_results.py FOLDER_A FOLDER_B [--tolerance 0] [--caches A B]` (`--small`: two small
runs of the same request). Rows of the two `results.jsonl` are matched on what they are numbers of; columns that only
one folder has are ignored, so that an older folder can be compared with a newer one. Weights are matched by the stem of
their file. Of two rows of one folder that are numbers of the same, the later counts. In caches, the arrays of equal
requests are compared. Prints how many numbers are equal, different and missing on one side, and the largest difference;
exit code 1 if any number is different or missing.
"""

import argparse
import filecmp
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measuring import new_parser, parse

from probe.records.display_names import weights_name

KEYS = (
    "study", "dataset", "arch", "weights", "seed", "method", "tap", "strategy", "split", "metric", "class", "fold",
    "n_train", "arm", "setting",
)  # fmt: skip
NUMBERS = ("value", "ci_low", "ci_high", "depth")
Key = tuple[Any, ...]
SMALL = ("--arch", "test_resnet", "--weights", "scratch", "--image-size", "32", "--draws", "100", "--c-grid", "0.1,1")


@dataclass
class Count:
    """How many were equal, different or missing on one side; the differences, the largest first."""

    equal: int = 0
    missing: list[str] = field(default_factory=list)
    different: list[tuple[float, str]] = field(default_factory=list)

    def say(self, what: str, shown: int = 5) -> bool:
        """Print the counts and the worst; whether all is equal."""
        words = f"{what}: {self.equal} equal, {len(self.different)} different, {len(self.missing)} missing on one side"
        worst = sorted(self.different, key=lambda pair: -pair[0])
        print(f"{words}; largest difference {worst[0][0] if worst else 0:g}")
        for difference, name in worst[:shown]:
            print(f"  {difference:g}: {name}")
        for name in self.missing[:shown]:
            print(f"  missing: {name}")
        return self.equal > 0 and not self.different and not self.missing


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of a folder, weights by their stem."""
    lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [row | {"weights": weights_name(row.get("weights") or "")} for row in rows]


def by_key(rows: list[dict[str, Any]], keys: list[str], where: str) -> dict[Key, dict[str, Any]]:
    """Rows by what they are numbers of, the last of each; says how many others there were."""
    matched = {tuple(row.get(name) for name in keys): row for row in rows}
    if len(matched) < len(rows):
        print(f"{where}: {len(rows) - len(matched)} rows are followed by one of the same, which counts")
    return matched


def apart(a: float | None, b: float | None) -> float:
    """The difference of two numbers; infinite if only one of them is defined."""
    if a is None or b is None:
        return 0.0 if a is b else math.inf
    return abs(a - b)


def compare_rows(folders: tuple[Path, Path], tolerance: float) -> Count:
    """Compare the numbers of all rows that both folders have, or one of them."""
    sides = [read_rows(folder) for folder in folders]
    shared = set.intersection(*({name for row in rows for name in row} for rows in sides))
    keys = [name for name in KEYS if name in shared]
    a, b = (by_key(rows, keys, f"{folder}") for rows, folder in zip(sides, folders, strict=True))
    count = Count(missing=[f"{key} in {folders[key in a]}" for key in [*a, *b] if not (key in a and key in b)])
    for key in (key for key in a if key in b):
        for name in (name for name in NUMBERS if name in shared):
            difference = apart(a[key].get(name), b[key].get(name))
            if difference <= tolerance:
                count.equal += 1
            else:
                count.different.append((difference, f"{name} of {key}: {a[key].get(name)} and {b[key].get(name)}"))
    return count


def read_arrays(cache: Path) -> dict[Key, Path]:
    """The arrays of a cache by request and name."""
    requests = {path.parent: json.loads(path.read_text()).get("request") for path in cache.glob("*/manifest.json")}
    return {
        (json.dumps(request, sort_keys=True), array.name): array
        for folder, request in requests.items()
        for array in sorted(folder.glob("*.npy"))
    }


def compare_caches(caches: tuple[Path, Path]) -> Count:
    """Compare the bytes of all arrays of requests that both caches have, or one of them."""
    sides: tuple[Mapping[Key, Path], ...] = tuple(map(read_arrays, caches))
    a, b = sides
    count = Count(missing=[str({**a, **b}[key]) for key in [*a, *b] if not (key in a and key in b)])
    for key in (key for key in a if key in b):
        if filecmp.cmp(a[key], b[key], shallow=False):
            count.equal += 1
        else:
            count.different.append((math.inf, f"{a[key]} and {b[key]}"))
    return count


def run_twice(folder: Path) -> dict[str, list[Path]]:
    """Folders and caches of one small request, run twice."""
    for name in ("a", "b"):
        command = [sys.executable, "-m", "probe", "layerwise", *SMALL, "--out", f"{folder / name}"]
        command += ["--cache", f"{folder / name}-cache"]
        subprocess.run(command, check=True, capture_output=True)
    return {"folders": [folder / "a", folder / "b"], "caches": [folder / "a-cache", folder / "b-cache"]}


def compare(folders: list[Path], caches: list[Path] | None, tolerance: float) -> bool:
    """Print what is equal and what is not; whether all is."""
    same = []
    if folders:
        same.append(compare_rows((folders[0], folders[1]), tolerance).say("numbers"))
    if caches:
        same.append(compare_caches((caches[0], caches[1])).say("arrays"))
    return all(same)


def main() -> None:
    """Compare what is asked for; exit code 1 on any difference."""
    parser = new_parser(__doc__)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--tolerance", type=float, default=0.0, help="the largest difference that counts as equal")
    parser.add_argument("--caches", nargs=2, type=Path, metavar=("A", "B"))
    options = parse(parser)
    with tempfile.TemporaryDirectory() as folder:
        if options.small:
            options = argparse.Namespace(**vars(options) | run_twice(Path(folder)))
        if len(options.folders) != 2 and not (options.caches and not options.folders):
            parser.error("two folders of results are needed, or two caches")
        sys.exit(not compare(options.folders, options.caches, options.tolerance))


if __name__ == "__main__":
    main()
