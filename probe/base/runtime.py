"""What a run stands on: messages, versions, hardware, devices."""

import logging
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from probe.base.errors import ProbeError

log = logging.getLogger("probe")  # the command line shows it on stderr

Item = TypeVar("Item")
Result = TypeVar("Result")
LIBRARIES = ("torch", "torchvision", "timm", "numpy", "pillow", "scikit-learn")


def versions() -> dict[str, str]:
    """Version of Python, of this package and of every library that can change a number."""
    return {
        "python": platform.python_version(),
        "truncated-probe": version("truncated-probe"),
        **{name: version(name) for name in LIBRARIES},
    }


def default_folder() -> Path:
    """Where features are kept: `$PROBE_CACHE`, else `probe` in `$XDG_CACHE_HOME` or `~/.cache`."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("PROBE_CACHE") or base / "probe")


def check_folder(out: Path, what: str = "results") -> None:
    """Raise ProbeError when something cannot be written to a folder; better known before the work than after."""
    there = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ProbeError(f"cannot write {what} to '{out}': '{there}' is no folder that can be written")


def optional(package: str, extra: str, purpose: str) -> Any:
    """An optional library. Raises ProbeError, naming the extra that brings it, when it is not installed."""
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        raise ProbeError(f"{purpose} takes {error.name}: pip install 'truncated-probe[{extra}]'") from None


def pick_device(name: str) -> str:
    """`auto` becomes cuda, mps or cpu, whichever is there; any other name is checked.

    Raises ProbeError when the device is not there.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.ones(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ProbeError(f"no device '{name}' here: {reason}; 'auto' takes what there is") from None
    return name


def probing_device(name: str) -> str:
    """Where probes are fitted: on CUDA when that is picked, else on the CPU, for other devices lack float64."""
    picked = pick_device(name)
    return picked if picked.startswith("cuda") else "cpu"


def free_memory(device: str) -> int:
    """Bytes free on a CUDA device; 0 on others: what a CPU reads lies within its reach already."""
    import torch

    return torch.cuda.mem_get_info(device)[0] if device.startswith("cuda") else 0


def hardware(device: str) -> dict[str, Any]:
    """Names of the processor and of the device that the networks ran on, cores and threads."""
    import torch

    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    threads = torch.get_num_threads()
    return {"processor": _processor(), "cores": os.cpu_count(), "device": name, "threads": threads}


def _processor() -> str:
    """The processor's model where the system names it, as Linux does."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{platform.machine()} {model or platform.processor()}".strip()


def in_threads(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """Results as they come; after an error, or Ctrl-C, nothing new is begun."""
    if workers == 1 or len(items) == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        pending = [pool.submit(work, item) for item in items]
        try:
            for done in as_completed(pending):
                yield done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def one_thread() -> Iterator[None]:
    """Matrices of a probe are multiplied no faster by two threads, and far slower when a core is busy elsewhere."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
