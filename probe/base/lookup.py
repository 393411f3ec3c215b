"""Names given by the user: looked up, and when unknown answered with the near ones."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from probe.base.errors import ProbeError

FILES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors")  # of weights


def is_file(weights: str | Path) -> bool:
    """Whether `weights` names a file rather than a published weight."""
    words = ("pretrained", "scratch")
    return str(weights) not in words and (str(weights).endswith(FILES) or Path(weights).is_file())


def unknown(kind: str, name: object, options: Sequence[str], see: str = "") -> ProbeError:
    """The error for a name that is not among `options`, suggesting near names or, of few, all."""
    near = get_close_matches(str(name), options, n=3, cutoff=0.6)
    if near:
        hint = "did you mean " + " or ".join(f"'{option}'" for option in near) + "?"
    elif len(options) <= 20:
        hint = "choose from " + ", ".join(options) if options else "there are none"
    else:
        hint = ""
    return ProbeError("; ".join(filter(None, [f"unknown {kind} '{name}'", hint])) + (f" See {see}." if see else ""))


def find_index(kind: str, wanted: str | int, options: Sequence[str]) -> int:
    """Position of a name, or of an index counted from either end.

    Raises ProbeError when there is no such name or index.
    """
    if isinstance(wanted, str) and wanted in options:
        return options.index(wanted)
    try:
        index = int(wanted)
    except ValueError:
        raise unknown(kind, wanted, options) from None
    if not -len(options) <= index < len(options):
        raise ProbeError(f"{kind} {index} is out of range; there are {len(options)}, 0 to {len(options) - 1}")
    return index % len(options)


def check_seed(seed: int) -> None:
    """Raise ProbeError for a seed that the generators do not take."""
    if not 0 <= seed < 2**32:
        raise ProbeError(f"seed {seed} is out of range; take one from 0 to {2**32 - 1}")
