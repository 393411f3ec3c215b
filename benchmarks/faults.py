"""The cache under faults: kills, Ctrl-C and flipped bytes at random.

Command: `python benchmarks/faults.py` (`--rows 10240 --kills 50 --flips 200 --stops 20 --seed 0` are the defaults).
An extraction is killed (SIGKILL) at random moments, then run once; its files must be those of an undisturbed run, byte
by byte. A random byte of a random file is flipped; `verify` must find it, and every tenth time a run must repair it.
`probe extract` is sent SIGINT at random moments of its life; it must end with exit code 130 and one line.
"""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import new_parser, parse
from synthetic import noise

import probe
from probe.cache.inventory import entries
from probe.cache.upkeep import verify_all

SETTINGS = probe.Extraction(batch_size=32)


def work(cache: Path, rows: int, begun: Any) -> None:
    """One extraction; `begun` is set when the network is there."""
    torch.set_num_threads(1)
    logging.disable()
    net = probe.backbone("test_resnet", "scratch", image_size=32)
    begun.set()
    probe.extract(net, noise(rows), SETTINGS, cache=cache)


def run(cache: Path, rows: int, limit: float | None = None) -> tuple[bool, float]:
    """Extract in a process of its own, killed `limit` seconds after it began; whether it was, and the seconds."""
    fork = multiprocessing.get_context("fork")
    begun = fork.Event()
    process = fork.Process(target=work, args=(cache, rows, begun))
    process.start()
    begun.wait()
    start = time.perf_counter()
    process.join(limit)
    at_work = process.is_alive()
    if at_work and process.pid:
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return at_work, time.perf_counter() - start


def content(cache: Path) -> dict[str, bytes]:
    """Every file of the cache's one set of features."""
    (folder,) = (path.parent for path in cache.glob("*/manifest.json"))
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def kills(
    place: Path, rows: int, count: int, rng: np.random.Generator, expected: dict[str, bytes], seconds: float
) -> str:
    """Kill at random moments, then run once and compare."""
    done, finished, cache, leftovers = 0, 0, place / "killed", 0
    before, advanced = 0, 0
    while done < count:
        killed, _ = run(cache, rows, float(rng.uniform(0, 3 * seconds / count)))
        if not killed:
            finished, cache, before = finished + 1, place / f"killed{finished}", 0
            continue
        now = sum(entry.done or 0 for entry in entries(cache))
        done, advanced, before = done + 1, advanced + (now > before), now
        leftovers += len([*cache.glob("*/.*.*")])
    run(cache, rows)
    same = content(cache) == expected
    return (
        f"{done} kills, {advanced} after new chunks were written, {leftovers} unfinished texts seen, {finished} runs "
        f"came to their end between; then one run over {before} of {rows} rows: byte-identical {same}"
    )


def flips(cache: Path, rows: int, count: int, rng: np.random.Generator, expected: dict[str, bytes]) -> str:
    """Flip a byte, verify, put it right or have it repaired."""
    (folder,) = (path.parent for path in cache.glob("*/manifest.json"))
    found = repaired = tried = 0
    for turn in range(count):
        path = folder / str(rng.choice(list(expected)))
        whole = bytearray(expected[path.name])
        head = 128 if path.suffix == ".npy" and turn % 4 == 0 else len(whole)  # headers too
        whole[int(rng.integers(head))] ^= int(rng.integers(1, 256))
        path.write_bytes(whole)
        found += any(finding["faults"] for finding in verify_all(cache))
        if turn % 10 == 0:
            tried += 1
            run(cache, rows)
            repaired += content(cache) == expected
        path.write_bytes(expected[path.name])
    return f"{count} flipped bytes, {found} found; {tried} runs after a flip, {repaired} repaired it"


def stops(place: Path, count: int, rng: np.random.Generator) -> str:
    """Send SIGINT to `probe extract` at random moments."""
    command = [sys.executable, "-m", "probe", "extract", "--arch", "test_resnet", "--weights", "scratch"]
    command += ["--image-size", "128", "--cache", str(place / "stopped")]
    good, other = 0, list[str]()
    while good + len(other) < count:
        wait = float(rng.uniform(0.15, 8))
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            time.sleep(wait)
            process.send_signal(signal.SIGINT)
            _, words = process.communicate(timeout=60)
        if process.returncode == 0:  # it had come to its end
            subprocess.run(
                [sys.executable, "-m", "probe", "cache", "rm", "--all", "--cache", place / "stopped"], check=True
            )
            continue
        lines = [line for line in words.splitlines() if not line.startswith("features of")]
        if process.returncode == 130 and len(lines) == 1 and lines[0].startswith("probe: stopped"):
            good += 1
        else:
            other.append(f"\n  after {wait:.2f} s: exit code {process.returncode}, {lines[-3:]}")
    last = subprocess.run(command, capture_output=True, check=False).returncode
    return f"{count} times Ctrl-C, {good} ended with 130 and one line; the run after them: {last}{''.join(other)}"


def main() -> None:
    """Print a line per fault."""
    parser = new_parser(__doc__)
    for name, default in (("rows", 256 * 40), ("kills", 50), ("flips", 200), ("stops", 20), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parse(parser, rows=1024, kills=2, flips=10, stops=1)
    with tempfile.TemporaryDirectory() as folder:
        place, rng = Path(folder), np.random.default_rng(options.seed)
        _, seconds = run(place / "whole", options.rows)
        expected = content(place / "whole")
        if options.kills:
            print(kills(place, options.rows, options.kills, rng, expected, seconds), flush=True)
        if options.flips:
            print(flips(place / "whole", options.rows, options.flips, rng, expected), flush=True)
        if options.stops:
            print(stops(place, options.stops, rng), flush=True)


if __name__ == "__main__":
    main()
