"""The choices that settings offer are those that there are: a table that implements them has the same keys."""

from collections.abc import Mapping

import pytest

import analysis.attribution
from probe import probes
from probe.finetuning import STRATEGIES, batches, devices
from probe.records import display_names
from probe.settings import attribution, networks, probing, training
from probe.truncation import exports, heads

TABLES: dict[str, tuple[Mapping[str, object], tuple[str, ...]]] = {
    "methods of attribution": (analysis.attribution.METHODS, attribution.METHODS),
    "kinds of probes": (probes.METHODS, probing.PROBES),
    "strategies": (STRATEGIES, training.STRATEGIES),
    "changes of images": ({"none": None, **batches.AUGMENTS}, training.AUGMENTS),
    "precisions": (devices.PRECISIONS, training.PRECISIONS),
    "activations": (heads.ACTIVATIONS, networks.ACTIVATIONS),
    "exports": (exports.SUFFIXES, networks.EXPORTS),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_what_the_settings_offer(name: str) -> None:
    table, choices = TABLES[name]
    assert tuple(table) == choices


def test_only_probes_that_there_are_have_a_name_in_print() -> None:
    assert set(display_names.PROBES) < set(probing.PROBES)
