"""What commands are made of: options from settings, errors in one line, tables as text."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import Field, fields
from typing import Any, NoReturn

import click

from probe.errors import ProbeError

log = logging.getLogger("probe")
STOPPED = "probe: stopped; what is finished is kept, and the same command goes on from there"


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

    def main(self, *args: Any, **extra: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, _stop)
        return super().main(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        log.setLevel(logging.INFO)
        log.handlers = [logging.StreamHandler(sys.stderr)]
        try:
            return super().invoke(ctx)
        except ProbeError as error:
            click.echo(f"probe: {' '.join(str(error).splitlines())}", err=True)  # names of files may hold line breaks
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo(STOPPED, err=True)
            ctx.exit(130)


def _stop(*_: Any) -> NoReturn:
    """End at once, wherever we are: libraries swallow an exception raised within them, threads wait for their work.

    Nothing needs tidying: whatever is written can be killed at any moment.
    """
    os.write(sys.stderr.fileno(), ("\n" * os.isatty(sys.stderr.fileno()) + STOPPED + "\n").encode())
    os._exit(130)


def text_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns of text, numbers to the right."""
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = [not isinstance(cell, str) or cell[:1].isdigit() for cell in rows[0]] if rows else [False] * len(head)
    return "\n".join(
        "  ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True)).rstrip()
        for row in cells
    )
