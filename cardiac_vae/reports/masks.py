"""The sections about masks: structures, anatomy, single cases, clinical measurements."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cardiac_vae.anatomy.criteria import CRITERIA
from cardiac_vae.evaluation.patients import MEASUREMENTS
from cardiac_vae.evaluation.scores import CaseScores
from cardiac_vae.labels import HEART
from cardiac_vae.reports import figures, pictures
from cardiac_vae.reports.headline import variant_rows
from cardiac_vae.reports.html import Section, figure, heading, paragraph
from cardiac_vae.reports.inputs import RecipeResults, Study
from cardiac_vae.reports.style import NAMES
from cardiac_vae.reports.tables import Column, Group, metric_table, number, plain_table

_PRESENCE = {
    "presence_errors": "spurious or missed slices",
    "spurious_slices": "spurious slices",
    "missed_slices": "missed slices",
}
_BY_CHANGE = ("Most improved", "Median change", "Least improved")
_BY_DICE = ("Best", "Median", "Worst")


def structures(recipes: Sequence[RecipeResults]) -> Section:
    """Return the scores per structure and phase, and the change of each case."""
    parts = []
    for scans in recipes[0].summary["scans"]:
        parts.append(heading(f"{scans.capitalize()} scans"))
        parts.append(
            metric_table(
                [
                    Group(
                        NAMES[structure],
                        variant_rows(recipes, scans),
                        _phase_columns(structure.name.lower()),
                    )
                    for structure in HEART
                ]
            )
        )
    for recipe in recipes:
        parts.append(
            figure(
                figures.before_after(recipe.rows),
                f"Dice of every case before and after refinement, {recipe.name}",
                "One dot per case (patient and phase); the stem shows how far it moved from the "
                "line of no change. Above the line the refined mask is closer to the expert.",
            )
        )
    return Section("structures", "Structure by structure", [*parts, *_presence(recipes)])


def _phase_columns(structure: str) -> list[Column]:
    kinds = (("dice", "Dice", "", 3), ("hd95_mm", "HD95", "mm", 1))
    columns = [
        Column(
            f"{metric}_{structure}_{phase}",
            f"{title} {phase.upper()}",
            unit,
            digits,
            is_lower_better=metric != "dice",
        )
        for metric, title, unit, digits in kinds
        for phase in ("ed", "es")
    ]
    assd = Column(f"assd_mm_{structure}", "ASSD", "mm, both phases", 2, is_lower_better=True)
    return [*columns, assd]


def _presence(recipes: Sequence[RecipeResults]) -> list[str]:
    """Return a table of the slices in which a structure is there in one mask only."""
    return [
        heading("Slices in which a structure is drawn"),
        paragraph(
            "Of each volume, the slices where the mask has a structure and the expert drew none "
            "(spurious), and the reverse (missed). In the total a slice counts once for each "
            "structure."
        ),
        metric_table(
            [
                Group(
                    f"{scans.capitalize()} scans, {title}",
                    variant_rows(recipes, scans),
                    _presence_columns(metric),
                )
                for scans in recipes[0].summary["scans"]
                for metric, title in _PRESENCE.items()
            ]
        ),
    ]


def _presence_columns(metric: str) -> list[Column]:
    titles = {"total": "Total"} | {s.name.lower(): NAMES[s] for s in HEART}
    return [
        Column(f"{metric}_{name}", title, "per volume", 2, is_lower_better=True)
        for name, title in titles.items()
    ]


def anatomy(recipes: Sequence[RecipeResults]) -> Section:
    """Return the criteria: three ways to count, and which are broken."""
    columns = (
        Column("valid_slices", "Valid slices", "% of all", 1, 100),
        Column("valid_slices_not_empty", "Not empty", "% of those drawn", 1, 100),
        Column("valid_volumes", "Valid volumes", "below, in %", 1, 100),
    )
    parts = [
        paragraph(
            "A slice is valid if it breaks none of the 16 criteria. An empty slice breaks none, "
            "so the share is also given with the empty slices left out."
        ),
        metric_table(
            [
                Group(f"{scans.capitalize()} scans", variant_rows(recipes, scans), columns)
                for scans in recipes[0].summary["scans"]
            ]
        ),
    ]
    for recipe in recipes:
        parts.append(
            figure(
                figures.validity(recipe.rows),
                f"What is wrong with the slices, {recipe.name}",
                "Number of slices that break each criterion; a slice may break several. No bar: "
                f"none. {len(CRITERIA)} criteria of Painchaud et al. (2020).",
            )
        )
    return Section("anatomy", "Anatomical validity", parts)


def single_cases(study: Study) -> Section:
    """Return pictures of the best, median and worst cases of each recipe and kind of scans."""
    parts = []
    for recipe in study.recipes:
        for scans, by_variant in recipe.rows.items():
            chosen = [
                study.picture(recipe.name, scans, case_id, title)
                for title, case_id in choose_cases(by_variant["segmenter"], by_variant["refined"])
            ]
            parts.append(
                figure(
                    pictures.cases(chosen),
                    f"Best, median and worst cases, {recipe.name}, {scans} scans",
                    "Left block: by the change of mean Dice. Right block: by the refined mask's "
                    f"mean Dice. Of {len(by_variant['refined'])} cases; each with the slice that "
                    "refinement changed most, or, where it changed none, the one farthest from "
                    "the expert. Zoomed on the heart.",
                )
            )
    return Section("cases", "Cases", parts)


def choose_cases(
    before: Sequence[CaseScores], after: Sequence[CaseScores]
) -> list[tuple[str, str]]:
    """Return titles and case ids of six cases, alternating between change and refined Dice.

    Cases with no structure at all are left out; with fewer than six, some appear twice.
    """
    earlier = {row.case_id: row.mean_dice for row in before}
    later = {row.case_id: row.mean_dice for row in after}
    known = [case for case in sorted(later) if np.isfinite(earlier[case] + later[case])]
    by_change = sorted(known, key=lambda case: earlier[case] - later[case])
    by_dice = sorted(known, key=lambda case: -later[case])
    chosen = []
    for rank, titles in enumerate(zip(_BY_CHANGE, _BY_DICE, strict=True)):
        for title, ranked in zip(titles, (by_change, by_dice), strict=True):
            if ranked:
                case = ranked[rank * (len(ranked) - 1) // 2]
                ends = f"{earlier[case]:.3f} \N{RIGHTWARDS ARROW} {later[case]:.3f}"
                chosen.append((f"{title}: {case}, Dice {ends}", case))
    return chosen


def clinical(recipes: Sequence[RecipeResults]) -> Section:
    """Return errors and agreement of volumes, ejection fractions and mass."""
    columns = [
        Column(f"abs_error_{name}", SHORT_NAMES[name], unit, 1, is_lower_better=True)
        for name, unit in MEASUREMENTS.items()
    ]
    parts = [
        paragraph(
            "Volumes, ejection fractions (EF) and myocardial mass of each patient, from both "
            "phases, against the expert's masks. First the absolute error, then the agreement."
        ),
        metric_table(
            [
                Group(
                    f"{scans.capitalize()} scans, absolute error per patient",
                    variant_rows(recipes, scans),
                    columns,
                )
                for scans in recipes[0].summary["scans"]
            ]
        ),
        heading("Agreement with the expert"),
        plain_table(
            ("", "Scans", "Segmenter", *(f"Refined, {recipe.name}" for recipe in recipes), "n"),
            _agreement_lines(recipes),
            num_labels=2,
        ),
        paragraph(
            "Bias (mean of predicted minus expert) with the 95 % limits of agreement; r: "
            "Pearson's correlation; n: patients. EF in % points.",
            "note",
        ),
    ]
    for recipe in recipes:
        for scans, by_variant in recipe.rows.items():
            parts.append(
                figure(
                    figures.bland_altman(by_variant),
                    f"Agreement with the expert, {recipe.name}, {scans} scans",
                    "Bland-Altman plots, one dot per patient: error (predicted minus expert) "
                    "against the mean of both. Solid line: bias; dashed: 95 % limits of agreement "
                    "1.96 SD to either side.",
                )
            )
    return Section("clinical", "Clinical measurements", parts)


SHORT_NAMES = {
    "lv_ef_percent": "LV EF",
    "rv_ef_percent": "RV EF",
    "lv_edv_ml": "LV EDV",
    "lv_esv_ml": "LV ESV",
    "rv_edv_ml": "RV EDV",
    "rv_esv_ml": "RV ESV",
    "mass_g": "LV mass",
}


def _agreement_lines(recipes: Sequence[RecipeResults]) -> list[list[str]]:
    lines = []
    for name, unit in MEASUREMENTS.items():
        for scans, shared in recipes[0].summary["scans"].items():
            refined = [recipe.summary["scans"][scans]["variants"]["refined"] for recipe in recipes]
            found = [
                values["agreement"].get(name)
                for values in (shared["variants"]["segmenter"], *refined)
            ]
            if found[0]:
                cells = [agreement_text(values) for values in found]
                lines.append([f"{SHORT_NAMES[name]} ({unit})", scans, *cells, str(found[0]["n"])])
    return lines


def agreement_text(found: Mapping[str, Any]) -> str:
    """Return bias, limits of agreement and correlation as text."""
    ends = f"[{number(found['lower'], 1)}, {number(found['upper'], 1)}]"
    correlation = number(found["correlation"], 3)
    return f"{number(found['bias'], 1, sign=True)} {ends}, r {correlation}"
