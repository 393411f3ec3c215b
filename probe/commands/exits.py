"""How commands end: errors in one line, Ctrl-C at once."""

import logging
import os
import signal
import sys
import threading
from typing import Any, NoReturn

import click

from probe.base.errors import ProbeError

log = logging.getLogger("probe")
STOPPED = "probe: stopped; what is finished is kept, and the same command goes on from there"


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
