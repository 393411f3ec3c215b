"""What a cut saves: `probe cost`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from probe.commands.options import Command, as_json, one_arch, out_folder, settings
from probe.settings import Network


@click.command(cls=Command)
@one_arch
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Images per forward pass.")
@click.option("--repeats", type=click.IntRange(min=1), default=10, show_default=True, help="Number of timed passes.")
@click.option("--device", default="auto", show_default=True, help="Device: auto, cpu, cuda, cuda:N or mps.")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    help="A folder that 'probe layerwise' wrote into: quality against cost.",
)
@out_folder
@as_json
@settings(Network)
def cost(
    arch: str, batch_size: int, repeats: int, device: str, results: Path | None, out: Path, as_json: bool,
    network: Network,
) -> None:  # fmt: skip
    """Measure the cost of a network up to each tap: parameters, MACs, milliseconds and peak memory.

    What was measured before is read from the folder of the results; another folder measures it again.

    \b
    Example:
      probe cost --arch resnet50
    """
    from probe.base.runtime import check_folder
    from probe.commands.drawing import draw_all
    from probe.records.result_rows import to_json
    from probe.studies.cost import cost as measure

    check_folder(out)
    measured = measure(
        arch, batch_size=batch_size, repeats=repeats, device=device, results=results, network=network, out=out
    )
    facts = {**measured.measured, "taps": measured.taps}
    files = measured.record.export({"cost.json": to_json(facts, indent=1) + "\n"})
    files += draw_all(["cost"], measured.record, None, run=measured.run)
    if as_json:
        click.echo(to_json({**facts, "files": files}))
        return
    click.echo("\n".join([_table(measured.taps), _how(facts), "written: " + ", ".join(files)]))


def _table(rows: Sequence[dict[str, Any]]) -> str:
    from probe.records.text_tables import text_table

    cells = [
        [
            *(row["index"], row["tap"], f"{row['params'] / 1e6:.3f}M", f"{row['macs'] / 1e9:.3f}G"),
            *(f"{row['latency_ms']:.2f}", f"{row['latency_ms_low']:.2f}-{row['latency_ms_high']:.2f}"),
            f"{row['memory_mb']:.1f}",
        ]
        for row in rows
    ]
    return text_table(["", "tap", "params", "macs", "ms/image", "quartiles", "peak MB"], cells)


def _how(facts: dict[str, Any]) -> str:
    return (
        f"measured on {facts['device']}, threads: {facts['threads']}, {facts['batch_size']} images a pass, float32, "
        f"median of {facts['repeats']} passes; a cut network without its head"
    )
