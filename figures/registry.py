"""Figures by name: what `probe figure` can draw again from what other commands have written."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from matplotlib.figure import Figure

from figures import (
    attribution_panel,
    cca_boxes,
    cost,
    depth_curve,
    embedding_grid,
    frontier,
    prediction_depth,
    probe_and_trained,
    score_table,
    similarity,
    strategies,
    training_sizes,
)
from figures.style import save
from probe.records.folder import Results

MODULES: dict[str, ModuleType] = {
    "depth-curve": depth_curve,
    "training-sizes": training_sizes,
    "probe-and-trained": probe_and_trained,
    "strategies": strategies,
    "frontier": frontier,
    "similarity": similarity,
    "cca-boxes": cca_boxes,
    "embedding": embedding_grid,
    "attribution": attribution_panel,
    "prediction-depth": prediction_depth,
    "cost": cost,
    "table": score_table,
}
SIZED = ("depth-curve", "training-sizes", "probe-and-trained", "strategies", "frontier")  # the others have one width


def about(name: str) -> str:
    """What a figure shows, in a line."""
    return str(MODULES[name].__doc__).partition("\n")[0]


def draw(name: str, results: Results, out: Path) -> list[str]:
    """Draw a figure from a folder of results; the files. Raises Missing for what is not there to be read."""
    if name == "table":
        return score_table.write_table(results, out)
    redraw: Callable[[Results], dict[str, Figure]] = MODULES[name].redraw
    return [file for stem, figure in redraw(results).items() for file in save(figure, out / stem)]
