"""How figures look: returned as a dict of matplotlib's own keys, for `plt.rc_context`."""

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

INCH = 25.4  # millimetres
WIDTHS = {"half": 88 / INCH, "full": 180 / INCH}  # of a column and of a page, in inches
DPI = 300  # of print; a screen does with fewer
COLORS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
)  # Okabe and Ito 2008; safe for colour-blind readers
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", ":", "-.")


def paper(column: str = "half", aspect: float = 0.75) -> dict[Any, Any]:
    """Settings for print: `column` "half" (88 mm) or "full" (180 mm), height as a share of the width."""
    width = WIDTHS[column]
    return {
        "figure.figsize": (width, width * aspect),
        "figure.dpi": 150,
        "figure.constrained_layout.use": True,
        "savefig.dpi": DPI,
        "font.family": "DejaVu Sans",
        "font.size": 7,
        "axes.titlesize": 7.5,
        "axes.labelsize": 7,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.labelsize": 6,
        "ytick.labelsize": 6,
        "legend.fontsize": 6,
        "legend.title_fontsize": 6,
        "legend.frameon": False,
        "lines.linewidth": 1.1,
        "lines.markersize": 3,
        "pdf.fonttype": 42,
        "svg.fonttype": "none",
        "svg.hashsalt": "probe",
    }


def slide() -> dict[Any, Any]:
    """Settings for slides: 160 by 90 mm, which on a screen or wall is shown about twice as large."""
    width = WIDTHS["full"] * 160 / 180
    larger = {"font.size": 8, "axes.titlesize": 8.5, "axes.labelsize": 8, "legend.fontsize": 7, "lines.linewidth": 1.4}
    return paper("full") | {"figure.figsize": (width, width * 9 / 16)} | larger


def look(column: str, aspect: float) -> dict[Any, Any]:
    """Settings for a figure of "half" a page's width, the "full" one, or for a "slide", which has its own shape."""
    return slide() if column == "slide" else paper(column, aspect)


def literal(text: str) -> str:
    """A name as it is, with no part of it taken for mathematics."""
    return text.replace("$", r"\$")


def save(figure: Figure, stem: Any, formats: tuple[str, ...] = ("pdf", "svg", "png"), dpi: int = DPI) -> list[str]:
    """Write a figure in several formats, byte for byte the same for the same content, and let go of it; the files."""
    undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
    files = [f"{stem}.{kind}" for kind in formats]
    with plt.rc_context(paper()):  # fonts and dpi are read when a file is written
        _settle(figure)
        for kind, file in zip(formats, files, strict=True):
            figure.savefig(file, format=kind, metadata=undated[kind], dpi=dpi)
    plt.close(figure)  # pyplot would keep it in memory
    return files


def _settle(figure: Figure) -> None:
    """Keep the layout as found, but for the last digits, which its solver leaves different from run to run."""
    if figure.get_layout_engine() is None:
        return
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        left, bottom, width, height = (round(side, 5) for side in axes.get_position(original=True).bounds)
        axes.set_position((left, bottom, width, height))
