"""A small share of `benchmarks/fuzz.py`: no traceback, no wrong exit code, no hang, whatever comes in."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import fuzz


@pytest.mark.filterwarnings("default")  # Pillow warns of what it finds in broken files
@pytest.mark.parametrize("kind", fuzz.KINDS)
@settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 2**32))
def test_it_ends_in_one_line_and_an_exit_code(kind: str, seed: int) -> None:
    _, wrong, arguments = fuzz.case(kind, np.random.default_rng(seed), limit=60)
    assert not wrong, arguments


def test_a_fault_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise KeyError("ours")

    monkeypatch.setattr("probe.data.dataset", fail)
    assert "ours" in fuzz.case("manifest", np.random.default_rng(0))[1]
    monkeypatch.setattr("probe.data.dataset", lambda *args, **options: __import__("time").sleep(30))
    assert "not done after 1 s" in fuzz.case("manifest", np.random.default_rng(0), limit=1)[1]
