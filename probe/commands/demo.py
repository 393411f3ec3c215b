"""The whole story in about a minute: `probe demo`."""

from pathlib import Path

import click

from probe.commands.drawing import draw_all
from probe.commands.options import Command, as_json, cache_folder, out_folder


@click.command(cls=Command)
@click.option("--seed", default=0, show_default=True, help="Seed of everything random.")
@out_folder
@cache_folder
@as_json
def demo(seed: int, out: Path, cache: Path | None, as_json: bool) -> None:
    """Pretrain a small network on five of scikit-learn's digits; probe, cut and train it on the others.

    It takes about a minute on two free cores, downloads nothing, and ends with a figure and three sentences.

    \b
    Example:
      probe demo --out demo
    """
    from probe.base.runtime import check_folder
    from probe.records.result_rows import to_json
    from probe.studies.demo import run_demo

    check_folder(out)
    found = run_demo(out, seed=seed, cache=cache)
    files = found.files + draw_all(["probe-and-trained"], found.check.record, found.check.study.data.name)
    if as_json:
        click.echo(to_json({"sentences": found.sentences, "files": files}))
        return
    click.echo("\n".join([*found.sentences, "written: " + ", ".join(files)]))
