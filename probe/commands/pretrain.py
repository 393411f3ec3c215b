"""Weights from other images: `probe pretrain`."""

from pathlib import Path
from typing import Any

import click

from probe.commands.options import as_json, cache_folder, data_source, one_arch, out_folder, settings, weights_text
from probe.settings import Network, Reading, Training
from probe.studies.finetune import score_table, scores, write_training


@click.command()
@one_arch
@click.option("--weights", default="scratch", show_default=True, help=f"What to start from: {weights_text}")
@data_source
@click.option("--seed", default=0, show_default=True, help="Of scratch weights, of drawn splits and of training.")
@out_folder
@cache_folder
@as_json
@settings(Reading, Network, Training)
def pretrain(
    arch: str, weights: str, data: str, seed: int, out: Path, cache: Path | None, as_json: bool,
    reading: Reading, network: Network, training: Training,
) -> None:  # fmt: skip
    """Train all of ARCH on labelled images; the weights serve every other command as --weights OUT/weights.safetensors.

    What was stopped goes on when the same command is given again.

    \b
    Example:
      probe pretrain --arch resnet50 --data chest_xrays/ --out pretrained
    """
    from probe.base.runtime import check_folder
    from probe.finetuning import pretrain as train
    from probe.finetuning.devices import is_first
    from probe.records.rows import to_json

    check_folder(out)
    how: dict[str, Any] = {"reading": reading, "network": network, "training": training, "cache": cache}
    place = out / "weights.safetensors"
    found = train(arch, data, place, weights=weights, seed=seed, checkpoint=out / "checkpoint.pt", **how)
    if not is_first():
        return
    files = [str(place), *write_training([found.training], {"weights": weights, "card": found.card}, out)]
    if as_json:
        click.echo(to_json({"card": found.card, "scores": scores(found.training), "files": files}))
        return
    click.echo("\n".join([score_table([found.training]), "written: " + ", ".join(files)]))
