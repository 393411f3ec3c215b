"""Figures by name: what `probe figure` can draw again from what other commands have written."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

from matplotlib.figure import Figure

from figures.style import save
from probe.records.view import View

MODULES = {  # by name the module that draws it
    "depth-curve": "depth_curve",
    "training-sizes": "training_sizes",
    "probe-and-trained": "probe_and_trained",
    "strategies": "strategies",
    "frontier": "frontier",
    "similarity": "similarity",
    "cca-boxes": "canonical_correlations",
    "embedding": "embedding_grid",
    "attribution": "attribution_panel",
    "prediction-depth": "prediction_depth",
    "cost": "cost",
    "table": "score_table",
}
SIZED = ("depth-curve", "training-sizes", "probe-and-trained", "strategies", "frontier")  # the others have one width


def module_of(name: str) -> ModuleType:
    """The module that draws a figure."""
    return import_module(f"figures.{MODULES[name]}")


def about(name: str) -> str:
    """What a figure shows, in a line."""
    return str(module_of(name).__doc__).partition("\n")[0]


def draw(name: str, view: View, out: Path) -> list[str]:
    """Draw a figure of a record; the files. Raises Missing for what is not there to be read."""
    module = module_of(name)
    if name == "table":
        written: list[str] = module.write_table(view, out)
        return written
    redraw: Callable[[View], dict[str, Figure]] = module.redraw
    return [file for stem, figure in redraw(view).items() for file in save(figure, out / stem)]
