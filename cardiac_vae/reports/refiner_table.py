"""The section that compares ways to refine: a table per segmenter, a row per way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from cardiac_vae.evaluation.patients import MEASUREMENTS
from cardiac_vae.reports.html import Section, bullets, details, heading, paragraph
from cardiac_vae.reports.masks import SHORT_NAMES, agreement_text
from cardiac_vae.reports.tables import (
    NO_VALUE,
    Cell,
    Line,
    limits,
    number,
    plain_table,
    stacked_table,
    verdict,
)

_SEGMENTER = "segmenter"
_KINDS = {
    _SEGMENTER: "segmenter as it is",
    "baseline": "largest component, holes filled",
    "nearest_drawn": "nearest drawn heart",
}
_SEARCH = "random_search_"

Scores = Mapping[str, Any]


@dataclass(frozen=True)
class _Column:
    """A metric; below it stands its paired difference, or another metric that goes with it."""

    metric: str
    difference: str
    title: str
    unit: str
    digits: int
    difference_digits: int = 1
    scale: float = 1.0
    below: str = ""
    is_lower_better: bool = False


_COLUMNS = (
    _Column("dice_mean", "dice_points", "Dice", "change in points", 3, 2),
    _Column("hd95_mm_mean", "hd95_percent", "HD95", "mm, change in %", 1, is_lower_better=True),
    _Column("valid_volumes", "valid_volumes", "Valid", "%", 1, 1, 100, "valid_slices"),
    _Column(
        "presence_errors_total",
        "presence_errors_total",
        "Presence errors",
        "per volume",
        2,
        2,
        is_lower_better=True,
    ),
)


def refiners(found: Mapping[str, Scores]) -> Section:
    """Return a table for each segmenter; ``found`` is reports/refiners/<segmenter>.json by name."""
    if not found:
        return Section("refiners", "Refiners compared", [])
    parts = [
        paragraph(
            "Every way to refine on the same scans. Below a figure is its paired difference from "
            "the segmenter as it is, with the 95 % interval over patients; of the segmenter, the "
            "interval of the figure itself. Bold: the best of a column, if the interval of its "
            "difference excludes zero. Valid: the share of volumes whose slices all keep the "
            "criteria, and below that of slices. Presence errors: slices in which a structure is "
            "drawn and should not be, or the reverse. Worst volume: the largest loss of Dice of "
            "any volume, in points. Time: of refining a scan."
        )
    ]
    for segmenter, scores in found.items():
        parts += _of_segmenter(segmenter, scores)
    return Section("refiners", "Refiners compared", parts)


def _of_segmenter(segmenter: str, scores: Scores) -> list[str]:
    by_scans: Mapping[str, Scores] = scores["scans"]
    first = next(iter(by_scans.values()))
    heads = {f"{scans.capitalize()} scans": _head() for scans in by_scans}
    heads[""] = [("Time", "s")]
    halves = [_cells_by_variant(of_scans["variants"]) for of_scans in by_scans.values()]
    bodies = [
        [
            Line(
                _label(variant), [*(cell for half in halves for cell in half[name]), _time(variant)]
            )
            for name, variant in body
        ]
        for _, body in groupby(first["variants"].items(), key=lambda item: _body_of(item[1]))
    ]
    return [
        heading(f"Segmenter: {segmenter}"),
        paragraph(
            f"{first['num_cases']} volumes of {first['num_patients']} patients "
            f"({scores['split']}).",
            "note",
        ),
        stacked_table(heads, bodies),
        bullets([f"Left out: {name} ({reason})." for name, reason in scores["left_out"].items()])
        if scores["left_out"]
        else "",
        details(
            f"Volumes, ejection fractions and mass, {segmenter}",
            [_agreement_table(scans, of_scans) for scans, of_scans in by_scans.items()],
        ),
    ]


def _head() -> list[tuple[str, str]]:
    metrics = [(column.title, column.unit) for column in _COLUMNS]
    return [*metrics, ("Worst volume", "points")]


def _body_of(variant: Scores) -> str:
    """Return what rows that stand together share: baselines, or the modes of one model."""
    kind = variant["kind"]
    return "" if kind in _KINDS or kind.startswith(_SEARCH) else variant["model"]


def _label(variant: Scores) -> str:
    kind = variant["kind"]
    if kind.startswith(_SEARCH):
        count = kind.removeprefix(_SEARCH)
        kind = f"random search, {count} decoding{'s' if count != '1' else ''}"
    else:
        kind = _KINDS.get(kind, kind)
    return f"{variant['model']}: {kind}" if variant["model"] else kind.capitalize()


def _cells_by_variant(variants: Mapping[str, Scores]) -> dict[str, list[Cell]]:
    best = {column.metric: _best(variants, column) for column in _COLUMNS}
    return {
        name: [
            *(_cell(scores, column, name in best[column.metric]) for column in _COLUMNS),
            _worst(scores["worst_change"]),
        ]
        for name, scores in variants.items()
    }


def _best(variants: Mapping[str, Scores], column: _Column) -> set[str]:
    """Return the variants with the best mean of a column that beat the segmenter, if any."""
    means = {
        name: scores["metrics"][column.metric]["mean"]
        for name, scores in variants.items()
        if scores["metrics"][column.metric]
    }
    if not means:
        return set()
    best = (min if column.is_lower_better else max)(means.values())
    return {
        name
        for name, mean in means.items()
        if mean == best
        and verdict(variants[name]["differences"].get(column.difference), column.is_lower_better)
        == 1
    }


def _cell(scores: Scores, column: _Column, is_best: bool) -> Cell:
    found = scores["metrics"][column.metric]
    if not found:
        return Cell(NO_VALUE)
    text = number(found["mean"], column.digits, column.scale)
    if column.below:
        other = scores["metrics"][column.below]
        return Cell(text, number(other["mean"], column.digits, column.scale), is_best)
    change = scores["differences"].get(column.difference)
    if not change:
        return Cell(text, limits(found, column.digits, column.scale))
    digits = column.difference_digits
    below = f"{number(change['mean'], digits, sign=True)} {limits(change, digits)}"
    return Cell(text, below, is_best)


def _worst(change: Scores | None) -> Cell:
    return Cell(number(change["points"], 1, sign=True) if change else NO_VALUE)


def _time(scores: Scores) -> Cell:
    return Cell(number(scores["seconds_per_scan"], 1))


def _agreement_table(scans: str, of_scans: Scores) -> str:
    head = [f"{scans.capitalize()} scans"]
    head += [f"{SHORT_NAMES[name]} ({unit})" for name, unit in MEASUREMENTS.items()]
    lines: Sequence[Sequence[str]] = [
        [
            _label(variant),
            *(
                agreement_text(variant["agreement"][name])
                if name in variant["agreement"]
                else NO_VALUE
                for name in MEASUREMENTS
            ),
        ]
        for variant in of_scans["variants"].values()
    ]
    return plain_table(head, lines)
