"""A truncated network trained: `probe finetune`."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from probe.commands.options import as_json, cache_folder, data_source, out_folder, settings, weights_text
from probe.errors import ProbeError, reason
from probe.settings import Head, Network, Reading, Training, Tuning
from probe.settings.training import STRATEGIES
from probe.tables import text_table

if TYPE_CHECKING:
    from probe.finetuning import Finetuned

SHOWN = ("auroc", "auprc", "balanced_accuracy", "log_loss")


@click.command()
@click.option("--arch", required=True, help="A timm id, torchvision:NAME or hf-hub:ORG/NAME.")
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
    from probe.backbones import backbone
    from probe.data import dataset
    from probe.finetuning import finetune as train
    from probe.finetuning.devices import is_first
    from probe.results import to_json
    from probe.runtime import check_folder
    from probe.truncation import truncate

    check_folder(out)
    table = dataset(data, cache=cache, **asdict(reading))
    options = asdict(network) | {"image_size": network.image_size or table.image_size}
    source = weights or ("scratch" if strategy == "scratch" else "pretrained")
    found = []
    for seed in range(seeds):
        mine = table.redraw(seed)
        net = backbone(arch, source, seed=seed, **options)
        model = truncate(net, tap, table.classes, multilabel=table.task == "multilabel", seed=seed, **asdict(head))
        how: dict[str, Any] = {"training": training, "tuning": tuning, "cache": cache}
        found.append(train(model, mine, strategy, seed=seed, checkpoint=out / f"checkpoint-{seed}.pt", **how))
    if not is_first():
        return
    chosen = {"strategy": strategy, "weights": source, "data": table.facts()}
    chosen |= {"network": asdict(network), "head": asdict(head), "training": asdict(training), "tuning": asdict(tuning)}
    try:
        files = _write(found, training.metric, chosen, out)
    except OSError as error:
        raise ProbeError(f"cannot write results to '{out}': {reason(error)}") from None
    if as_json:
        runs = [{"seed": seed, "best_epoch": each.best_epoch, "seconds": each.seconds, "request": each.request,
                 "scores": _scores(each)} for seed, each in enumerate(found)]  # fmt: skip
        click.echo(
            to_json({"arch": arch, "tap": found[0].model.tap, "strategy": strategy, "runs": runs, "files": files})
        )
        return
    click.echo("\n".join([_table(found), "written: " + ", ".join(files)]))


def _write(found: Sequence["Finetuned"], metric: str, chosen: dict[str, Any], out: Path) -> list[str]:
    """The best model with its card, the epochs of all seeds, their scores, and what was asked."""
    import pandas as pd

    from probe.metrics import LOWER_IS_BETTER
    from probe.results import append_rows, to_json
    from probe.runtime import versions
    from probe.truncation import save

    out.mkdir(parents=True, exist_ok=True)
    scores = [each.history[f"val_{metric}"][each.best_epoch] for each in found]
    best = min(scores) if metric in LOWER_IS_BETTER else max(scores)
    save(found[scores.index(best)].model, out / "model.safetensors")
    histories = pd.concat([each.history.assign(seed=seed) for seed, each in enumerate(found)])
    histories.to_csv(out / "history.csv", index=False)
    for each in found:
        append_rows(out / "results.jsonl", each.rows.to_dict(orient="records"))
    facts = {"command": ["probe", *sys.argv[1:]], "settings": chosen, "versions": versions()}
    (out / "run.json").write_text(to_json(facts, indent=1) + "\n", encoding="utf-8")
    return [str(out / name) for name in ("model.safetensors", "history.csv", "results.jsonl", "run.json")]


def _scores(found: "Finetuned") -> dict[str, dict[str, float]]:
    """Macro averages by split."""
    rows = found.rows[(found.rows["class"] == "macro") & found.rows["metric"].isin(SHOWN)]
    parts = {split: rows[rows["split"] == split] for split in rows["split"].unique()}
    return {split: dict(zip(part["metric"], part["value"], strict=True)) for split, part in parts.items()}


def _table(found: Sequence["Finetuned"]) -> str:
    cells = [
        [seed, each.best_epoch, split, *(f"{scores.get(name, float('nan')):.3f}" for name in SHOWN),
         f"{each.seconds:.0f}"]
        for seed, each in enumerate(found)
        for split, scores in _scores(each).items()
    ]  # fmt: skip
    return text_table(["seed", "epoch", "split", *SHOWN, "seconds"], cells)
