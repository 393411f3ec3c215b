"""The command line: parses, calls the library, prints. Whatever is slow to load is loaded inside a command."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from probe.commands import Commands, settings, text_table
from probe.errors import ProbeError
from probe.settings import Extraction, Network, ProbeGrid, Reading

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else to stdout.")
cache_folder = click.option("--cache", type=click.Path(path_type=Path), help="Folder of the feature cache.")
data_source = click.option(
    "--data",
    default="digits",
    show_default=True,
    help="digits, a .csv or .parquet manifest, a folder of classes, an .npz, medmnist:FLAG or torchvision:NAME.",
)
out_folder = click.option(
    "--out", type=click.Path(path_type=Path), default=Path("results"), show_default=True, help="Folder for the results."
)
weights_text = "pretrained, scratch, the name of a published weight, or a file."


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="truncated-probe", prog_name="probe")
def main() -> None:
    """At which depth are a network's features good enough for your images, and where to cut it.

    \b
    Example:
      probe layerwise --arch resnet50
    """


@main.command()
@click.argument("pattern", default="*")
@as_json
def archs(pattern: str, as_json: bool) -> None:
    """List the networks that can be probed, by name or shell PATTERN.

    \b
    Example:
      probe archs 'vit_*'
    """
    from probe.backbones import list_archs
    from probe.names import unknown

    names = list_archs(pattern)
    if not names:
        raise unknown("arch", pattern, list_archs())
    click.echo(json.dumps(names) if as_json else "\n".join(names))


@main.command()
@click.argument("arch")
@as_json
@settings(Network)
def taps(arch: str, as_json: bool, network: Network) -> None:
    """List where ARCH can be read and cut, and what it costs up to there.

    \b
    Example:
      probe taps resnet50 --level stage
    """
    from probe.backbones import backbone

    net = backbone(arch, "scratch", **asdict(network))
    table = net.table()
    if as_json:
        click.echo(json.dumps(table))
        return
    cells = [
        [
            *(row["index"], row["tap"], row["layout"], "x".join(map(str, row["shape"])), row["width"]),
            *(f"{row['params'] / 1e6:.3f}M", f"{row['macs'] / 1e9:.3f}G", f"{row['depth']:.2f}"),
        ]
        for row in table
    ]
    click.echo(text_table(["", "tap", "layout", "shape", "width", "params", "macs", "depth"], cells))


@main.command()
@click.option("--arch", required=True, help="A timm id, torchvision:NAME or hf-hub:ORG/NAME.")
@click.option("--weights", default="pretrained", show_default=True, help=weights_text)
@data_source
@click.option("--seed", default=0, show_default=True, help="Of scratch weights and of splits that are drawn.")
@cache_folder
@as_json
@settings(Reading, Network, Extraction)
def extract(
    arch: str,
    weights: str,
    data: str,
    seed: int,
    cache: Path | None,
    as_json: bool,
    reading: Reading,
    network: Network,
    extraction: Extraction,
) -> None:
    """Read the features of every tap into the cache, and print where they are.

    \b
    Example:
      probe extract --arch resnet50 --weights scratch
    """
    from probe.data import dataset
    from probe.recipes import features_of
    from probe.runtime import default_folder

    table = dataset(data, seed=seed, cache=cache, **asdict(reading))
    features = features_of(arch, weights, table, seed, network, extraction, cache or default_folder())
    if as_json:
        shapes = {tap: list(array.shape) for tap, array in features.items()}
        click.echo(json.dumps({"folder": str(features.folder), "taps": shapes, "skipped": table.skipped}))
        return
    click.echo(text_table(["tap", "rows", "width"], [[tap, *array.shape] for tap, array in features.items()]))
    click.echo(str(features.folder))


@main.command()
@click.option(
    "--arch", "archs", multiple=True, required=True, help="A timm id, torchvision:NAME or hf-hub:ORG/NAME; repeatable."
)
@click.option("--weights", multiple=True, help=f"{weights_text[:-1]}; repeatable.  [default: pretrained and scratch]")
@data_source
@click.option(
    "--seeds", default=1, show_default=True, help="How often to repeat what is random: scratch weights, drawn splits."
)
@out_folder
@cache_folder
@as_json
@settings(Reading, Network, Extraction, ProbeGrid)
def layerwise(
    archs: Sequence[str], weights: Sequence[str], data: str, seeds: int, out: Path, cache: Path | None, as_json: bool,
    reading: Reading, network: Network, extraction: Extraction, probegrid: ProbeGrid,
) -> None:  # fmt: skip
    """Probe every tap: how well the labels can be read at each depth, and where to cut.

    \b
    Example:
      probe layerwise --arch resnet50 --data my_images/labels.csv
    """
    if seeds < 1:
        raise click.BadParameter("at least 1", param_hint="--seeds")
    from probe.report import check_folder, summary_lines, write_study
    from probe.results import to_json
    from probe.study import facts, run_layerwise

    check_folder(out)
    study = run_layerwise(
        archs, weights, data, seeds=range(seeds),
        reading=reading, network=network, extraction=extraction, grid=probegrid, cache=cache,
    )  # fmt: skip
    kinds: dict[str, Any] = {"reading": reading, "network": network, "extraction": extraction, "probes": probegrid}
    chosen = {kind: asdict(of) for kind, of in kinds.items()}
    try:
        files = write_study(study, facts(study, chosen, ["probe", *sys.argv[1:]]), out)
        files += _draw(study, out)
    except OSError as error:
        raise ProbeError(f"cannot write results to '{out}': {error.strerror or error}; the features are kept") from None
    if as_json:
        found = {"arms": study.summaries(), "skipped": study.skipped, "skipped_images": study.data.skipped}
        click.echo(to_json({**found, "files": files}))
        return
    click.echo("\n".join(summary_lines(study)))
    click.echo("written: " + ", ".join(files))


@main.command("data")
@click.argument("path")
@click.option("--seed", default=0, show_default=True, help="Of splits that are drawn, samples and permutations.")
@out_folder
@cache_folder
@as_json
@settings(Reading)
@click.pass_context
def audit(
    context: click.Context, path: str, seed: int, out: Path, cache: Path | None, as_json: bool, reading: Reading
) -> None:
    """Look at the data at PATH before anyone trains on them; exit with 1 when a split leaks into another.

    \b
    Example:
      probe data my_images/labels.csv
    """
    from probe.audit import audit_dataset
    from probe.audit.words import audit_lines, write_audit
    from probe.data import TornGroups, dataset
    from probe.report import check_folder
    from probe.results import to_json

    check_folder(out)
    try:
        table = dataset(path, seed=seed, cache=cache, **asdict(reading))
    except TornGroups as error:  # refused elsewhere; here one finding among others
        table = error.data
    found = audit_dataset(table, seed)
    files = write_audit(found, out) + _draw_sheets(found, seed, out)
    if as_json:
        click.echo(to_json({**found.to_dict(), "files": files}))
    else:
        click.echo("\n".join([*audit_lines(found), "written: " + ", ".join(files)]))
    context.exit(1 if found.leaks else 0)


def _draw_sheets(found: Any, seed: int, out: Path) -> list[str]:
    from figures.contact_sheet import contact_sheet
    from figures.style import save
    from probe.audit.samples import samples

    return [
        file
        for stem, sheet in samples(found.data, found.readable, seed)
        for file in save(contact_sheet(**sheet), out / f"contact-{stem}", ("png",), dpi=200)
    ]


@main.group("cache")
def cache_group() -> None:
    """List, check, measure or empty the feature cache.

    \b
    Example:
      probe cache ls
    """


@cache_group.command("ls")
@cache_folder
@as_json
def cache_ls(cache: Path | None, as_json: bool) -> None:
    """List what features there are, the last used first.

    \b
    Example:
      probe cache ls
    """
    from probe.cache import default_folder
    from probe.cache.inventory import entries

    found = entries(cache or default_folder())
    if as_json:
        click.echo(json.dumps([asdict(entry) for entry in found]))
        return
    head = ["digest", "state", "arch", "weights", "data", "taps", "images", "MB", "last used"]
    click.echo(text_table(head, [entry.cells() for entry in found]))


@cache_group.command("verify")
@click.argument("digests", nargs=-1)
@cache_folder
@as_json
def cache_verify(digests: Sequence[str], cache: Path | None, as_json: bool) -> None:
    """Compare the features with their checksums: all of them, or those whose DIGESTS begin so.

    Exit code 1 when something is damaged; the next run that needs it makes it again.

    \b
    Example:
      probe cache verify
    """
    from probe.cache import default_folder
    from probe.cache.upkeep import verify_all

    findings = verify_all(cache or default_folder(), digests)
    if as_json:
        click.echo(json.dumps(findings))
    else:
        lines = [
            [finding["name"], finding["state"], fault] for finding in findings for fault in finding["faults"] or [""]
        ]
        click.echo(text_table(["what", "state", "damage"], lines))
    if any(finding["faults"] for finding in findings):
        sys.exit(1)


@cache_group.command("rm")
@click.argument("digests", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Everything, and what is remembered of files and networks.")
@click.option("--older-than", type=click.FloatRange(min=0), metavar="DAYS", help="What was not used for so many days.")
@cache_folder
@as_json
def cache_rm(
    digests: Sequence[str], everything: bool, older_than: float | None, cache: Path | None, as_json: bool
) -> None:
    """Delete the features whose DIGESTS begin so. What a running process works on stays.

    \b
    Example:
      probe cache rm --older-than 90
    """
    if bool(digests) + everything + (older_than is not None) != 1:
        raise click.UsageError("name DIGESTS, or give --all, or --older-than DAYS: one of the three")
    from probe.cache import default_folder
    from probe.cache.upkeep import remove_all

    removed, kept = remove_all(cache or default_folder(), digests, older_than)
    freed = sum(entry.bytes for entry in removed)
    gone = [entry.digest for entry in removed]
    click.echo(
        json.dumps({"removed": gone, "bytes": freed, "in_use": kept})
        if as_json
        else "\n".join([*gone, f"{len(gone)} removed, {freed / 1e6:.1f} MB"])
    )
    if kept:
        raise ProbeError(f"in use by another process and kept: {', '.join(kept)}")


@cache_group.command("size")
@cache_folder
@as_json
def cache_size(cache: Path | None, as_json: bool) -> None:
    """Tell what the cache takes on the disk, and what is free there.

    \b
    Example:
      probe cache size
    """
    from probe.cache import default_folder
    from probe.cache.inventory import size

    found = size(cache or default_folder())
    if as_json:
        click.echo(json.dumps(found))
        return
    parts = [f"{found[name] / 1e6:.1f} MB {name}" for name in ("features", "index", "free")]
    click.echo(f"{found['cache']}: {found['entries']} sets of features, {', '.join(parts)}")


def _draw(study: Any, out: Path) -> list[str]:
    from figures.depth_curve import depth_curve
    from figures.style import save

    marks = [
        {"arch": arm["arch"], "weights": arm["weights"], "tap": (arm["earliest_sufficient"] or arm["best"])["tap"]}
        for arm in study.summaries()
    ]
    return save(depth_curve(study.rows, marks, study.skipped), out / "layerwise")


if __name__ == "__main__":
    main()
