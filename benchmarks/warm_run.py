"""A second run with other probe options against the first: what the feature cache saves.

Command: `python benchmarks/warm_run.py --arch torchvision:resnet50 --weights FILE --weights scratch --data labels.csv`
(any options of `probe layerwise`; by default ResNet-50 from scratch on digits). Both are whole
processes, from start to written figure, with an empty cache before the first.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

OTHER = ["--c-grid", "0.001,0.01,0.1,1", "--draws", "500"]  # probe options of the second run


def run(options: list[str], folder: str) -> float:
    """Seconds of one `probe layerwise`."""
    command = [str(Path(sys.executable).with_name("probe")), "layerwise", *options]
    start = time.perf_counter()
    subprocess.run([*command, "--cache", f"{folder}/cache", "--out", f"{folder}/out"], check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Print both times and their ratio."""
    options = sys.argv[1:] or ["--arch", "resnet50", "--weights", "scratch"]
    with tempfile.TemporaryDirectory() as folder:
        first, second = run(options, folder), run([*options, *OTHER], folder)
    print(f"first {first:.1f} s, second {second:.1f} s, ratio {second / first:.3f}")


if __name__ == "__main__":
    main()
