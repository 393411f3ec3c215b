"""A truncated network trained: `probe finetune`."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from probe.commands.options import as_json, cache_folder, data_source, one_arch, out_folder, settings, weights_text
from probe.settings import Head, Network, Reading, Training, Tuning
from probe.settings.training import STRATEGIES
from probe.studies.finetune import score_table, scores, write_training

if TYPE_CHECKING:
    from probe.finetuning import Finetuned


@click.command()
@one_arch
@click.option("--at", "tap", required=True, help="The tap to cut at; 'probe taps ARCH' lists them.")
@click.option("--weights", help=f"{weights_text[:-1]}.  [default: pretrained; scratch for that strategy]")
@click.option(
    "--strategy", type=click.Choice(STRATEGIES), default="ftl", show_default=True, help="How what is left is trained."
)
@data_source
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How often to train, from seeds 0, 1, ...; the model kept is the best on validation.",
)
@out_folder
@cache_folder
@as_json
@settings(Reading, Network, Head, Training, Tuning)
def finetune(
    arch: str, tap: str, weights: str | None, strategy: str, data: str, seeds: int, out: Path, cache: Path | None,
    as_json: bool, reading: Reading, network: Network, head: Head, training: Training, tuning: Tuning,
) -> None:  # fmt: skip
    """Cut ARCH, put a head on it and train both by a strategy; the epoch is chosen on validation.

    What was stopped goes on when the same command is given again.

    \b
    Example:
      probe finetune --arch resnet50 --at layer3.2 --strategy lp-ft --data my_images/labels.csv
    """
    from probe.backbones import Networks, NetworkSpec
    from probe.base.runtime import check_folder
    from probe.data import dataset
    from probe.finetuning import finetune as train
    from probe.finetuning.devices import is_first
    from probe.records.rows import to_json
    from probe.truncation import truncate

    check_folder(out)
    table = dataset(data, cache=cache, **asdict(reading))
    source = weights or ("scratch" if strategy == "scratch" else "pretrained")
    found, networks = [], Networks()
    for seed in range(seeds):
        mine = table.redraw(seed)
        net = networks(NetworkSpec.of(network, arch, source, seed).sized(table.image_size))
        model = truncate(net, tap, table.classes, multilabel=table.task == "multilabel", seed=seed, **asdict(head))
        how: dict[str, Any] = {"training": training, "tuning": tuning, "cache": cache}
        found.append(train(model, mine, strategy, seed=seed, checkpoint=out / f"checkpoint-{seed}.pt", **how))
    if not is_first():
        return
    chosen = {"strategy": strategy, "weights": source, "data": table.facts()}
    chosen |= {"network": asdict(network), "head": asdict(head), "training": asdict(training), "tuning": asdict(tuning)}
    files = [_save_best(found, training.metric, out), *write_training(found, chosen, out)]
    if as_json:
        runs = [{"seed": seed, "best_epoch": each.best_epoch, "seconds": each.seconds, "request": each.request,
                 "scores": scores(each)} for seed, each in enumerate(found)]  # fmt: skip
        click.echo(
            to_json({"arch": arch, "tap": found[0].model.tap, "strategy": strategy, "runs": runs, "files": files})
        )
        return
    click.echo("\n".join([score_table(found), "written: " + ", ".join(files)]))


def _save_best(found: Sequence["Finetuned"], metric: str, out: Path) -> str:
    """The model whose seed is the best on validation; returns its path."""
    from probe.metrics import LOWER_IS_BETTER
    from probe.truncation import save

    scored = [each.history[f"val_{metric}"][each.best_epoch] for each in found]
    best = min(scored) if metric in LOWER_IS_BETTER else max(scored)
    save(found[scored.index(best)].model, out / "model.safetensors")
    return str(out / "model.safetensors")
