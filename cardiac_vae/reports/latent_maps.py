"""Figure of codes as points of a plane, colored by what is known of the slices."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cardiac_vae.data.conditions import ACDC_GROUPS, Condition
from cardiac_vae.labels import Phase
from cardiac_vae.reports.style import BETTER, INK, MUTED, SAME, WORSE, styled

# Those of the palette that stand for no structure, and a shape each, for they are many.
_GROUP_STYLES = (
    (INK, "o"),
    (BETTER, "s"),
    (WORSE, "^"),
    ("#CC79A7", "D"),
    ("#F0E442", "v"),
)
_PHASE_STYLES = {Phase.ED: (BETTER, "o"), Phase.ES: (WORSE, "^")}
_PHASE_NAMES = {Phase.ED: "end-diastole", Phase.ES: "end-systole"}
_UNKNOWN = (SAME, ".")


@styled
def latent_map(
    points: np.ndarray, shares: Sequence[float], conditions: Sequence[Condition]
) -> Figure:
    """Draw points (N, 2) three times, colored by group, phase and position of their slices.

    ``shares`` are those of the variance along the axes.
    """
    figure = Figure(figsize=(9.6, 4.0))
    panels = figure.subplots(1, 3, sharex=True, sharey=True)
    by_group, by_phase, by_position = panels
    middle = (points.max(axis=0) + points.min(axis=0)) / 2
    reach = 1.05 * np.abs(points - middle).max()
    (left, bottom), (right, top) = middle - reach, middle + reach
    groups = [condition.group for condition in conditions]
    _scatter(by_group, points, groups, dict(zip(_in_order(groups), _styles(), strict=False)), {})
    phases = [condition.phase for condition in conditions]
    _scatter(by_phase, points, phases, _PHASE_STYLES, _PHASE_NAMES)
    _along_the_heart(figure, by_position, points, conditions)
    for axes, title in zip(panels, ("group", "phase", "slice position"), strict=True):
        axes.set_title(title)
        axes.set_xlabel(f"component 1 ({100 * shares[0]:.0f} %)")
        axes.grid(visible=True)
        axes.set_aspect("equal", anchor="N")
        axes.set(xlim=(left, right), ylim=(bottom, top))
    by_group.set_ylabel(f"component 2 ({100 * shares[1]:.0f} %)")
    return figure


def _in_order(groups: Sequence[str]) -> list[str]:
    """Return the groups there are, those of ACDC in their usual order first; "" is none."""
    found = set(groups) - {""}
    return [*(g for g in ACDC_GROUPS if g in found), *sorted(found - set(ACDC_GROUPS))]


def _styles() -> Iterator[tuple[str, str]]:
    return cycle(_GROUP_STYLES)


def _scatter(
    axes: Axes,
    points: np.ndarray,
    kinds: Sequence[str],
    styles: Mapping[Any, tuple[str, str]],
    names: Mapping[Any, str],
) -> None:
    """Draw the points of each kind in its style, those of none in gray below."""
    of_kind = np.array(kinds)
    for kind, (color, marker) in {"": _UNKNOWN, **styles}.items():
        chosen = points[of_kind == kind]
        if len(chosen):
            axes.scatter(
                chosen[:, 0],
                chosen[:, 1],
                s=14,
                c=color,
                marker=marker,
                edgecolors="white" if kind else "none",
                linewidths=0.3,
                label=names.get(kind, kind) or "unknown",
            )
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.17),
        ncols=5,
        fontsize=7.5,
        handletextpad=0.1,
        columnspacing=0.8,
    )


def _along_the_heart(
    figure: Figure, axes: Axes, points: np.ndarray, conditions: Sequence[Condition]
) -> None:
    positions = np.array([np.nan if c.position is None else c.position for c in conditions])
    known = ~np.isnan(positions)
    axes.scatter(points[~known, 0], points[~known, 1], s=14, c=SAME, marker=".")
    shown = axes.scatter(
        points[known, 0],
        points[known, 1],
        s=14,
        c=positions[known],
        cmap="viridis",
        vmin=0,
        vmax=1,
        edgecolors="white",
        linewidths=0.3,
    )
    below = axes.inset_axes((0.1, -0.19, 0.8, 0.03))  # where the other panels have their legend
    bar = figure.colorbar(shown, cax=below, orientation="horizontal")
    bar.set_ticks([0, 0.5, 1], labels=["base", "middle", "apex"], fontsize=7.5)
    bar.outline.set_edgecolor(MUTED)
