"""Truncated networks: a backbone cut at a tap, a head on it, and the files they are kept in."""

from probe.truncation.files import load, read_card, save
from probe.truncation.model import Truncated, truncate
from probe.truncation.starts import head_from_probe

__all__ = ["Truncated", "head_from_probe", "load", "read_card", "save", "truncate"]
