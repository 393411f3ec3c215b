"""A truncated network trained: `probe finetune`."""

from pathlib import Path

import click

from probe.commands.options import (
    Command,
    as_json,
    cache_folder,
    data_source,
    one_arch,
    out_folder,
    settings,
    weights_text,
)
from probe.settings import Head, Network, Reading, Training, Tuning
from probe.settings.training import STRATEGIES


@click.command(cls=Command)
@one_arch
@click.option("--at", "tap", required=True, help="Tap at which the network is cut; 'probe taps ARCH' lists them.")
@click.option("--weights", help=f"Weights: {weights_text[:-1]}.  [default: pretrained; scratch for that strategy]")
@click.option(
    "--strategy", type=click.Choice(STRATEGIES), default="ftl", show_default=True, help="Fine-tuning strategy."
)
@data_source
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of seeds, 0, 1, ...; the network that is the best on validation is kept.",
)
@out_folder
@cache_folder
@as_json
@settings(Reading, Network, Head, Training, Tuning)
def finetune(
    arch: str, tap: str, weights: str | None, strategy: str, data: str, seeds: int, out: Path, cache: Path | None,
    as_json: bool, reading: Reading, network: Network, head: Head, training: Training, tuning: Tuning,
) -> None:  # fmt: skip
    """Fine-tune a truncated network: cut it, add a head, and train both; the epoch is chosen on validation.

    A run that was stopped goes on when the same command is given again.

    \b
    Example:
      probe finetune --arch resnet50 --at layer3.2 --strategy lp-ft --data my_images/labels.csv
    """
    from probe.base.runtime import check_folder
    from probe.finetuning.devices import is_first
    from probe.records.result_rows import to_json
    from probe.studies.finetune import run_finetune, write_training

    check_folder(out)
    trainings = run_finetune(
        arch, tap, data, weights=weights, strategy=strategy, seeds=range(seeds), out=out, reading=reading,
        network=network, head=head, training=training, tuning=tuning, cache=cache,
    )  # fmt: skip
    if not is_first():
        return
    files = write_training(trainings)
    if as_json:
        named = {"arch": arch, "tap": trainings.entries[0].labels["tap"], "strategy": strategy}
        click.echo(to_json({**named, "runs": trainings.summaries(), "files": files}))
        return
    click.echo("\n".join([trainings.table(), "written: " + ", ".join(files)]))
