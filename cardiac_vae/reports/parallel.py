"""Parallel coordinates: an axis per measure, a line per recipe, better always up."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cardiac_vae.reports.html import details, figure, paragraph
from cardiac_vae.reports.rungs import Rung
from cardiac_vae.reports.shape_scores import Measure, measure
from cardiac_vae.reports.style import INK, MUTED, RULE, styled
from cardiac_vae.reports.tables import number, plain_table

FEWEST = 3
AXES = (
    measure("metrics/valid_samples_at_1", title="Valid samples", digits=0),
    measure("generation/metrics/frechet", title="Fréchet", unit="log", digits=1),
    measure("generation/metrics/coverage", digits=0),
    measure("generation/metrics/specificity_mm"),
    measure("likelihood/metrics/negative_log_likelihood", title="NLL", digits=0),
    measure("metrics/negative_elbo", title="Neg. ELBO", digits=0),
    measure("generation/metrics/generalization_mm", title="Generaliz."),
    measure("metrics/valid_reconstructions", title="Valid recon.", digits=0),
    measure("metrics/dice_mean", title="Dice"),
)
_MARKERS = "osD^vP<X>p"
_LABEL_GAP = 0.052  # of the length of an axis, between the names of two recipes
_SQUEEZED = 0.25  # share of an axis; a worst mean that left all others less stands below it
_BELOW = -0.13  # where that is, in lengths of the axis


def view(rungs: Sequence[Rung]) -> list[str]:
    """Return the figure, if there are lines enough to compare."""
    measures = _shown(rungs)
    if len(rungs) < FEWEST or len(measures) < 2:
        return []
    names = [[found.title, f"shape_model/{found.path}/mean"] for found in measures]
    return [
        figure(
            parallel_coordinates(rungs, measures),
            "All models at once",
            "Each axis runs from the worst mean (below) to the best (above), whichever way its "
            "numbers run. A mean far worse than all others stands below the axis, its number with "
            "an arrow. The plain recipe of a model file has the thick line, its variants have "
            "thin ones. Diamond: what real hearts score. Gray bar: the median length of the "
            "recipes' 95 % intervals on that axis; gaps much shorter than it mean little. Dotted: "
            "the model lacks what lies between, or what it has is no match for the others': the "
            "bound of log p(x | c) of a model that is told conditions.",
        ),
        details(
            "The same view in MLflow",
            [
                paragraph(
                    "In MLflow (make ui) choose the runs with the tag stage = evaluate, Compare, "
                    "Parallel Coordinates Plot, and these metrics. There each axis runs as its "
                    "numbers do, whether higher or lower is better.",
                    "note",
                ),
                plain_table(["Axis", "Metric of the run"], names, num_labels=2),
            ],
        ),
    ]


@styled
def parallel_coordinates(rungs: Sequence[Rung], measures: Sequence[Measure]) -> Figure:
    """Plot a line per recipe over the measures; each is known of some recipe, the last of all."""
    drawn = Figure(figsize=(9.6, max(3.2, 1.3 + 0.235 * len(rungs))))
    axes = drawn.subplots()
    heights = np.array([_heights(rungs, found) for found in measures]).T
    for place, found in enumerate(measures):
        _draw_axis(axes, place, found, rungs, is_last=found is measures[-1])
    lasts = [float(line[~np.isnan(line)][-1]) for line in heights]
    places = spread(lasts, _LABEL_GAP)
    for rung, line, ends in zip(rungs, heights, zip(lasts, places, strict=True), strict=True):
        variant = _variant(rungs, rung)
        _draw_line(axes, line, rung, variant)
        _label(axes, len(measures) - 1, ends, rung, variant)
    axes.set_xlim(-0.35, len(measures) + 0.8)
    axes.set_ylim(min(-0.24, *(place - _LABEL_GAP for place in places)), 1.2)
    axes.set_axis_off()
    axes.annotate(
        "better",
        (-0.3, 0.98),
        (-0.3, 0.02),
        arrowprops={"arrowstyle": "->", "color": MUTED},
        color=MUTED,
        rotation=90,
        ha="center",
        va="bottom",
        fontsize=8,
    )
    return drawn


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Return places at least a gap apart, in the same order, about where they were.

    Those too close form a block around their mean; blocks that meet become one.
    """
    order = sorted(range(len(places)), key=lambda index: places[index])
    blocks: list[list[int]] = []

    def center(block: list[int]) -> float:
        return sum(places[index] for index in block) / len(block)

    for index in order:
        blocks.append([index])
        while len(blocks) > 1:
            low, high = blocks[-2:]
            if center(high) - center(low) >= gap * (len(low) + len(high)) / 2:
                break
            blocks[-2:] = [low + high]
    found = [0.0] * len(places)
    for block in blocks:
        start = center(block) - gap * (len(block) - 1) / 2
        for rank, index in enumerate(block):
            found[index] = start + rank * gap
    return found


def _shown(rungs: Sequence[Rung]) -> list[Measure]:
    return [
        found for found in AXES if sum(_of(rung, found) is not None for rung in rungs) >= FEWEST
    ]


def _of(rung: Rung, found: Measure) -> Mapping[str, Any] | None:
    """Return mean and interval, where they can be compared with the others'."""
    return None if rung.is_conditional(found.path) else found.of(rung.scores)


def _value(found: Measure, value: float) -> float:
    """Return a value as its axis shows it: higher is better, and ratios are differences."""
    return found.better * (math.log(max(value, 1e-9)) if found.is_log else value)


def _means(rungs: Sequence[Rung], found: Measure) -> list[float]:
    values = [_of(rung, found) for rung in rungs]
    return [math.nan if value is None else value["mean"] for value in values]


def _real(rungs: Sequence[Rung], found: Measure) -> float | None:
    values = [found.of_real(rung.scores) for rung in rungs]
    return next((value["mean"] for value in values if value), None)


def _ends(rungs: Sequence[Rung], found: Measure) -> tuple[float, float, list[float]]:
    """Return the worst and the best mean of an axis, real hearts among them, and what lies below.

    That is a mean so far off that all others would share less than a quarter of the axis.
    """
    real = _real(rungs, found)
    means = [*_means(rungs, found), *([] if real is None else [real])]
    known = [value for value in means if not math.isnan(value)]
    ordered = sorted(known, key=lambda value: _value(found, value))
    below = []
    while len(ordered) > FEWEST:
        worst, second, best = (_value(found, ordered[index]) for index in (0, 1, -1))
        if best - second >= _SQUEEZED * (best - worst):
            break
        below.append(ordered.pop(0))
    return ordered[0], ordered[-1], below


def _scaled(found: Measure, value: float, ends: tuple[float, float]) -> float:
    worst, best = (_value(found, end) for end in ends)
    return 0.5 if best == worst else (_value(found, value) - worst) / (best - worst)


def _heights(rungs: Sequence[Rung], found: Measure) -> list[float]:
    *ends, below = _ends(rungs, found)
    return [
        _BELOW if value in below else _scaled(found, value, (ends[0], ends[1]))
        for value in _means(rungs, found)
    ]


def _draw_axis(
    axes: Axes, place: int, found: Measure, rungs: Sequence[Rung], is_last: bool
) -> None:
    (low_end, high_end, below), real = _ends(rungs, found), _real(rungs, found)
    ends, lengths = (low_end, high_end), []
    for rung in rungs:
        values = _of(rung, found)
        if values and values.get("low") is not None:
            low, high = (_scaled(found, values[end], ends) for end in ("low", "high"))
            lengths.append(abs(high - low))
    if lengths:
        length = min(1.0, float(np.median(lengths)))
        axes.add_patch(
            Rectangle((place - 0.13, 0.5 - length / 2), 0.05, length, color=RULE, zorder=0)
        )
    axes.plot([place, place], [0, 1], color=MUTED, linewidth=0.8, zorder=1)
    worst, best, *far = (number(end, found.digits, found.scale) for end in (*ends, *below))
    # Leaders start to the right of the last axis: its numbers make room for them.
    side, shift = ("right", 0.06) if is_last else ("center", 0.0)
    axes.text(place + shift, 1.04, best, ha=side, va="bottom", fontsize=8, color=MUTED)
    for height, text in ((-0.04, worst), (_BELOW - 0.03, _and_below(far))):
        axes.text(place + shift, height, text, ha=side, va="top", fontsize=8, color=MUTED)
    title = f"{found.title}\n({found.unit})" if found.unit else f"{found.title}\n"
    axes.text(place, 1.1, title, ha="center", va="bottom", fontsize=8.5, color=INK)
    if real is not None:
        height = _scaled(found, real, ends)
        axes.plot([place], [height], "d", color="white", markeredgecolor=INK, zorder=6)


def _and_below(numbers: Sequence[str]) -> str:
    return "\n".join(f"\N{DOWNWARDS ARROW} {text}" for text in numbers)


def _variant(rungs: Sequence[Rung], rung: Rung) -> int:
    """Return which of its family a rung is; the first is the plain recipe."""
    return [other.name for other in rungs if other.family == rung.family].index(rung.name)


def _label(axes: Axes, place: int, ends: tuple[float, float], rung: Rung, variant: int) -> None:
    """Write the name of a rung beside the last axis, and lead there from the end of its line."""
    axes.plot(
        [place + 0.05, place + 0.24],
        ends,
        color=rung.color,
        linewidth=0.6,
        marker=_MARKERS[variant % len(_MARKERS)],
        markersize=4,
        markevery=[1],
    )
    weight = "normal" if variant else "bold"
    axes.text(
        place + 0.31,
        ends[1],
        rung.name,
        color=rung.color,
        va="center",
        fontsize=8.5,
        fontweight=weight,
    )


def _draw_line(axes: Axes, heights: np.ndarray, rung: Rung, variant: int) -> None:
    known = np.flatnonzero(~np.isnan(heights))
    width, opacity = (2.2, 1.0) if not variant else (1.0, 0.75)
    for start, end in pairwise(known.tolist()):
        axes.plot(
            [start, end],
            heights[[start, end]],
            color=rung.color,
            linewidth=width if end == start + 1 else 0.8,
            linestyle="-" if end == start + 1 else ":",
            alpha=opacity,
            zorder=4 if not variant else 3,
        )
    axes.plot(
        known,
        heights[known],
        linestyle="",
        marker=_MARKERS[variant % len(_MARKERS)],
        markersize=5 if not variant else 4,
        color=rung.color,
        zorder=5,
    )
