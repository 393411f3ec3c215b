"""Options: those that commands share, and those that are made from settings."""

from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import click

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
arch_text = "A timm id, torchvision:NAME, hf-hub:ORG/NAME or cbr:NAME."
one_arch = click.option("--arch", required=True, help=arch_text)
several_archs = click.option("--arch", "archs", multiple=True, help=f"{arch_text[:-1]}; repeatable.")
weights_text = "pretrained, scratch, the name of a published weight, or a file."
one_weights = click.option("--weights", default="pretrained", show_default=True, help=weights_text)
several_weights = click.option(
    "--weights", multiple=True, help=f"{weights_text[:-1]}; repeatable.  [default: pretrained and scratch]"
)


def made_elsewhere(verb: str, how: str) -> Callable[[Any], Any]:
    """`--features`, by what a command does with them."""
    text = f"{verb} features made elsewhere, a folder of .npy with rows.csv or an .npz, {how}; repeatable."
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


def _option(entry: Field[Any]) -> Callable[[Any], Any]:
    name = entry.name.replace("_", "-")
    common = {"default": entry.default, "help": entry.metadata["help"], "show_default": entry.default is not None}
    if isinstance(entry.default, bool):
        return click.option(f"--{name}/--no-{name}", **common)
    choices = entry.metadata.get("choices")
    if entry.metadata.get("repeat"):
        each = click.Choice(choices) if choices else str
        return click.option(f"--{name}", multiple=True, type=each, help=f"{common['help'][:-1]}; repeatable.")
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
        for entry in [entry for kind in kinds for entry in fields(kind)][::-1]:
            _option(entry)(run)
        return run

    return decorate
