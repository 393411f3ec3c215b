"""Truncated networks: a backbone cut at a tap, a head on it, and the files they are kept in."""

from probe.truncation.model_file import load, read_card, save
from probe.truncation.probe_head import head_from_probe
from probe.truncation.probed_networks import probed
from probe.truncation.randomised import cascade, drawn_again
from probe.truncation.truncated import Truncated, truncate

__all__ = [
    "Truncated", "cascade", "drawn_again", "head_from_probe", "load", "probed", "read_card", "save", "truncate",
]  # fmt: skip
