"""One look for all figures: colours that colour-blind readers tell apart, text that is text."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import ParamSpec

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

Parameters = ParamSpec("Parameters")

INK = "#222222"
FAINT = "#d9d9d9"
PARTS = {"movement": "#E69F00", "shared_io": "#0072B2", "local_io": "#56B4E9", "compute": "#999999"}
"""Colours of the parts of a makespan; these and those below are of Okabe and Ito (2008)."""
TIERS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
"""Colours of tiers in the order of the catalog, again from the first where there are more."""
ORDERINGS = {
    "FSF": ("#E69F00", "^"),
    "LTL": ("#0072B2", "s"),
    "Hybrid": ("#CC79A7", "D"),
    "regions": ("#009E73", "o"),
}
"""Colour and marker of each ordering: two ways to tell them apart."""
MATPLOTLIBRC = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "font.family": "sans-serif",
    "font.size": 9,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "savefig.facecolor": "white",
    "svg.fonttype": "none",  # text stays text: it can be searched, and read out
    "svg.hashsalt": "qosflow",  # identifiers in the file do not change from run to run
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def styled() -> AbstractContextManager[None]:
    """Return a context in which figures look alike, whatever the user's own settings are."""
    return style.context(["default", MATPLOTLIBRC])


def drawing(draw: Callable[Parameters, Figure]) -> Callable[Parameters, Figure]:
    """Let a function draw in the common style."""

    @wraps(draw)
    def styled_draw(*arguments: Parameters.args, **named: Parameters.kwargs) -> Figure:
        with styled():
            return draw(*arguments, **named)

    return styled_draw


def new_figure(width_in: float, height_in: float, title: str) -> Figure:
    """Return an empty figure with its title, which is also its label."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    figure.set_label(title)
    return figure


def title(axes: Axes, words: str, above: float) -> None:
    """Set the title so many points above the axes, smaller where it is long."""
    axes.set_title(words, fontsize=10 if len(words) <= 80 else 7.5, pad=above)


def from_zero(axes: Axes) -> None:
    """Let the vertical axis begin at 0, with room for a marker above the largest value."""
    axes.set_ylim(0, max(axes.dataLim.y1, 1e-9) * 1.06)


def readable_on(colour: str) -> str:
    """Return the colour of text on ``colour``: white on dark, else the ink."""
    red, green, blue = to_rgb(colour)
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.55 else INK


def legend_above(axes: Axes, columns: int) -> None:
    """Put the legend between title and axes."""
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, borderaxespad=0.2)
