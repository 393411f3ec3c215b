"""What settings have in common: a field with its help, and values that are not allowed."""

from dataclasses import field, fields
from typing import Any

from probe.base.errors import ProbeError


def option(default: Any, text: str, **extra: Any) -> Any:
    """A field with the help text of the option made from it, and what else is known: its choices, its `group`.

    The group is a heading in `--help`; without one it is that of the class.
    """
    return field(default=default, metadata={"help": text, **extra})


def check_choices(settings: Any) -> None:
    """Raise ProbeError for a value that is not among the choices of its field."""
    for entry in fields(settings):
        choices, value = entry.metadata.get("choices"), getattr(settings, entry.name)
        for given in value if isinstance(value, tuple) else (value,):
            if choices and given not in choices:
                raise ProbeError(f"{entry.name} is '{given}'; choose from {', '.join(choices)}")


def check_draws(draws: int) -> None:
    """Raise ProbeError for too few bootstrap draws."""
    if draws < 100:
        raise ProbeError(f"{draws} bootstrap draws are too few for an interval; take at least 100")
