"""`probe check` killed at random moments, then given again: finished cells stay, and the record equals a whole one.

Command: `python benchmarks/check_kills.py` (`--kills 20 --seed 0` are the defaults).
The command is run once undisturbed. Then it is run in another folder, with the same feature cache, and killed (SIGKILL)
at a random moment; after every kill the files of finished cells are hashed. The same command is then run to its end.
No finished file may have changed, and all numbers of both records must be equal: rows, draws and predictions.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring import new_parser, parse

from probe.records.record import Entry, Record

TIMED = ("seconds", "history", "hardware", "versions")  # facts that hold seconds, or say where it was run


def command(out: Path, epochs: int) -> list[str]:
    """A check of a small network on the digits."""
    words = f"-m probe check --arch test_resnet --weights scratch --image-size 32 --epochs {epochs} --draws 100"
    taps = "--tap 0 --tap 2 --tap 4 --seeds 2"
    return [sys.executable, *words.split(), *taps.split(), "--out", str(out)]


def run(out: Path, epochs: int, limit: float | None = None) -> bool:
    """Run the command, killed after `limit` seconds; whether it was."""
    with subprocess.Popen(
        command(out, epochs), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            _, words = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            return True
    if process.returncode:
        raise SystemExit(f"the command failed: {words}")
    return False


def finished(out: Path) -> dict[str, str]:
    """The files of finished cells with their hashes; a cell is finished once its .json is there."""
    cells = [path for path in (out / "cells").glob("*.json") if not path.name.startswith(".")]
    files = [file for path in cells for file in (path, path.with_suffix(".npz")) if file.is_file()]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def numbers(entry: Entry) -> dict[str, Any]:
    """All that a cell holds, but for seconds."""
    facts = {name: value for name, value in entry.facts.items() if name not in TIMED}
    history = [{key: line[key] for key in line if key != "seconds"} for line in entry.facts.get("history", [])]
    arrays = {
        name: hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() for name, array in entry.arrays.items()
    }
    return {"asked": entry.asked, "rows": entry.rows, "facts": facts, "history": history, "arrays": arrays}


def main() -> None:
    """Print what the kills did, and whether anything differs."""
    parser = new_parser(__doc__)
    for name, default in (("kills", 20), ("epochs", 3), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parse(parser, kills=1, epochs=1)
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as place:
        whole, killed = Path(place) / "whole", Path(place) / "killed"
        os.environ["PROBE_CACHE"] = str(Path(place) / "cache")
        start = time.perf_counter()
        run(whole, options.epochs)
        seconds, seen, kills, ends, touched = time.perf_counter() - start, dict[str, str](), 0, 0, 0
        while kills < options.kills:
            if run(killed, options.epochs, float(rng.uniform(0, seconds))):
                kills += 1
            else:  # it came to its end: from here on in a new folder
                ends, killed, seen = ends + 1, Path(place) / f"killed{ends + 1}", {}
            now = finished(killed)
            touched += sum(now.get(name) != digest for name, digest in seen.items())
            seen = now
        run(killed, options.epochs)
        now = finished(killed)
        touched += sum(now.get(name) != digest for name, digest in seen.items())
        records = [{entry.digest: numbers(entry) for entry in Record(folder).entries()} for folder in (whole, killed)]
        same = json.dumps(records[0], sort_keys=True) == json.dumps(records[1], sort_keys=True)
    print(f"{kills} kills, {ends} runs came to their end between; {len(seen)} files were finished before the last run")
    print(f"finished files that changed: {touched}; {len(records[0])} cells, all numbers equal: {same}")
    if touched or not same:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
