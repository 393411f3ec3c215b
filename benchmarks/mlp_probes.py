"""MLP probes of eight settings and three seeds at once, against the same networks trained one by one with plain torch.

Command: `python benchmarks/mlp_probes.py [--arch ARCH] [--weights W] [--data DATA] [--tap TAP ...] [--hidden H]
[--batch-size B] [--threads T] [--rounds R] [--small]` (default ResNet-18 from scratch on digits, every tap). The loop
is `nn.Sequential`, `torch.optim.AdamW`, batches by index, the best weights kept: same initial weights, order and
dropout masks, same early stopping. Beside it stand the loop with a `DataLoader`, which collates images one by one, and
`fit_mlps` called for one network at a time. Ours gets all taps as one problem, the others go through them. All are run
in turn, round by round, with as many threads; with one thread it is processor time that counts, so that other programs
do not. The ratios are medians over rounds with the smallest and largest; epochs and held losses are compared.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from measuring import (
    SMALL_NETWORK,
    add_network,
    clock_for,
    in_turn,
    new_parser,
    parse,
    ratio_words,
    read_features,
)
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import probe
from probe.probes import MLPSet, fit_mlps
from probe.probes.mlp_batch import generators
from probe.settings import MLPSetting

SEEDS = (0, 1, 2)
Rows = NDArray[np.int64]
Trained = list[tuple[int, float]]  # per network: the best epoch and its held loss


class Dropout(nn.Module):
    """`nn.Dropout` that draws from a generator of its own."""

    def __init__(self, share: float, generator: torch.Generator) -> None:
        super().__init__()
        self.share, self.generator = share, generator

    def forward(self, x: Tensor) -> Tensor:
        """Zeros and, in training, what is left scaled up."""
        if not (self.training and self.share):
            return x
        return x * torch.rand(x.shape[::-1], generator=self.generator).T.ge(self.share) / (1 - self.share)


def drawn(x: Tensor, y: Tensor, batches: Sequence[Tensor], loader: bool) -> Iterable[Sequence[Tensor]]:
    """Images and classes batch by batch: by index, or by a `DataLoader`."""
    if loader:
        return DataLoader(TensorDataset(x, y), batch_sampler=[rows.tolist() for rows in batches])
    return ((x[rows], y[rows]) for rows in batches)


def plain(rows: tuple[Tensor, ...], classes: int, setting: MLPSetting, seed: int, loader: bool) -> tuple[int, float]:
    """Train one network; the best epoch and its held loss."""
    x, y, held_x, held_y = rows
    start, order, masks = generators(seed)
    first, last = nn.Linear(x.shape[1], setting.hidden), nn.Linear(setting.hidden, classes)
    for layer in (first, last):
        for parameter in (layer.weight, layer.bias):
            nn.init.uniform_(parameter, -(layer.in_features**-0.5), layer.in_features**-0.5, generator=start)
    net, loss = nn.Sequential(first, nn.ReLU(), Dropout(setting.dropout, masks), last), nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(net.parameters(), lr=setting.learning_rate, weight_decay=setting.weight_decay)
    best, at, kept = float("inf"), 0, dict[str, Tensor]()
    for epoch in range(1, setting.epochs + 1):
        batches = torch.randperm(len(x), generator=order).split(setting.batch_size)
        net.train()
        for batch_x, batch_y in drawn(x, y, batches, loader):
            optimizer.zero_grad()
            loss(net(batch_x), batch_y).backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            now = loss(net(held_x), held_y).item()
        if now < best:
            best, at, kept = now, epoch, {name: tensor.clone() for name, tensor in net.state_dict().items()}
        if epoch - at >= setting.patience:
            break
    net.load_state_dict(kept)
    return at, best


def read(features: probe.Features, tap: str, train: Rows, held: Rows) -> tuple[Tensor, ...]:
    """Rows to train on and held ones with their classes, standardised as ours are."""
    raw = np.asarray(features[tap], np.float64)
    x = torch.from_numpy((raw - raw[train].mean(0)) / np.maximum(raw[train].std(0), 1e-12)).float()
    y = torch.from_numpy(features.data.labels)
    return x[train], y[train], x[held], y[held]


def compare(features: probe.Features, taps: list[str], settings: list[MLPSetting], rounds: int) -> None:
    """Print the seconds of ours for some taps, all as one problem, and the ratios of the others to it."""
    data, k = features.data, len(features.data.classes)
    train, held = (np.flatnonzero(data.splits == split) for split in ("train", "val"))
    rows = [read(features, tap, train, held) for tap in taps]
    alone = list(product(range(len(taps)), settings, SEEDS))

    def ours(chosen: list[str], settings: list[MLPSetting], seeds: tuple[int, ...]) -> Trained:
        sets = [MLPSet(features[tap], data.labels, settings, train, held) for tap in chosen]
        found = fit_mlps(sets, seeds, data.task)
        return [pair for each in found for pair in zip(each.epochs.ravel(), each.held_loss.ravel(), strict=True)]

    def one_by_one(train: Callable[[str, int, MLPSetting, int], tuple[int, float]]) -> Trained:
        return [train(taps[at], at, setting, seed) for at, setting, seed in alone]

    sides: dict[str, Callable[[], Any]] = {
        "ours": lambda: ours(taps, settings, SEEDS),
        "loop": lambda: one_by_one(lambda _, at, setting, seed: plain(rows[at], k, setting, seed, loader=False)),
        "DataLoader": lambda: one_by_one(lambda _, at, setting, seed: plain(rows[at], k, setting, seed, loader=True)),
        "one at a time": lambda: one_by_one(lambda tap, _, setting, seed: ours([tap], [setting], (seed,))[0]),
    }
    seconds, trained = in_turn(sides, rounds, clock_for(torch.get_num_threads()))
    epochs, losses = np.array([trained[name] for name in sides]).transpose(2, 0, 1)
    words = [f"{name} {ratio_words(seconds[:, i], seconds[:, 0], 1)}" for i, name in enumerate(sides) if i]
    print(f"{' '.join(taps)} ({', '.join(str(x.shape[1]) for x, *_ in rows)} features): ", end="")
    print(f"{len(alone)} networks, {np.median(seconds[:, 0]):.2f} s")
    same, apart = np.mean(epochs[1:] == epochs[0]), np.abs(losses / losses[0] - 1).max()
    print(f"  {'  '.join(words)}  epochs {np.median(epochs[0]):.0f}, {same:.1%} equal, losses within {apart:.0e}")


def main() -> None:
    """Print, per tap and over all, the seconds of ours and the ratios to it."""
    parser = new_parser(__doc__)
    add_network(parser)
    parser.add_argument("--tap", action="append")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=MLPSetting().epochs, help="at most")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parse(parser, **SMALL_NETWORK, tap=["stem"], hidden=8, epochs=1, batch_size=512, rounds=1)
    torch.set_num_threads(options.threads)
    features = read_features(options)
    shared = {name: getattr(options, name) for name in ("hidden", "batch_size", "epochs")}
    settings = [
        MLPSetting(**shared, dropout=dropout, weight_decay=decay, learning_rate=rate)
        for dropout, decay, rate in product((0.0, 0.5), (1e-2, 1.0), (1e-3, 3e-4))
    ]
    size = f"{len(settings)} settings x {len(SEEDS)} seeds, {options.threads} threads"
    print(f"{options.arch} on {features.data.name}: {size}")
    compare(features, options.tap or list(features), settings, options.rounds)


if __name__ == "__main__":
    main()
