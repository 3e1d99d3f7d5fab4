"""Figures of numbers: before and after, validity, agreement, bound, training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from cardiac_vae.anatomy.criteria import CRITERIA
from cardiac_vae.evaluation.patients import MEASUREMENTS, measure_patients
from cardiac_vae.evaluation.scores import CaseScores
from cardiac_vae.evaluation.tables import RowsByVariant
from cardiac_vae.labels import HEART, Structure
from cardiac_vae.metrics.clinical import agreement
from cardiac_vae.reports.style import (
    BETTER,
    INK,
    MUTED,
    NAMES,
    RULE,
    SAME,
    VARIANT_COLORS,
    WORSE,
    add_legend,
    styled,
)
from cardiac_vae.reports.tables import number

RowsByScans = Mapping[str, RowsByVariant]

_SAME_DICE = 0.001
_TITLES = {
    "lv_ef_percent": "LV ejection fraction (%)",
    "rv_ef_percent": "RV ejection fraction (%)",
    "lv_edv_ml": "LV end-diastolic volume (ml)",
    "lv_esv_ml": "LV end-systolic volume (ml)",
    "rv_edv_ml": "RV end-diastolic volume (ml)",
    "rv_esv_ml": "RV end-systolic volume (ml)",
    "mass_g": "LV myocardial mass (g)",
}


@styled
def before_after(rows: RowsByScans) -> Figure:
    """Plot the Dice of each case before and after, a panel per structure and kind of scans."""
    figure = Figure(figsize=(9.6, 2.9 * len(rows)))
    grid = figure.subplots(len(rows), len(HEART), squeeze=False)
    for line, (scans, by_variant) in zip(grid, rows.items(), strict=True):
        for axes, structure in zip(line, HEART, strict=True):
            pairs = _dice_pairs(by_variant, structure)
            _scatter(axes, pairs)
            axes.set_title(f"{NAMES[structure]}, {scans} scans (n = {len(pairs)})")
            axes.title.set_color(INK)
        line[0].set_ylabel("Dice, refined")
    for axes in grid[-1]:
        axes.set_xlabel("Dice, segmenter")
    names = {BETTER: "better", SAME: f"within {_SAME_DICE}", WORSE: "worse"}
    dots = [
        Line2D([], [], marker="o", linestyle="", markersize=5, color=color, label=label)
        for color, label in names.items()
    ]
    add_legend(figure, dots)
    return figure


def _dice_pairs(by_variant: RowsByVariant, structure: Structure) -> np.ndarray:
    """Return the Dice (N, 2) of segmenter and refined; structures that none drew are left out."""
    columns = [
        [row.structures[structure].dice for row in sorted(by_variant[v], key=lambda r: r.case_id)]
        for v in ("segmenter", "refined")
    ]
    pairs = np.array(columns, dtype=float).T
    # Left out by one of the two, as the expert did: full marks for that one (see evaluation).
    pairs = pairs[~np.isnan(pairs).all(axis=1)]
    return np.where(np.isnan(pairs), 1.0, pairs)


def _scatter(axes: Axes, pairs: np.ndarray) -> None:
    lowest = max(0.0, float(np.floor(pairs.min() * 20) / 20) - 0.02) if len(pairs) else 0.0
    axes.plot([lowest, 1], [lowest, 1], color=MUTED, linewidth=0.8, zorder=1)
    change = pairs[:, 1] - pairs[:, 0]
    colors = np.select([change > _SAME_DICE, change < -_SAME_DICE], [BETTER, WORSE], SAME)
    # The stem shows how far each case moved from the line of no change.
    axes.vlines(pairs[:, 0], pairs[:, 0], pairs[:, 1], colors=list(colors), linewidth=1, alpha=0.6)
    axes.scatter(
        pairs[:, 0], pairs[:, 1], s=20, c=list(colors), edgecolors="white", linewidths=0.5, zorder=3
    )
    highest = 1 + 0.02 * (1 - lowest)
    axes.set_xlim(lowest, highest)
    axes.set_ylim(lowest, highest)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_aspect("equal")
    axes.grid(visible=True)


@styled
def validity(rows: RowsByScans) -> Figure:
    """Plot how many slices break each criterion, per variant, a panel per kind of scans."""
    figure = Figure(figsize=(9.6, 6.4))
    panels = figure.subplots(1, len(rows), squeeze=False, sharey=True)[0]
    for axes, (scans, by_variant) in zip(panels, rows.items(), strict=True):
        names = list(next(iter(by_variant.values()))[0].broken)
        height = 0.8 / len(by_variant)
        for offset, (variant, cases) in enumerate(by_variant.items()):
            counts = [sum(row.broken[name] for row in cases) for name in names]
            places = np.arange(len(names)) + (offset - (len(by_variant) - 1) / 2) * height
            axes.barh(places, counts, height, color=VARIANT_COLORS[variant], label=variant)
            for place, count in zip(places, counts, strict=True):
                if count:
                    axes.annotate(
                        str(count),
                        (count, place),
                        (2, 0),
                        textcoords="offset points",
                        va="center",
                        fontsize=6.5,
                        color=MUTED,
                    )
        axes.set_yticks(np.arange(len(names)), [CRITERIA[name].description for name in names])
        axes.grid(visible=True, axis="x")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.margins(x=0.08)
        num_slices = sum(row.num_slices for row in next(iter(by_variant.values())))
        axes.set_title(f"{scans} scans ({num_slices} slices)")
        axes.set_xlabel("slices that break the criterion")
        axes.tick_params(axis="y", length=0)
    panels[0].invert_yaxis()
    add_legend(figure, _variant_lines(list(next(iter(rows.values())))))
    return figure


def _variant_lines(variants: Sequence[str]) -> list[Line2D]:
    return [
        Line2D([], [], color=VARIANT_COLORS[name], linewidth=5, label=name) for name in variants
    ]


@styled
def bland_altman(
    by_variant: RowsByVariant, names: Sequence[str] = ("lv_ef_percent", "lv_edv_ml", "lv_esv_ml")
) -> Figure:
    """Plot error against mean of the two, per patient, before (top) and after (bottom)."""
    variants = ("segmenter", "refined")
    figure = Figure(figsize=(9.6, 5.2))
    grid = figure.subplots(len(variants), len(names), squeeze=False, sharex="col", sharey="col")
    for line, variant in zip(grid, variants, strict=True):
        for axes, name in zip(line, names, strict=True):
            _agreement_panel(axes, by_variant[variant], name, VARIANT_COLORS[variant])
            axes.set_title(f"{variant}: {_TITLES[name].rpartition(' (')[0]}", fontsize=8.5)
        line[0].set_ylabel("predicted \N{MINUS SIGN} expert")
    for axes, name in zip(grid[-1], names, strict=True):
        axes.set_xlabel(f"mean of expert and predicted ({MEASUREMENTS[name]})")
    return figure


def _agreement_panel(axes: Axes, rows: Sequence[CaseScores], name: str, color: str) -> None:
    measured = [patient for patient in measure_patients(rows) if name in patient.reference]
    reference = np.array([patient.reference[name] for patient in measured])
    predicted = np.array([patient.predicted[name] for patient in measured])
    axes.axhline(0, color=RULE, linewidth=0.8)
    axes.scatter(
        (reference + predicted) / 2,
        predicted - reference,
        s=22,
        color=color,
        edgecolors=INK,
        linewidths=0.4,
        zorder=3,
    )
    axes.grid(visible=True, axis="y")
    if len(measured) > 1:
        limits = agreement(reference, predicted)
        for value, style, place in (
            (limits.bias, "-", "center"),
            (limits.lower, "--", "top"),
            (limits.upper, "--", "bottom"),
        ):
            axes.axhline(value, color=INK, linewidth=0.9, linestyle=style)
            axes.annotate(
                number(value, 1, sign=True),
                (1, value),
                (3, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                va=place,
                fontsize=7.5,
                color=INK,
            )


@styled
def kl_per_group(by_recipe: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Plot the KL of each latent group (nats per slice, top first) of each recipe.

    Recipes of one group share the first panel, a bar each; all others have one of their own, on
    one scale. An estimate of the KL may be negative, and is drawn so.
    """
    single = {name: groups[0] for name, groups in by_recipe.items() if len(groups) == 1}
    several = {name: groups for name, groups in by_recipe.items() if len(groups) > 1}
    num_columns = min(4, len(several)) or 1
    num_lines = -(-len(several) // num_columns)
    heights = [2.4] * bool(single) + [2.1 * num_lines] * bool(several)
    figure = Figure(figsize=(9.6, sum(heights)))
    blocks = iter(figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0])
    if single:
        axes = next(blocks).subplots()
        _kl_bars(axes, list(single.values()), list(single))
        axes.set_title("one group")
        axes.set_xlim(-0.8, max(len(single), 8) - 0.2)
        if len(single) > 6:
            axes.tick_params(axis="x", labelrotation=25)
        axes.set_ylabel("KL (nats per slice)")
    if several:
        grid = next(blocks).subplots(num_lines, num_columns, squeeze=False, sharey=True)
        panels = grid.ravel()
        for axes, (recipe, groups) in zip(panels, several.items(), strict=False):
            _kl_bars(axes, groups, [str(index + 1) for index in range(len(groups))])
            axes.set_title(f"{recipe}: {sum(group['mean'] for group in groups):.0f} nats")
        for axes in grid[:, 0]:
            axes.set_ylabel("KL (nats per slice)")
        for axes in panels[max(0, len(several) - num_columns) : len(several)]:
            axes.set_xlabel("latent group")
        for axes in panels[len(several) :]:
            axes.set_visible(False)
    return figure


def _kl_bars(axes: Axes, groups: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    places, means = np.arange(len(groups)), np.array([group["mean"] for group in groups])
    ends = [
        [group["mean"] if group[end] is None else group[end] for end in ("low", "high")]
        for group in groups
    ]
    axes.bar(
        places,
        means,
        0.7,
        color=BETTER,
        yerr=np.abs(np.array(ends) - means[:, None]).T,
        error_kw={"ecolor": INK, "elinewidth": 0.9, "capsize": 2},
    )
    axes.axhline(0, color=MUTED, linewidth=0.7)
    axes.set_xticks(places, list(names))
    axes.grid(visible=True, axis="y")


@styled
def training_curves(histories: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]) -> Figure:
    """Plot what each model logged: model -> name -> points (step, value); one panel per model."""
    num_columns = min(3, len(histories))
    num_lines = -(-len(histories) // num_columns)
    figure = Figure(figsize=(3.2 * num_columns, 2.5 * num_lines))
    panels = figure.subplots(num_lines, num_columns, squeeze=False).ravel()
    colors = (SAME, BETTER, WORSE, "#009E73", "#CC79A7")
    for axes, (model, curves) in zip(panels, histories.items(), strict=False):
        for color, (name, points) in zip(colors, curves.items(), strict=False):
            steps, values = np.array(points, dtype=float).T
            axes.plot(steps, values, color=color, linewidth=1.3, label=name)
        axes.set_title(model)
        axes.set_xlabel("step")
        axes.grid(visible=True)
        axes.legend(fontsize=7.5)
    for axes in panels[len(histories) :]:
        axes.set_visible(False)
    return figure
