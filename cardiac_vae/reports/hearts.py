"""Figures of label maps: what a shape model makes of hearts, draws by itself, and lies between."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from cardiac_vae.reports.style import (
    WORSE,
    add_legend,
    colored,
    hide_axes,
    structure_lines,
    styled,
)


@dataclass(frozen=True)
class HeartLine:
    """A line of hearts.

    Attributes:
        title: What stands before it.
        masks: (N, H, W) uint8.
        validity: (N,) whether each breaks no criterion.
    """

    title: str
    masks: np.ndarray
    validity: Sequence[bool]


@styled
def reconstructions(masks: np.ndarray, decoded: np.ndarray) -> Figure:
    """Draw expert masks (N, H, W), what the model makes of them, and the pixels that differ."""
    figure = Figure(figsize=(9.6, 3.55))
    grid = figure.subplots(3, len(masks), squeeze=False)
    differing = np.where((masks != decoded)[..., None], [0.84, 0.37, 0.0], [0.95, 0.96, 0.97])
    lines = (
        [colored(mask) for mask in masks],
        [colored(mask) for mask in decoded],
        list(differing),
    )
    names = ("expert", "decoded", "differs")
    for panels, images, name in zip(grid, lines, names, strict=True):
        for axes, image in zip(panels, images, strict=True):
            axes.imshow(image, interpolation="nearest")
            hide_axes(axes)
        panels[0].set_ylabel(name, fontsize=8.5)
    add_legend(figure, structure_lines())
    return figure


@styled
def prior_samples(
    by_temperature: Mapping[float, np.ndarray], validity: Mapping[float, Sequence[bool]]
) -> Figure:
    """Draw prior samples (N, H, W) per temperature; those that break a criterion are framed."""
    num_columns = 12
    num_lines = [-(-len(masks) // num_columns) for masks in by_temperature.values()]
    figure = Figure(figsize=(9.6, 0.86 * sum(num_lines) + 0.3 * len(num_lines) + 0.35))
    blocks = figure.subfigures(len(num_lines), 1, squeeze=False, height_ratios=num_lines).ravel()
    for block, (temperature, masks) in zip(blocks, by_temperature.items(), strict=True):
        block.suptitle(
            f"temperature {temperature:g}", fontsize=8.5, x=0.01, ha="left", fontweight="bold"
        )
        panels = block.subplots(-(-len(masks) // num_columns), num_columns, squeeze=False).ravel()
        for axes, mask, is_valid in zip(panels, masks, validity[temperature], strict=False):
            _drawn_heart(axes, mask, is_valid)
        for axes in panels[len(masks) :]:
            axes.set_visible(False)
    add_legend(figure, structure_lines([_frame_entry()]))
    return figure


@styled
def hearts_on_demand(
    hearts: Mapping[str, np.ndarray],
    validity: Mapping[str, Sequence[bool]],
    columns: Mapping[str, Sequence[str]],
) -> Figure:
    """Draw what a model makes of conditions: a line (N, H, W) per group, a column per the rest.

    ``columns`` are named in blocks (phase -> positions) of N names in all; what breaks a criterion
    is framed.
    """
    figure = Figure(figsize=(9.6, 0.9 * len(hearts) + 0.7))
    blocks = figure.subfigures(1, len(columns), squeeze=False, wspace=0.02).ravel()
    start = 0
    for block, (title, names) in zip(blocks, columns.items(), strict=True):
        block.suptitle(title, fontsize=8.5, fontweight="bold")
        grid = block.subplots(len(hearts), len(names), squeeze=False)
        for panels, (group, masks) in zip(grid, hearts.items(), strict=True):
            for offset, axes in enumerate(panels):
                _drawn_heart(axes, masks[start + offset], validity[group][start + offset])
            if start == 0:
                panels[0].set_ylabel(group, fontsize=8.5)
        for axes, name in zip(grid[0], names, strict=True):
            axes.set_title(name, fontsize=8, fontweight="normal", loc="center")
        start += len(names)
    add_legend(figure, structure_lines([_frame_entry()]))
    return figure


def _drawn_heart(axes: Axes, mask: np.ndarray, is_valid: bool) -> None:
    """Show a mask (H, W), in a frame if it breaks a criterion."""
    axes.imshow(colored(mask), interpolation="nearest")
    hide_axes(axes)
    axes.set_frame_on(not is_valid)
    for spine in axes.spines.values():
        spine.set(visible=True, color=WORSE, linewidth=1.3)


def _frame_entry() -> Line2D:
    return Line2D(
        [],
        [],
        marker="s",
        markersize=8,
        markerfacecolor="none",
        linestyle="",
        color=WORSE,
        label="breaks a criterion",
    )


@styled
def lines_of_hearts(lines: Sequence[HeartLine], columns: Sequence[str]) -> Figure:
    """Draw lines of N hearts under the names of N columns; what breaks a criterion is framed."""
    height, width = lines[0].masks.shape[1:]
    figure = Figure(figsize=(9.6, 0.35 + 9.2 / len(columns) * len(lines) * height / width))
    axes = figure.subplots()
    # One image for all: a panel for each heart would take seconds to lay out.
    axes.imshow(
        np.vstack([np.hstack([colored(mask) for mask in line.masks]) for line in lines]),
        interpolation="nearest",
    )
    for row, line in enumerate(lines):
        for column in np.flatnonzero(~np.array(line.validity)):
            corner = (column * width + 0.5, row * height + 0.5)
            frame = Rectangle(corner, width - 2, height - 2, fill=False, color=WORSE, linewidth=1.3)
            axes.add_patch(frame)
    axes.set_frame_on(False)
    axes.set_xticks((np.arange(len(columns)) + 0.5) * width, columns)
    axes.set_yticks(
        (np.arange(len(lines)) + 0.5) * height,
        [line.title for line in lines],
        rotation=90,
        va="center",
    )
    axes.tick_params(length=0, labelsize=8, labeltop=True, labelbottom=False)
    add_legend(figure, structure_lines([_frame_entry()]))
    return figure
