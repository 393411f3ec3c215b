"""What metrics, probes, weights and arms are called in print."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from probe.base.lookup import FILES
from probe.records.metric_facts import METRICS

PROBES = {"mlp": "MLP", "knn": "nearest-neighbour", "ncm": "class-mean"}
PLURALS = {"linear": "linear probes", "mlp": "MLP probes", "knn": "nearest neighbours", "ncm": "nearest class mean"}
TRANSFERABILITY = {"log_me": "LogME", "h_score": "H-score", "shrunk_h_score": "shrunk H-score", "rank_me": "RankMe"}


def metric_label(metric: str) -> str:
    """A metric, or a transferability score, as it is printed."""
    return METRICS[metric].label if metric in METRICS else TRANSFERABILITY.get(metric, metric.replace("_", " "))


def probe_label(method: str) -> str:
    """A kind of probe as it is printed, with its setting if it has one."""
    kind, comma, setting = method.partition(", ")
    return PROBES.get(kind, kind) + comma + setting


def weights_name(weights: str, parts: int = 1) -> str:
    """How an arm's weights are called in print: a file by its stem, or by more of the last parts of its path."""
    return Path(*Path(weights).with_suffix("").parts[-parts:]).as_posix() if weights.endswith(FILES) else weights


def weights_names(weights: Iterable[str]) -> dict[str, str]:
    """What several weights are called side by side: files of one stem by as much of their paths as tells them apart."""
    every = list(dict.fromkeys(weights))
    names = {}
    for each in every:
        told = [[weights_name(other, parts) for other in every] for parts in range(1, len(Path(each).parts) + 1)]
        own = [called[every.index(each)] for called in told if called.count(called[every.index(each)]) == 1]
        names[each] = own[0] if own else each
    return names


def told_once(arms: Sequence[str]) -> tuple[dict[str, str], str]:
    """What arms, each "network, weights", are called beside the network's name if all have the same; and that name."""
    split = {arm: arm.rpartition(", ") for arm in arms}
    networks = {network for network, _, _ in split.values()}
    if len(networks) > 1 or networks == {""}:
        return {arm: arm for arm in arms}, ""
    return {arm: weights for arm, (_, _, weights) in split.items()}, networks.pop()
