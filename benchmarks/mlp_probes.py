"""MLP probes of eight settings and three seeds at once, against the same networks trained one by one with plain torch.

Command: `python benchmarks/mlp_probes.py [--arch ARCH] [--weights W] [--data DATA] [--tap TAP ...] [--hidden H]
[--batch-size B] [--threads T] [--rounds R]` (default ResNet-18 from scratch on digits, every tap). The loop is
`nn.Sequential`, `torch.optim.AdamW`, batches by index, the best weights kept: same initial weights, order and dropout
masks, same early stopping. Beside it stand the loop with a `DataLoader`, which collates images one by one, and
`fit_mlps` called for one network at a time. Ours gets all taps as one problem, the others go through them. All are run
in turn, round by round, with as many threads; with one thread it is processor time that counts, so that other programs
do not. The ratios are medians over rounds with the smallest and largest; epochs and held losses are compared.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import probe
from probe.backbones import NetworkSpec
from probe.base.runtime import default_folder
from probe.features.named import features_of
from probe.probes import MLPSet, fit_mlps
from probe.probes.mlp_batch import generators
from probe.settings import Extraction, MLPSetting

SEEDS = (0, 1, 2)
Batches = Callable[[Tensor], Iterator[tuple[Tensor, Tensor]]]


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
    best, at, kept = float("inf"), 0, {}
    for epoch in range(1, setting.epochs + 1):
        batches = torch.randperm(len(x), generator=order).split(setting.batch_size)
        whole = DataLoader(TensorDataset(x, y), batch_sampler=[rows.tolist() for rows in batches]) if loader else None
        net.train()
        for batch_x, batch_y in whole or ((x[rows], y[rows]) for rows in batches):
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


def read(features: probe.Features, tap: str, train: np.ndarray, held: np.ndarray) -> tuple[Tensor, ...]:
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

    def ours(chosen: list[str], settings: list[MLPSetting], seeds: tuple[int, ...]) -> list[tuple[int, float]]:
        sets = [MLPSet(features[tap], data.labels, settings, train, held) for tap in chosen]
        found = fit_mlps(sets, seeds, data.task, k)
        return [pair for each in found for pair in zip(each.epochs.ravel(), each.held_loss.ravel(), strict=True)]

    sides = (
        lambda: ours(taps, settings, SEEDS),
        lambda: [plain(rows[at], k, setting, seed, loader=False) for at, setting, seed in alone],
        lambda: [plain(rows[at], k, setting, seed, loader=True) for at, setting, seed in alone],
        lambda: [ours([taps[at]], [setting], (seed,))[0] for at, setting, seed in alone],
    )
    seconds = np.zeros((rounds, len(sides)))
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for i in range(rounds):
        found = []
        for j, side in enumerate(sides):
            start = clock()
            found.append(np.array(side()))
            seconds[i, j] = clock() - start
    same = np.mean([each[:, 0] == found[0][:, 0] for each in found[1:]])
    apart = np.abs(np.array(found)[:, :, 1] / found[0][:, 1] - 1).max()
    ratios = seconds / seconds[:, :1]
    words = [f"{np.median(ratio):.1f} x [{ratio.min():.1f}, {ratio.max():.1f}]" for ratio in ratios[:, 1:].T]
    print(f"{' '.join(taps)} ({', '.join(str(x.shape[1]) for x, *_ in rows)} features): ", end="")
    print(f"{len(alone)} networks, {np.median(seconds[:, 0]):.2f} s")
    print(f"  loop {words[0]}  DataLoader {words[1]}  one at a time {words[2]}", end="  ")
    print(f"epochs {np.median(found[0][:, 0]):.0f}, {same:.1%} equal, losses within {apart:.0e}", flush=True)


def main() -> None:
    """Print, per tap and over all, the seconds of ours and the ratios to it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--arch", default="torchvision:resnet18")
    parser.add_argument("--weights", default="scratch")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--tap", action="append")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    data = probe.dataset(given.data)
    features = features_of(NetworkSpec(arch=given.arch, weights=given.weights), data, Extraction(), default_folder())
    settings = [
        MLPSetting(
            hidden=given.hidden, batch_size=given.batch_size, dropout=dropout, weight_decay=decay, learning_rate=rate
        )
        for dropout, decay, rate in product((0.0, 0.5), (1e-2, 1.0), (1e-3, 3e-4))
    ]
    print(f"{given.arch} on {data.name}: {len(settings)} settings x {len(SEEDS)} seeds, {given.threads} threads")
    compare(features, given.tap or list(features), settings, given.rounds)


if __name__ == "__main__":
    main()
