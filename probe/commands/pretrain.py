"""Weights from other images: `probe pretrain`."""

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
from probe.settings import Network, Reading, Training


@click.command(cls=Command)
@one_arch
@click.option("--weights", default="scratch", show_default=True, help=f"Initial weights: {weights_text}")
@data_source
@click.option("--seed", default=0, show_default=True, help="Seed of scratch weights, drawn splits and training.")
@out_folder
@cache_folder
@as_json
@settings(Reading, Network, Training)
def pretrain(
    arch: str, weights: str, data: str, seed: int, out: Path, cache: Path | None, as_json: bool,
    reading: Reading, network: Network, training: Training,
) -> None:  # fmt: skip
    """Pretrain a whole network on labelled images; other commands take --weights OUT/weights.safetensors.

    A run that was stopped goes on when the same command is given again.

    \b
    Example:
      probe pretrain --arch resnet50 --data chest_xrays/ --out pretrained
    """
    from probe.base.runtime import check_folder
    from probe.finetuning.devices import is_first
    from probe.records.result_rows import to_json
    from probe.studies.finetune import write_training
    from probe.studies.pretrain import card_of, run_pretrain

    check_folder(out)
    trainings = run_pretrain(
        arch, data, out, weights=weights, seed=seed, reading=reading, network=network, training=training, cache=cache
    )
    if not is_first():
        return
    files = write_training(trainings)
    if as_json:
        scores = trainings.summaries()[0]["scores"]
        click.echo(to_json({"card": card_of(trainings), "scores": scores, "files": files}))
        return
    click.echo("\n".join([trainings.table(), "written: " + ", ".join(files)]))
