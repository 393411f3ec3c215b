"""No test dials out, draws from the global random state unseen, or leaves the user's cache changed."""

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from jaxtyping import install_import_hook

from figures import style  # which imports nothing of what is checked

CHECKED = (
    "probe.metrics",
    "probe.scoring",
    "probe.probes",
    "probe.studies.depth",
    "analysis",
)
if os.environ.get("CHECK_SHAPES"):  # in the gate: tests of metrics, statistics and probes take half as long again
    install_import_hook(CHECKED, "beartype.beartype")

PRINTED = style.save.__defaults__
style.save.__defaults__ = (("png",), 50)  # formats and dpi: what is drawn is looked at, not what is printed

StoppedAt = Callable[[int], AbstractContextManager[None]]
torch.set_num_threads(1)  # one process per core is faster than two threads in each
SHARED = Path(__file__).parents[2] / "shared" / "data"


HEAVIEST = ["test_contract.py", "test_cuts.py", "test_cache.py", "test_truncation.py"]  # they come first


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in HEAVIEST)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError("tests run without a network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture(autouse=True)
def _interrupts() -> Iterator[None]:
    """A command ends its process at Ctrl-C; that is not for the process of the tests."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def _figures() -> Iterator[None]:
    """Figures that a test did not save are let go of."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture
def print_quality(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures in all formats and as fine as users have them."""
    monkeypatch.setattr(style.save, "__defaults__", PRINTED)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def stopped_at(monkeypatch: pytest.MonkeyPatch) -> StoppedAt:
    """Within it, training is stopped as by Ctrl-C when it comes to an epoch."""
    from probe.finetuning.training import Run

    train = Run._train

    @contextmanager
    def stopped(epoch: int) -> Iterator[None]:
        def to_there(run: Run, now: int) -> tuple[float, float]:
            if now == epoch:
                raise KeyboardInterrupt
            return train(run, now)

        with monkeypatch.context() as patched:
            patched.setattr(Run, "_train", to_there)
            with pytest.raises(KeyboardInterrupt):
                yield

    return stopped


@pytest.fixture
def shared() -> Path:
    """Real images and weights, where a checkout has them beside it."""
    if not SHARED.is_dir():
        pytest.skip(f"the development data are not at {SHARED}")
    return SHARED
