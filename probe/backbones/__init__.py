"""Backbones: networks as ordered runs of named stages, found by tracing and cut without code per architecture.

What needs the model libraries loads on first use: a network is named, and its features in the cache are
described, without them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from probe.backbones.network_spec import Networks, NetworkSpec
from probe.backbones.taps import Layout, Tap

if TYPE_CHECKING:
    from probe.backbones.building import backbone, from_list, from_module, published_tag
    from probe.backbones.catalog import list_archs
    from probe.backbones.network import Backbone, Origin, Preprocessing

__all__ = [
    "Backbone", "Layout", "NetworkSpec", "Networks", "Origin", "Preprocessing", "Tap", "backbone", "from_list",
    "from_module", "list_archs", "published_tag",
]  # fmt: skip

_HOMES = {
    "building": ("backbone", "from_list", "from_module", "published_tag"),
    "catalog": ("list_archs",),
    "network": ("Backbone", "Origin", "Preprocessing"),
}


def __getattr__(name: str) -> Any:
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'probe.backbones' has no attribute '{name}'")
    return getattr(import_module(f"probe.backbones.{home}"), name)
