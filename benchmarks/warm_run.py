"""A second run with other probe options against the first: what the feature cache saves.

Command: `python benchmarks/warm_run.py [--small] -- --arch torchvision:resnet50 --weights FILE --weights scratch --data
labels.csv` (any options of `probe layerwise` behind the two dashes; by default ResNet-50 from scratch on digits). Both
are whole processes, from start to written figure, with an empty cache before the first.
"""

import subprocess
import sys
import tempfile
from functools import partial

from measuring import clock_for, new_parser, parse, timed

SMALL = ["--arch", "test_resnet", "--weights", "scratch", "--image-size", "32", "--draws", "100"]
OTHER = ["--c-grid", "0.001,0.01,0.1,1", "--draws", "500"]  # probe options of the second run


def run(options: list[str], folder: str) -> float:
    """Seconds of one `probe layerwise`."""
    places = ["--cache", f"{folder}/cache", "--out", f"{folder}/out"]
    command = [sys.executable, "-m", "probe", "layerwise", *options, *places]
    return timed(partial(subprocess.run, command, check=True, capture_output=True), clock_for(threads=0))[1]


def main() -> None:
    """Print both times and their ratio."""
    parser = new_parser(__doc__)
    parser.add_argument("options", nargs="*", default=["--arch", "resnet50", "--weights", "scratch"])
    options = parse(parser, options=SMALL).options
    with tempfile.TemporaryDirectory() as folder:
        first, second = run(options, folder), run([*options, *OTHER], folder)
    print(f"first {first:.1f} s, second {second:.1f} s, ratio {second / first:.3f}")


if __name__ == "__main__":
    main()
