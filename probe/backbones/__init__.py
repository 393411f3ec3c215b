"""Backbones: networks as ordered runs of named stages, found by tracing and cut without code per architecture."""

from probe.backbones.building import backbone, from_list, from_module, published_tag
from probe.backbones.catalog import list_archs
from probe.backbones.network import Backbone, Origin, Preprocessing

__all__ = ["Backbone", "Origin", "Preprocessing", "backbone", "from_list", "from_module", "list_archs", "published_tag"]
