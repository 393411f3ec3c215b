"""Data larger than memory: peak memory and bytes on disk as the images grow tenfold.

Command: `python benchmarks/memory.py` (10,000 and 100,000 synthetic images through timm's `test_resnet`; `--images N`
sets the larger number, `--small` makes it 2,000). Every number is measured in a process of its own; at the end one
extraction is killed half way and goes on in a second process. The peak of `verify` is what it takes above the
interpreter with its imports.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import new_parser, parse

from probe.cache.inventory import entries

MB = 1e6


def peak() -> int:
    """Most memory this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def make(cache: Path, count: int) -> dict[str, float]:
    """Extract, resuming whatever is there."""
    import torch
    from synthetic import noise

    import probe

    torch.set_num_threads(1)
    features = probe.extract(probe.backbone("test_resnet", "scratch", image_size=32), noise(count), cache=cache)
    payload = sum(array.nbytes for array in features.values())
    there = sum(path.stat().st_size for path in features.folder.iterdir())
    return {"peak": peak(), "payload": payload, "ratio": there / payload}


def check(cache: Path, _: int) -> dict[str, float]:
    """Verify every checksum."""
    from probe.cache.upkeep import verify_all

    before = peak()
    assert all(not finding["faults"] for finding in verify_all(cache))
    return {"peak": peak() - before}


def apart(job: str, cache: Path, count: int, half_way: bool = False) -> dict[str, float]:
    """A job in a process of its own, killed when half of the rows are there if `half_way`: its peak and its answer."""
    command = [sys.executable, __file__, "--job", job, "--cache", str(cache), "--images", str(count)]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while half_way and not any((entry.done or 0) >= count // 2 for entry in entries(cache)):
            time.sleep(0.02)
        if half_way:
            process.kill()
        out = process.communicate()[0]
    assert half_way or process.returncode == 0
    answer = {} if process.returncode else json.loads(out.splitlines()[-1])
    return {**answer, "seconds": time.perf_counter() - start}


def main() -> None:
    """Print a line per number of images, and the ratio of the peaks."""
    parser = new_parser(__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--job", choices=("make", "check"))
    parser.add_argument("--cache", type=Path)
    options = parse(parser, images=2000)
    if options.job:
        print(json.dumps((make if options.job == "make" else check)(options.cache, options.images)))
        return
    print(f"{'images':>8}  {'seconds':>7}  {'peak MB':>7}  {'payload MB':>10}  {'on disk':>7}  {'verify MB':>9}")
    peaks = []
    for count in (options.images // 10, options.images):
        with tempfile.TemporaryDirectory() as folder:
            whole = apart("make", Path(folder), count)
            checked = apart("check", Path(folder), count)
        peaks.append(whole["peak"])
        print(
            f"{count:>8}  {whole['seconds']:>7.0f}  {whole['peak'] / MB:>7.0f}  {whole['payload'] / MB:>10.1f}"
            f"  {whole['ratio']:>7.4f}  {checked['peak'] / MB:>9.2f}",
            flush=True,
        )
    print(f"ten times the images, {peaks[1] / peaks[0]:.3f} times the peak", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        apart("make", Path(folder), options.images // 10, half_way=True)
        done = entries(Path(folder))[0].done or options.images // 10  # None: it had all of them
        resumed = apart("make", Path(folder), options.images // 10)
    seconds, most = resumed["seconds"], resumed["peak"] / MB
    print(f"killed after {done} images; the rest took {seconds:.0f} s, peak {most:.0f} MB")


if __name__ == "__main__":
    main()
