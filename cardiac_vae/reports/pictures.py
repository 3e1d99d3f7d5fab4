"""Figures of cases: the contours of several masks on the image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cardiac_vae.data.case import Spacing
from cardiac_vae.labels import HEART
from cardiac_vae.reports.style import (
    COLORS,
    INK,
    MUTED,
    add_legend,
    hide_axes,
    structure_lines,
    styled,
)

_MARGIN_MM = 18.0
_WINDOW = (1.0, 99.5)  # percentiles of the shown field that become black and white


@dataclass(frozen=True)
class PicturedCase:
    """One case before and after refinement, with its image.

    Attributes:
        title: What is written above it.
        image: (D, H, W) float32.
        reference: (D, H, W) uint8, the expert's mask.
        segmenter: (D, H, W) uint8.
        refined: (D, H, W) uint8.
        spacing_mm: Voxel size along (slice, row, column).
    """

    title: str
    image: np.ndarray
    reference: np.ndarray
    segmenter: np.ndarray
    refined: np.ndarray
    spacing_mm: Spacing

    def shown_slice(self) -> int:
        """Return the slice that refinement changed most, or else the one the expert disputes."""
        changed = (self.segmenter != self.refined).sum(axis=(1, 2))
        if not changed.any():
            changed = (self.reference != self.refined).sum(axis=(1, 2))
        if not changed.any():
            changed = (self.reference > 0).sum(axis=(1, 2))
        return int(changed.argmax())

    def field(self) -> tuple[slice, slice]:
        """Return the square field (rows, columns) around all three hearts, with a margin."""
        drawn = np.maximum(self.segmenter, self.refined)
        # A speck far off must not zoom the picture out: the expert's heart leads if there is one.
        leading = self.reference if self.reference.any() else drawn
        plane = leading.max(axis=0) > 0
        if not plane.any():
            return slice(0, plane.shape[0]), slice(0, plane.shape[1])
        _, *pixel_mm = self.spacing_mm
        centers, extents = [], []
        for axis, size_mm in enumerate(pixel_mm):
            where = np.flatnonzero(plane.any(axis=1 - axis))
            centers.append((where[0] + where[-1] + 1) / 2)
            extents.append((where[-1] + 1 - where[0]) * size_mm)
        half_mm = max(extents) / 2 + _MARGIN_MM
        rows, columns = (
            slice(
                max(0, round(center - half_mm / size_mm)),
                min(length, round(center + half_mm / size_mm)),
            )
            for center, size_mm, length in zip(centers, pixel_mm, plane.shape, strict=True)
        )
        return rows, columns


@styled
def cases(pictured: Sequence[PicturedCase], per_line: int = 2) -> Figure:
    """Draw cases as triples of expert, segmenter and refined contours on the image."""
    num_lines = -(-len(pictured) // per_line)
    figure = Figure(figsize=(9.6, 1.86 * num_lines + 0.3))
    blocks = figure.subfigures(num_lines, per_line, squeeze=False, wspace=0.02, hspace=0.01).ravel()
    for block, case in zip(blocks, pictured, strict=False):
        block.suptitle(case.title, fontsize=8, x=0.02, ha="left", fontweight="bold", color=INK)
        panels = block.subplots(1, 3)
        masks = {"expert": case.reference, "segmenter": case.segmenter, "refined": case.refined}
        for axes, (name, mask) in zip(panels, masks.items(), strict=True):
            _draw(axes, case, mask, with_expert=name != "expert")
            axes.text(
                0.03,
                0.96,
                name,
                transform=axes.transAxes,
                va="top",
                fontsize=7,
                color="white",
                bbox={"boxstyle": "square,pad=0.25", "facecolor": "#00000090", "linewidth": 0},
            )
    dotted = Line2D([], [], color=MUTED, linewidth=1.2, linestyle=":", label="expert (dotted)")
    add_legend(figure, structure_lines([dotted]))
    return figure


def _draw(axes: Axes, case: PicturedCase, mask: np.ndarray, with_expert: bool) -> None:
    index, (rows, columns) = case.shown_slice(), case.field()
    image = case.image[index, rows, columns]
    low, high = np.percentile(image, _WINDOW)
    _, row_mm, column_mm = case.spacing_mm
    axes.imshow(
        image,
        cmap="gray",
        vmin=low,
        vmax=max(high, low + 1e-6),
        aspect=row_mm / column_mm,
        interpolation="bilinear",
    )
    if with_expert:
        for structure in HEART:
            _contour(axes, case.reference[index, rows, columns] == structure, "white", ":", 0.9)
    for structure in HEART:
        _contour(axes, mask[index, rows, columns] == structure, COLORS[structure], "-", 1.3)
    hide_axes(axes)


def _contour(axes: Axes, region: np.ndarray, color: str, style: str, width: float) -> None:
    if region.any():
        padded = np.pad(region, 1).astype(float)
        places = [np.arange(-1, size + 1) for size in region.shape]
        axes.contour(
            places[1], places[0], padded, [0.5], colors=color, linestyles=style, linewidths=width
        )
        axes.set_xlim(-0.5, region.shape[1] - 0.5)
        axes.set_ylim(region.shape[0] - 0.5, -0.5)
