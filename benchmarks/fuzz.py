"""The command line under broken input: manifests, folders, archives, images, options and caches at random.

Command: `python benchmarks/fuzz.py` (`--cases 1000 --seed 0`; `--case N` runs a single one again, `--small` one
of each kind).
Every case must end within `--limit` seconds with exit code 0, 1 or 2; 1 with one line that begins with
`probe:`, 2 with one that begins with `Error:`; never with a traceback. Prints a line per kind, and what failed.
"""

import os
import signal
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_cases import KINDS, Rng, good, invoke
from measuring import new_parser, parse


class Hang(BaseException):
    """A case that took too long."""


def complaint(arguments: list[str]) -> tuple[str, str]:
    """The exit code, and what is wrong with how a command ended."""
    result = invoke(arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return "", "".join(traceback.format_exception(result.exception)[-3:])
    code, last = result.exit_code, (result.stderr.splitlines() or [""])[-1]
    begins = {0: "", 1: "probe: ", 2: "Error: "}
    found_damage = code == 1 and (arguments[:2] == ["cache", "verify"] or arguments[0] == "data")
    if code not in begins or not (found_damage or last.startswith(begins[code])) or "Traceback" in result.output:
        return str(code), f"exit code {code}: {result.stderr[-500:]}"
    return str(code), ""


def case(kind: str, rng: Rng, limit: int = 120) -> tuple[str, str, list[str]]:
    """One case in a folder of its own: exit code, complaint, arguments."""
    before, arguments = Path.cwd(), [kind]
    signal.signal(signal.SIGALRM, _too_long)
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        signal.alarm(limit)
        try:
            good(rng)
            arguments = KINDS[kind](rng)
            return (*complaint(arguments), arguments)
        except Hang:
            return "", f"not done after {limit} s", arguments
        finally:
            signal.alarm(0)
            os.chdir(before)


def _too_long(*_: Any) -> None:
    raise Hang


def main() -> None:
    """Run the cases and print what failed."""
    parser = new_parser(__doc__)
    for name, default in (("cases", 1000), ("seed", 0), ("limit", 120), ("case", -1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parse(parser, cases=len(KINDS))
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded; its networks are small
    codes: Counter[tuple[str, str]] = Counter()
    failed = 0
    for number in [options.case] if options.case >= 0 else range(options.cases):
        kind = list(KINDS)[number % len(KINDS)]
        code, wrong, arguments = case(kind, np.random.default_rng([options.seed, number]), options.limit)
        codes[kind, code] += 1
        if wrong:
            failed += 1
            print(f"case {number}, {kind}: {' '.join(arguments)}\n{wrong}", flush=True)
    for kind in KINDS:
        print(
            f"{kind:<9}",
            ", ".join(f"{codes[kind, code]} x {code or 'failed'}" for code in ("0", "1", "2", "") if codes[kind, code]),
        )
    print(f"{sum(codes.values())} cases, {failed} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
