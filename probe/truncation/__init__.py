"""Truncated networks: a backbone cut at a tap, a head on it, and the files they are kept in."""

from probe.truncation.files import load, read_card, save
from probe.truncation.model import Truncated, truncate
from probe.truncation.probe_head import head_from_probe
from probe.truncation.probed import probed
from probe.truncation.randomised import cascade, drawn_again

__all__ = [
    "Truncated", "cascade", "drawn_again", "head_from_probe", "load", "probed", "read_card", "save", "truncate",
]  # fmt: skip
