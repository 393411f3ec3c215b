"""Whether one tap, or one set of weights, is better than another: paired on the same test images."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.records.metric_facts import find_metric
from probe.scoring.statistics import holm, paired_difference, percentile_interval

COLUMNS = [
    "arch", "weights", "method", "tap", "against_weights", "against_tap", "metric",
    "difference", "ci_low", "ci_high", "p", "p_holm",
]  # fmt: skip


def tap_differences(
    draws: NDArray[np.float64], best: str, taps: Sequence[str], metric: str, known: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Every other tap minus the one chosen on validation, on test; `draws` (taps, 1 + draws).

    The p-values are Holm's over the taps of the network.
    """
    at = list(taps).index(best)
    others = [i for i in range(len(taps)) if i != at]
    named = [{"tap": taps[i], "against_weights": known["weights"], "against_tap": best} for i in others]
    return _rows(draws[others], np.broadcast_to(draws[at], draws[others].shape), named, metric, known)


def arm_differences(
    first: tuple[Mapping[str, Any], NDArray[np.float64]],
    second: tuple[Mapping[str, Any], NDArray[np.float64]],
    taps: Sequence[str],
    metric: str,
) -> list[dict[str, Any]]:
    """One set of weights minus another at every tap, on test; what is known of each arm, and its draws."""
    (known, draws), (other, against) = first, second
    named = [{"tap": tap, "against_weights": other["weights"], "against_tap": tap} for tap in taps]
    return _rows(draws, against, named, metric, known)


def all_differences(arms: Sequence[Mapping[str, Any]], metric: str) -> pd.DataFrame:
    """Of arms that state `arch, weights, method, taps, best` and their `draws` on test: the table of both kinds.

    Weights are compared within an architecture and method.
    """
    rows: list[dict[str, Any]] = []
    for arm in arms:
        rows += tap_differences(arm["draws"], arm["best"], arm["taps"], metric, arm)
    for first, second in combinations(arms, 2):
        if all(first[key] == second[key] for key in ("arch", "method", "taps")):
            rows += arm_differences((first, first["draws"]), (second, second["draws"]), first["taps"], metric)
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    named: Sequence[Mapping[str, Any]],
    metric: str,
    known: Mapping[str, Any],
) -> list[dict[str, Any]]:
    found = paired_difference(first, second)
    numbers = zip(named, found.estimate, found.low, found.high, found.p, holm(found.p), strict=True)
    arm = {key: known[key] for key in ("arch", "weights", "method")}
    return [
        {
            **arm, **names, "metric": f"{metric} ({find_metric(metric).better} is better)",
            "difference": value, "ci_low": low, "ci_high": high, "p": p, "p_holm": adjusted,
        }
        for names, value, low, high, p, adjusted in numbers
    ]  # fmt: skip


def strategy_differences(cells: Sequence[Mapping[str, Any]], metric: str) -> pd.DataFrame:
    """Networks trained in other ways minus the reference at the same cut, on test, means over seeds.

    `cells` state `weights, tap, strategy, seed, val` and their `draws` on test. The reference is full fine-tuning
    (`ftl`) of given weights where there is such, and of several ways the one with the best mean on validation; its
    score at the cut, with the percentile interval, stands beside each. Holm's correction is over all of the table.
    """
    sign = find_metric(metric).sign
    ways: dict[tuple[str, str], dict[str, list[Mapping[str, Any]]]] = {}
    for cell in cells:
        ways.setdefault((cell["weights"], cell["strategy"]), {}).setdefault(cell["tap"], []).append(cell)
    usual = [way for way in ways if way[0] != "scratch" and way[1] == "ftl"] or list(ways)
    reference = max(usual, key=lambda way: sign * _mean([cell["val"] for each in ways[way].values() for cell in each]))
    known, first, second = [], [], []
    for way, by_tap in ways.items():
        for tap in [tap for tap in by_tap if way != reference and tap in ways[reference]]:
            names = ("weights", "strategy", "tap", "against_weights", "against_strategy", "metric")
            known.append(dict(zip(names, (*way, tap, *reference, metric), strict=True)))
            first.append(mean_draws(by_tap[tap]))
            second.append(mean_draws(ways[reference][tap]))
    if not known:
        return pd.DataFrame()
    against = np.stack(second)
    found = paired_difference(np.stack(first), against)
    low, high = percentile_interval(against[:, 1:]).T
    return pd.DataFrame(known).assign(
        reference=against[:, 0], reference_low=low, reference_high=high,
        difference=found.estimate, ci_low=found.low, ci_high=found.high, p=found.p, p_holm=holm(found.p),
    )  # fmt: skip


def _mean(values: Sequence[float | None]) -> float:
    return float(np.mean(np.array(values, float)))


def mean_draws(cells: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """(1 + b) score on test and its draws, the mean over networks trained from several seeds."""
    mean: NDArray[np.float64] = np.mean([np.array(cell["draws"], float) for cell in cells], axis=0)
    return mean
