"""What a cut saves: `probe cost`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from probe.base.errors import ProbeError
from probe.commands.options import as_json, one_arch, out_folder, settings
from probe.records.text import text_table
from probe.settings import Network


@click.command()
@one_arch
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Images in a pass.")
@click.option("--repeats", type=click.IntRange(min=1), default=10, show_default=True, help="Passes that are timed.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option(
    "--results", type=click.Path(path_type=Path), help="The results.jsonl of 'probe layerwise': quality against cost."
)
@out_folder
@as_json
@settings(Network)
def cost(
    arch: str,
    batch_size: int,
    repeats: int,
    device: str,
    results: Path | None,
    out: Path,
    as_json: bool,
    network: Network,
) -> None:
    """Measure what ARCH costs up to each tap: parameters, MACs, milliseconds and memory, as a table and a figure.

    \b
    Example:
      probe cost --arch resnet50
    """
    from figures.cost import cost_figure
    from figures.style import save
    from probe.backbones import NetworkSpec
    from probe.backbones.cost import tap_costs
    from probe.base.runtime import check_folder, hardware, pick_device
    from probe.records.rows import to_json

    check_folder(out)
    place = pick_device(device)
    net = NetworkSpec.of(network, arch, "scratch").build()
    scores = None if results is None else _scores(results, arch, net.taps)
    rows = tap_costs(net, batch_size, place, repeats)
    facts = {"arch": arch, "batch_size": batch_size, "repeats": repeats, **hardware(place)}
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "cost.json").write_text(to_json({**facts, "taps": rows}, indent=1) + "\n", encoding="utf-8")
        files = [str(out / "cost.json"), *save(cost_figure(rows, facts, scores), out / "cost")]
    except OSError as error:
        raise ProbeError(f"cannot write results to '{out}': {error.strerror or error}") from None
    if as_json:
        click.echo(to_json({**facts, "taps": rows, "files": files}))
        return
    click.echo("\n".join([_table(rows), _how(facts), "written: " + ", ".join(files)]))


def _scores(results: Path, arch: str, taps: Sequence[str]) -> Any:
    """The scores of linear probes at the taps of an architecture."""
    from probe.records.rows import read_rows

    rows = read_rows(results)
    probes = rows["study"].eq("layerwise") & rows["method"].eq("linear") & rows["metric"].eq("auroc")
    mine = rows[probes & rows["arch"].eq(arch) & rows["tap"].isin(taps)]
    if mine.empty:
        known = ", ".join(sorted(set(rows["arch"].dropna()))) or "none"
        raise ProbeError(f"'{results}' has no scores at these taps of {arch}; it has results of {known}")
    return mine


def _table(rows: Sequence[dict[str, Any]]) -> str:
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
