"""Options: those that commands share, those that are made from settings, and how help lists them."""

from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import click

from probe.settings import (
    Attribution,
    Batches,
    Comparison,
    Controls,
    Depths,
    Embedding,
    Extraction,
    Head,
    Network,
    ProbeGrid,
    Reading,
    Training,
    Tuning,
)

FIRST, STATISTICS, COMPUTATION, OUTPUT = "Options", "Statistics", "Computation", "Output"
GROUPS = {  # by settings the heading of their options, in the order of the help; a field may name another one
    Attribution: "Attribution",
    Comparison: "Similarity",
    Depths: "Prediction depth",
    Embedding: "Embedding",
    Reading: "Images",
    Network: "Network",
    Extraction: "Features",
    Head: "Head",
    ProbeGrid: "Probes",
    Controls: "Controls and training sizes",
    Training: "Training",
    Tuning: "Strategy",
    Batches: COMPUTATION,
}
HEADINGS = (FIRST, *(heading for heading in GROUPS.values() if heading != COMPUTATION), STATISTICS, COMPUTATION, OUTPUT)


class Option(click.Option):
    """An option with the heading under which the help lists it."""

    def __init__(self, *names: Any, group: str = FIRST, **extra: Any) -> None:
        super().__init__(*names, **extra)
        self.group = group


class Command(click.Command):
    """A command whose help lists its options by group: what is asked first, then the settings, then the output."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for every group that the command has options of."""
        groups: dict[str, list[tuple[str, str]]] = {heading: [] for heading in HEADINGS}
        for parameter in self.get_params(ctx):
            line = parameter.get_help_record(ctx)
            if line is not None and isinstance(parameter, click.Option):
                groups[getattr(parameter, "group", FIRST)].append(line)
        for heading, lines in groups.items():
            if lines:
                with formatter.section(heading):
                    formatter.write_dl(lines)


as_json = click.option(
    "--json", "as_json", is_flag=True, cls=Option, group=OUTPUT, help="Print JSON and nothing else on stdout."
)
cache_folder = click.option(
    "--cache",
    type=click.Path(path_type=Path),
    cls=Option,
    group=COMPUTATION,
    help="Folder of the feature cache.  [default: $PROBE_CACHE, or ~/.cache/probe]",
)
data_source = click.option(
    "--data",
    default="digits",
    show_default=True,
    help="Data set: digits, a .csv or .parquet manifest, a folder of classes, an .npz, medmnist:FLAG or "
    "torchvision:NAME.",
)
out_folder = click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    cls=Option,
    group=OUTPUT,
    help="Folder for the results.",
)
arch_text = "Network: a timm id, torchvision:NAME, hf-hub:ORG/NAME or cbr:NAME."
one_arch = click.option("--arch", required=True, help=arch_text)
several_archs = click.option("--arch", "archs", multiple=True, help=f"{arch_text[:-1]}; repeatable.")
weights_text = "pretrained, scratch, the name of published weights, or a file."
one_weights = click.option("--weights", default="pretrained", show_default=True, help=f"Weights: {weights_text}")
several_weights = click.option(
    "--weights", multiple=True, help=f"Weights: {weights_text[:-1]}; repeatable.  [default: pretrained and scratch]"
)


def made_elsewhere(verb: str, how: str) -> Callable[[Any], Any]:
    """`--features`, by what a command does with them."""
    text = f"{verb} features computed elsewhere, {how}: an .npz, or a folder of .npy with rows.csv; repeatable."
    return click.option("--features", multiple=True, type=click.Path(path_type=Path), help=text)


class Names(click.ParamType):  # type: ignore[type-arg]
    """Names separated by commas."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if isinstance(value, tuple) else tuple(part.strip() for part in value.split(","))


class Numbers(click.ParamType):  # type: ignore[type-arg]
    """Numbers separated by commas."""

    name = "numbers"

    def __init__(self, kind: type[int] | type[float]) -> None:
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self.kind(part) for part in value.split(","))
        except ValueError:
            wanted = "whole numbers such as 1,10,100" if self.kind is int else "numbers such as 0.01,1,100"
            self.fail(f"'{value}' is not a list of {wanted}", param, ctx)


def _option(entry: Field[Any], group: str) -> Callable[[Any], Any]:
    name = entry.name.replace("_", "-")
    common: dict[str, Any] = {
        "default": entry.default, "help": entry.metadata["help"], "show_default": entry.default is not None,
        "cls": Option, "group": entry.metadata.get("group", group),
    }  # fmt: skip
    if isinstance(entry.default, bool):
        return click.option(f"--{name}/--no-{name}", **common)
    choices = entry.metadata.get("choices")
    if entry.metadata.get("repeat"):
        each = click.Choice(choices) if choices else str
        text = f"{common['help'][:-1]}; repeatable."
        return click.option(f"--{name}", multiple=True, type=each, **{**common, "show_default": False, "help": text})
    if entry.default == ():
        return click.option(f"--{name}", type=Names(), **{**common, "show_default": False})
    if isinstance(entry.default, tuple):
        shown = ",".join(f"{number:g}" for number in entry.default)
        return click.option(f"--{name}", type=Numbers(type(entry.default[0])), **{**common, "show_default": shown})
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
        for kind in reversed(kinds):
            for entry in reversed(fields(kind)):
                _option(entry, GROUPS[kind])(run)
        return run

    return decorate
