"""Linear probes on features that do not fit into memory: time, peak memory, and how good the answer is.

Command: `python benchmarks/streaming.py [--rows N] [--width D] [--folder DIR] [--small]` (default a million rows of 560
columns, 2.2 GB of float32 in a temporary file). Rows are normal, their two classes drawn from a known logistic model;
every product reads the file again. Beside time and peak memory stand the bound on the gap to the optimum, and the
correlation of the coefficients with those of the model, which no other fit is needed to know.
"""

import resource
import tempfile
from pathlib import Path

import numpy as np
from measuring import clock_for, new_parser, parse, timed
from numpy.typing import NDArray

from probe.probes import fit_path
from probe.tasks import Classes


def write(path: Path, rows: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Fill a file with features; the labels, and the coefficients they were drawn with."""
    rng = np.random.default_rng(0)
    x = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, width))
    true = rng.normal(size=width) / width**0.5
    labels = np.empty(rows, np.int64)
    for start in range(0, rows, 100_000):
        part = rng.standard_normal((min(100_000, rows - start), width), np.float32)
        x[start : start + len(part)] = part
        labels[start : start + len(part)] = rng.uniform(size=len(part)) < 1 / (1 + np.exp(-2 * part @ true))
    x.flush()
    return labels, true


def main() -> None:
    """Print what fitting three strengths takes, and how good the answer is."""
    parser = new_parser(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=560)
    parser.add_argument("--folder", type=Path)
    options = parse(parser, rows=20_000, width=40)
    rows, width = options.rows, options.width
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "features.npy"
        labels, true = write(path, rows, width)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        x = np.load(path, mmap_mode="r")
        found, spent = timed(lambda: fit_path(x, labels, Classes(2), (1e-4, 1e-2, 1.0)), clock_for(threads=0))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    alike = [np.corrcoef(coef[0], true)[0, 1] for coef in found.coef]
    print(f"{rows:,} rows x {width} ({rows * width * 4 / 1e9:.2f} GB), 3 strengths: {spent:.0f} s")
    print(f"peak resident memory {peak:.0f} MB, mapped pages of the file included; {before:.0f} MB before")
    print(
        f"gap at most {found.gap.max():.0e} of the objective; correlation with the true coefficients {min(alike):.4f}"
    )


if __name__ == "__main__":
    main()
