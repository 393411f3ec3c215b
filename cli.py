"""The command line: parses, calls the library, prints. Whatever is slow to load is loaded inside a command."""

import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import Field, asdict, fields
from pathlib import Path
from typing import Any

import click

from probe.errors import ProbeError
from probe.settings import Extraction, Network, ProbeGrid

log = logging.getLogger("probe")


class Names(click.ParamType):  # type: ignore[type-arg]
    """Names separated by commas."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if isinstance(value, tuple) else tuple(part.strip() for part in value.split(","))


class Numbers(click.ParamType):  # type: ignore[type-arg]
    """Numbers separated by commas."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"'{value}' is not a list of numbers such as 0.01,1,100", param, ctx)


def _option(entry: Field[Any]) -> Callable[[Any], Any]:
    name = entry.name.replace("_", "-")
    common = {"default": entry.default, "help": entry.metadata["help"], "show_default": entry.default is not None}
    if isinstance(entry.default, bool):
        return click.option(f"--{name}/--no-{name}", **common)
    if entry.default == ():
        return click.option(f"--{name}", type=Names(), **{**common, "show_default": False})
    if isinstance(entry.default, tuple):
        shown = ",".join(f"{number:g}" for number in entry.default)
        return click.option(f"--{name}", type=Numbers(), **{**common, "show_default": shown})
    choices = entry.metadata.get("choices")
    kind = click.Choice(choices) if choices else int if entry.default is None else type(entry.default)
    return click.option(f"--{name}", type=kind, **common)


def settings(*kinds: type[Any]) -> Callable[[Any], Any]:
    """Options for every field of the given settings; the command receives one object of each kind."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def run(**given: Any) -> None:
            made = {
                kind.__name__.lower(): kind(**{entry.name: given.pop(entry.name) for entry in fields(kind)})
                for kind in kinds
            }
            command(**given, **made)

        run.__doc__, run.__name__ = command.__doc__, command.__name__
        run.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
        for entry in [entry for kind in kinds for entry in fields(kind)][::-1]:
            _option(entry)(run)
        return run

    return decorate


class Commands(click.Group):
    """Turns the errors a user can fix into one line on stderr and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        log.setLevel(logging.INFO)
        log.handlers = [logging.StreamHandler(sys.stderr)]
        try:
            return super().invoke(ctx)
        except ProbeError as error:
            click.echo(f"probe: {error}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("probe: stopped; what is finished is kept, and the same command goes on from there", err=True)
            ctx.exit(130)


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else to stdout.")
cache_folder = click.option("--cache", type=click.Path(path_type=Path), help="Folder of the feature cache.")
data_source = click.option(
    "--data", default="digits", show_default=True, help="digits, a .csv manifest, a folder of classes, or an .npz."
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
    click.echo(_table(["", "tap", "layout", "shape", "width", "params", "macs", "depth"], cells))


@main.command()
@click.option("--arch", required=True, help="A timm id, torchvision:NAME or hf-hub:ORG/NAME.")
@click.option("--weights", default="pretrained", show_default=True, help=weights_text)
@data_source
@click.option("--seed", default=0, show_default=True, help="Of scratch weights and of splits that are drawn.")
@cache_folder
@as_json
@settings(Network, Extraction)
def extract(
    arch: str,
    weights: str,
    data: str,
    seed: int,
    cache: Path | None,
    as_json: bool,
    network: Network,
    extraction: Extraction,
) -> None:
    """Read the features of every tap into the cache, and print where they are.

    \b
    Example:
      probe extract --arch resnet50 --weights scratch
    """
    from probe.cache import default_folder
    from probe.data import dataset
    from probe.study import features_of

    features = features_of(
        arch, weights, dataset(data, seed=seed), seed, network, extraction, cache or default_folder()
    )
    if as_json:
        shapes = {tap: list(array.shape) for tap, array in features.items()}
        click.echo(json.dumps({"folder": str(features.folder), "taps": shapes}))
        return
    click.echo(_table(["tap", "rows", "width"], [[tap, *array.shape] for tap, array in features.items()]))
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
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("results"), show_default=True, help="Folder for the results."
)
@cache_folder
@as_json
@settings(Network, Extraction, ProbeGrid)
def layerwise(
    archs: Sequence[str], weights: Sequence[str], data: str, seeds: int, out: Path, cache: Path | None, as_json: bool,
    network: Network, extraction: Extraction, probegrid: ProbeGrid,
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
        archs, weights, data, seeds=range(seeds), network=network, extraction=extraction, grid=probegrid, cache=cache
    )
    chosen = {
        kind: asdict(of) for kind, of in (("network", network), ("extraction", extraction), ("probes", probegrid))
    }
    files = write_study(study, facts(study, chosen, ["probe", *sys.argv[1:]]), out)
    files += _draw(study, out)
    if as_json:
        click.echo(to_json({"arms": study.summaries(), "skipped": study.skipped, "files": files}))
        return
    click.echo("\n".join(summary_lines(study)))
    click.echo("written: " + ", ".join(files))


def _draw(study: Any, out: Path) -> list[str]:
    from figures.depth_curve import depth_curve
    from figures.style import save

    marks = [
        {"arch": arm["arch"], "weights": arm["weights"], "tap": (arm["earliest_sufficient"] or arm["best"])["tap"]}
        for arm in study.summaries()
    ]
    return save(depth_curve(study.rows, marks, study.skipped), out / "layerwise")


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns of text, numbers to the right."""
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = [not isinstance(cell, str) or cell[:1].isdigit() for cell in rows[0]] if rows else [False] * len(head)
    return "\n".join(
        "  ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True)).rstrip()
        for row in cells
    )


if __name__ == "__main__":
    main()
