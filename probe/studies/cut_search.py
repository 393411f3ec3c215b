"""A cut searched for in two steps by training: at the ends of stages first, then at the blocks around the best of them.

Peng et al. 2023 (arXiv:2106.05152) search so, on validation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from probe.backbones.taps import Tap
from probe.base.errors import ProbeError
from probe.scoring.differences import mean_draws
from probe.scoring.probe_verdicts import Estimate, estimate

Known = dict[str, Any]
QUARTERS = 4  # of the depth, for a network of one resolution


@dataclass(frozen=True)
class Search:
    """What a search found: the trained taps `ends`, then `around`, and of them `found`, the best on validation.

    `trained` of `every` networks (taps times seeds) were trained. Where those at all taps are known from other runs,
    `chosen` is the tap that validation chooses among all, `oracle` the best on test, and `regret` and `oracle_regret`
    are their scores on test minus that at `found`; else these are None, and `missing` taps have not been trained.
    """

    ends: list[str]
    around: list[str]
    found: str
    trained: int
    every: int
    missing: int
    chosen: str | None = None
    oracle: str | None = None
    regret: Estimate | None = None
    oracle_regret: Estimate | None = None


def stage_ends(taps: Sequence[Tap]) -> list[str]:
    """The last tap of each resolution, bottom to top; where these are fewer than three, every quarter of the depth."""
    sizes = [tap.resolution for tap in taps]
    last = len(taps) - 1
    ends = [i for i in range(len(taps)) if i == last or sizes[i + 1] != sizes[i]]
    if len(ends) < 3:
        ends = sorted({max(0, round(len(taps) * (k + 1) / QUARTERS) - 1) for k in range(QUARTERS)})
    return [taps[i].name for i in ends]


def search_cut(
    taps: Sequence[Tap],
    seeds: Sequence[int],
    train: Callable[[str, int], Known],
    recall: Callable[[str, int], Known | None],
    sign: int = 1,
) -> tuple[Search, list[Known]]:
    """Search among the taps of a network; returns what was found and the trained networks, bottom to top.

    `train` gives the network cut at a tap from a seed: its score on `val` and its `draws` on test; `recall` does so
    where it is known already. `sign` is -1 for scores of which less is better. Of equals the lower tap is taken. The
    test split has no part in what is found. Raises ProbeError for fewer than three taps.
    """
    names = [tap.name for tap in taps]
    if len(names) < 3:
        raise ProbeError(f"there is nothing to search among {len(names)} taps: {', '.join(names)}")
    cells: dict[str, list[Known]] = {}

    def best(among: Sequence[str]) -> str:
        for tap in among:
            if tap not in cells:
                cells[tap] = [train(tap, seed) for seed in seeds]
        return max(sorted(among, key=names.index), key=lambda tap: sign * _val(cells[tap]))

    ends = stage_ends(taps)
    first = best(ends)
    around = _between(names, ends, first)
    found = best([*ends, *around])
    search = Search(ends, around, found, len(seeds) * len(cells), len(seeds) * len(names), 0)
    trained = [cell for tap in names if tap in cells for cell in cells[tap]]
    return _beside_all(search, names, seeds, cells, recall, sign), trained


def _between(names: Sequence[str], ends: Sequence[str], best: str) -> list[str]:
    """The taps between the ends on either side of the best one."""
    place = ends.index(best)
    low = names.index(ends[place - 1]) if place else -1
    high = names.index(ends[place + 1]) if place + 1 < len(ends) else len(names)
    return [tap for tap in names[low + 1 : high] if tap != best]


def _beside_all(
    search: Search,
    names: Sequence[str],
    seeds: Sequence[int],
    cells: dict[str, list[Known]],
    recall: Callable[[str, int], Known | None],
    sign: int,
) -> Search:
    """What training at every tap came to, where it was done."""
    whole = dict(cells)
    for tap in names:
        if tap not in cells:
            whole[tap] = [cell for seed in seeds if (cell := recall(tap, seed)) is not None]
    missing = sum(len(found) < len(seeds) for found in whole.values())
    if missing:
        return replace(search, missing=missing)
    test = {tap: sign * mean_draws(whole[tap]) for tap in names}
    chosen = max(names, key=lambda tap: sign * _val(whole[tap]))
    oracle = max(names, key=lambda tap: float(test[tap][0]))
    regret, best = (estimate(test[tap] - test[search.found]) for tap in (chosen, oracle))
    return replace(search, chosen=chosen, oracle=oracle, regret=regret, oracle_regret=best)


def _val(cells: Sequence[Known]) -> float:
    return float(np.mean([cell["val"] for cell in cells]))
