"""How every figure looks, and how it gets into a page: one palette, one type size, inlined PNG.

The colors are of the palette of Okabe & Ito (2008), which all common kinds of color vision tell
apart; each structure keeps its color in every figure, and on images as on white.
"""

import base64
import io
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cardiac_vae.labels import HEART, Structure

P = ParamSpec("P")

COLORS = {Structure.RV: "#56B4E9", Structure.MYO: "#E69F00", Structure.LV: "#009E73"}
NAMES = {Structure.RV: "RV", Structure.MYO: "MYO", Structure.LV: "LV"}
BETTER, WORSE, SAME = "#0072B2", "#D55E00", "#9AA3AD"
INK, MUTED, RULE = "#1C2430", "#667080", "#D8DDE3"
VARIANT_COLORS = {"segmenter": "#9AA3AD", "baseline": "#CC79A7", "refined": "#0072B2"}

_RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Liberation Sans", "Arial", "DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "savefig.dpi": 150,
}


def styled(draw: Callable[P, Figure]) -> Callable[P, bytes]:
    """Make a function that draws a figure return it as PNG, drawn in the report's style."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> bytes:
        with rc_context(_RC):
            figure = draw(*args, **kwargs)
            buffer = io.BytesIO()
            # No date and no version in the file: the same numbers give the same bytes.
            FigureCanvasAgg(figure)
            figure.savefig(buffer, format="png", metadata={"Software": None})
        return buffer.getvalue()

    return drawn


def as_data_uri(png: bytes) -> str:
    """Return a PNG as an address that holds the image itself."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def hide_axes(axes: Axes) -> None:
    """Leave only what is drawn: no ticks, no frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_frame_on(False)


def colored(mask: np.ndarray) -> np.ndarray:
    """Return a label map (H, W) as RGB (H, W, 3) in [0, 1], white where there is nothing."""
    image = np.ones((*mask.shape, 3))
    for structure in HEART:
        image[mask == structure] = to_rgb(COLORS[structure])
    return image


def structure_lines(others: Sequence[Line2D] = ()) -> list[Line2D]:
    """Return the entries of a legend that names the structures' colors, and others after them."""
    lines = [Line2D([], [], color=COLORS[s], linewidth=3, label=NAMES[s]) for s in HEART]
    return [*lines, *others]


def add_legend(figure: Figure, lines: Sequence[Line2D]) -> None:
    """Put one legend below all panels of a figure."""
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), fontsize=9)
