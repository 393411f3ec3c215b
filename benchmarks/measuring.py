"""What every benchmark does alike: it reads its arguments, names the processor, and times its sides in turn."""

import argparse
import os
import platform
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import probe

Clock = Callable[[], float]
SMALL_NETWORK: dict[str, Any] = {"arch": "test_resnet", "weights": "scratch", "data": "digits", "image_size": 32}


def new_parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the benchmark's docstring."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_network(parser: argparse.ArgumentParser, arch: str = "torchvision:resnet18") -> None:
    """`--arch`, `--weights`, `--data` and `--image-size`."""
    parser.add_argument("--arch", default=arch)
    parser.add_argument("--weights", default="scratch")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--image-size", type=int, help="in pixels; by default what suits the data")


def parse(parser: argparse.ArgumentParser, **small: Any) -> argparse.Namespace:
    """The arguments. `--small` puts the values of `small` in place of the defaults. Prints what the run was made on."""
    parser.add_argument("--small", action="store_true", help="the smallest size: to see that it runs, not to measure")
    if parser.parse_known_args()[0].small:
        parser.set_defaults(**small)
    options = parser.parse_args()
    words = "; at the smallest size, on digits or images made up: nothing is measured" if options.small else ""
    print(f"{os.cpu_count()} cores of {processor()}, torch {version('torch')}{words}", flush=True)
    return options


def processor() -> str:
    """The processor's name as the system states it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def read_features(options: argparse.Namespace) -> probe.Features:
    """The features of the network that `add_network`'s options name."""
    data = probe.dataset(options.data)
    size = options.image_size or data.image_size
    return probe.extract(probe.backbone(options.arch, options.weights, image_size=size), data)


def spread_taps(features: probe.Features) -> list[str]:
    """The first, the middle and the last tap."""
    taps = list(features)
    return taps[:: max(1, len(taps) // 2)][:3]


def peer(module: str, package: str) -> Any:
    """The module of a package to compare with, or None, said in a line, where it is not installed."""
    try:
        return import_module(module)
    except ModuleNotFoundError:
        print(f"left out: {package} is not installed", flush=True)
        return None


def clock_for(threads: int) -> Clock:
    """With one thread processor time counts, so that other programs do not; else the time on the wall."""
    return time.process_time if threads == 1 else time.perf_counter


def timed(work: Callable[[], Any], clock: Clock) -> tuple[Any, float]:
    """The result, and the seconds it took."""
    start = clock()
    result = work()
    return result, clock() - start


def in_turn(
    sides: Mapping[str, Callable[[], Any]], rounds: int, clock: Clock = time.perf_counter, warm_up: int = 0
) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Run all sides, one after the other, round by round: seconds (rounds, sides), and what each gave last.

    The rounds that warm up are run first and not counted.
    """
    seconds, results = np.zeros((warm_up + rounds, len(sides))), {}
    for row in seconds:
        for column, (name, work) in enumerate(sides.items()):
            results[name], row[column] = timed(work, clock)
    return seconds[warm_up:], results


def ratio_words(over: NDArray[np.float64], under: NDArray[np.float64], digits: int = 2) -> str:
    """The median of the ratios of each round, with the smallest and the largest."""
    ratios = over / under
    return f"{np.median(ratios):.{digits}f} x [{ratios.min():.{digits}f}, {ratios.max():.{digits}f}]"
