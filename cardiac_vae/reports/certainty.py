"""The section that says how sure the refined masks are, and whether that is to be believed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cardiac_vae.reports.html import Section, figure, paragraph
from cardiac_vae.reports.inputs import RecipeResults
from cardiac_vae.reports.style import INK, MUTED, add_legend, styled
from cardiac_vae.reports.tables import NO_VALUE, Cell, Line, number, stacked_table

_MEASURES = {
    "lv_ml": ("LV", "ml"),
    "rv_ml": ("RV", "ml"),
    "mass_g": ("LV mass", "g"),
    "lv_ef_percent": ("LV EF", "% points"),
    "rv_ef_percent": ("RV EF", "% points"),
}
_LEVELS = ("50", "90")
_RANGE = 0.25, 1.02  # the likeliest of four classes has a quarter at least

Scores = Mapping[str, Any]


def certainty(recipes: Sequence[RecipeResults], colors: Mapping[str, str]) -> Section:
    """Return how often intervals hold the experts' values, and how far beliefs are right.

    ``colors`` is that of each recipe. Where no voxel was judged there is nothing to say.
    """
    judged = {
        recipe.name: recipe.summary["uncertainty"]
        for recipe in recipes
        if recipe.summary.get("uncertainty")
    }
    known = {
        name: by_scans
        for name, by_scans in judged.items()
        if all(scores["voxels"] for scores in by_scans.values())
    }
    title = "How sure the masks are"
    if not known:
        return Section("certainty", title, [])
    scans = list(next(iter(known.values())))
    return Section(
        "certainty",
        title,
        [
            paragraph(
                "Each refined mask comes with the probability of every voxel's class and with "
                "intervals of its volumes, mass and ejection fractions, calibrated on patients "
                "that are not scored here. An interval is honest if it holds the expert's value "
                "as often as it says, and useful if it is narrow. Below each count stands the "
                "mean width. ECE: how far, on average, probability and share of right voxels are "
                "apart, within 10 mm of the heart."
            ),
            stacked_table(_head(), [_body(known, name) for name in scans]),
            figure(
                reliability_curves(known, colors),
                "Reliability of the voxels' probabilities",
                "Share of voxels whose likeliest class is the expert's, against the probability "
                "of that class. On the line a belief is right as often as it says; below it, "
                "voxels are believed too much. The larger the dot, the more voxels.",
            ),
        ],
    )


def _head() -> dict[str, list[tuple[str, str]]]:
    return {
        "Voxels": [("ECE", ""), ("Brier", "")],
        **{f"{level} % intervals that hold": list(_MEASURES.values()) for level in _LEVELS},
    }


def _body(by_recipe: Mapping[str, Mapping[str, Scores]], scans: str) -> list[Line]:
    return [
        Line(f"{scans.capitalize()} scans, {name}", _cells(by_scans[scans]))
        for name, by_scans in by_recipe.items()
    ]


def _cells(scores: Scores) -> list[Cell]:
    voxels = scores["voxels"]
    cells = [Cell(number(voxels["expected_error"], 3)), Cell(number(voxels["brier"], 3))]
    for level in _LEVELS:
        for measure in _MEASURES:
            cells.append(_coverage(scores["intervals"].get(measure, {}).get(level)))
    return cells


def _coverage(quality: Scores | None) -> Cell:
    if not quality:
        return Cell(NO_VALUE)
    coverage = quality["coverage"]
    return Cell(
        f"{round(coverage['mean'] * coverage['n'])} of {coverage['n']}",
        f"width {number(quality['width'], 0)}",
    )


@styled
def reliability_curves(
    by_recipe: Mapping[str, Mapping[str, Scores]], colors: Mapping[str, str]
) -> Figure:
    """Plot accuracy against confidence of each recipe's voxels, a panel per kind of scans."""
    scans = list(next(iter(by_recipe.values())))
    drawing = Figure(figsize=(4.0 * len(scans), 3.8))
    for axes, kind in zip(drawing.subplots(1, len(scans), squeeze=False)[0], scans, strict=True):
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8)
        for name, by_scans in by_recipe.items():
            _curve(axes, by_scans[kind]["voxels"]["reliability"], name, colors.get(name, MUTED))
        axes.set_xlim(*_RANGE)
        axes.set_ylim(*_RANGE)
        axes.set_aspect("equal")
        axes.grid(visible=True)
        axes.set_title(f"{kind} scans")
        axes.title.set_color(INK)
        axes.set_xlabel("probability of the likeliest class")
    drawing.axes[0].set_ylabel("share of voxels that are right")
    add_legend(
        drawing,
        [
            Line2D([], [], color=colors.get(name, MUTED), linewidth=3, label=name)
            for name in by_recipe
        ],
    )
    return drawing


def _curve(axes: Axes, bins: Sequence[Scores], name: str, color: str) -> None:
    confidence, accuracy, count = (
        np.array([bin_[key] for bin_ in bins], float) for key in ("confidence", "accuracy", "count")
    )
    axes.plot(confidence, accuracy, color=color, linewidth=1.1, label=name)
    axes.scatter(confidence, accuracy, s=8 + 90 * count / count.sum(), color=color, zorder=3)
