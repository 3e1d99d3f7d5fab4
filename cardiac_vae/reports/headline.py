"""What the study found, first: findings in words, the key table, and how to read both."""

from collections.abc import Mapping, Sequence
from typing import Any

from cardiac_vae.reports.html import (
    Section,
    bullets,
    definitions,
    details,
    heading,
    paragraph,
    tiles,
)
from cardiac_vae.reports.inputs import RecipeResults
from cardiac_vae.reports.tables import (
    FEW,
    NO_VALUE,
    Column,
    Group,
    Row,
    limits,
    metric_table,
    number,
    verdict,
)

KEY_COLUMNS = (
    Column("dice_mean", "Dice", "mean of RV, MYO, LV"),
    Column("hd95_mm_mean", "HD95", "mm", 1, is_lower_better=True),
    Column("assd_mm_mean", "ASSD", "mm", 2, is_lower_better=True),
    Column("valid_slices", "Valid slices", "%", 1, 100),
    Column("valid_volumes", "Valid volumes", "below, in %", 1, 100),
    Column("missed_and_spurious", "Missed / spurious", "structures"),
)

_GUIDE = {
    "Segmenter": "The masks as the image segmenter drew them, before anything else.",
    "Baseline": "The same masks after the usual clean-up: largest component of each structure, "
    "holes filled. It knows nothing of hearts.",
    "Refined": "The same masks after the shape model of the named recipe.",
    "Clean, corrupted": "The scans as they are, and the same scans with noise, bias field and "
    "ghosting added before segmenting.",
    "Dice": "Overlap with the expert, 0 to 1, higher is better. Per case and structure in 3-D. "
    "Two experts agree to about 0.90-0.98.",
    "HD95, ASSD": "95th percentile and mean of the distance between the surfaces, in mm, lower is "
    "better. A missed or spurious structure counts as the diagonal of its scan, so that leaving "
    "a structure out never pays.",
    "Valid": "Breaking none of 16 anatomical criteria (holes, loose parts, wrong neighbors, "
    "odd outlines). A volume is valid if all its slices are.",
    "Missed, spurious": "Structures the expert drew and the mask lacks, and the reverse; counted "
    "over all cases. Of slices: the same, slice by slice.",
    "[a, b]": "95 % interval, by drawing patients (not slices) anew 2000 times.",
    "\N{BLACK UP-POINTING TRIANGLE} \N{BLACK DOWN-POINTING TRIANGLE}": "Better or worse than the "
    "segmenter on the same cases, with an interval that excludes zero. Without a triangle, the "
    "difference may be chance.",
    "Bold": "The best value of a column, where its difference is more than chance.",
}


def headline(recipes: Sequence[RecipeResults]) -> Section:
    """Return the first section: tiles, findings, key table."""
    best = best_recipe(recipes)
    clean = best.summary["scans"]["clean"]
    return Section(
        "results",
        "Key results",
        [
            paragraph(
                f"Refined with the recipe {best.name}, clean scans, {_size(clean)} of the "
                f"{best.summary['split']} split:"
            ),
            tiles(_tiles(clean)),
            heading("Findings"),
            *_findings(recipes, best),
            heading("Before and after, all recipes"),
            metric_table(
                [
                    Group(
                        f"{scans.capitalize()} scans, {_size(summary)}",
                        variant_rows(recipes, scans),
                        KEY_COLUMNS,
                    )
                    for scans, summary in best.summary["scans"].items()
                ]
            ),
            paragraph(
                "Below each value its 95 % interval over patients, and below that the paired "
                "difference from the segmenter with its own.",
                "note",
            ),
        ],
    )


def reading_guide() -> Section:
    """Return the section that explains the words and marks of the tables."""
    return Section("guide", "How to read this", [definitions(_GUIDE)])


def best_recipe(recipes: Sequence[RecipeResults]) -> RecipeResults:
    """Return the recipe with the most valid volumes on clean scans, then the highest Dice."""

    def rank(recipe: RecipeResults) -> tuple[float, float]:
        metrics = recipe.summary["scans"]["clean"]["variants"]["refined"]["metrics"]
        return metrics["valid_volumes"]["mean"], metrics["dice_mean"]["mean"]

    return max(recipes, key=rank)


def variant_rows(recipes: Sequence[RecipeResults], scans: str) -> list[Row]:
    """Return the segmenter, the baseline, and each recipe's refined masks as rows."""
    shared = recipes[0].summary["scans"][scans]
    rows = [_row("Segmenter", shared, "segmenter"), _row("Baseline", shared, "baseline")]
    return rows + [
        _row(f"Refined, {recipe.name}", recipe.summary["scans"][scans], "refined")
        for recipe in recipes
    ]


def _row(label: str, summary: Mapping[str, Any], variant: str) -> Row:
    values = summary["variants"][variant]
    counts = values["counts"]
    texts = {
        "valid_volumes": f"{counts['valid_volumes']} of {counts['volumes']}",
        "missed_and_spurious": " / ".join(
            str(sum(counts[kind].values())) for kind in ("missed", "spurious")
        ),
    }
    return Row(label, values["metrics"], summary["differences"].get(variant, {}), texts)


def _size(summary: Mapping[str, Any]) -> str:
    return f"{summary['num_cases']} volumes of {summary['num_patients']} patients"


def _tiles(summary: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    before, after = (summary["variants"][name] for name in ("segmenter", "refined"))
    differences = summary["differences"]["refined"]
    entries = [
        (
            "Valid volumes",
            str(before["counts"]["valid_volumes"]),
            str(after["counts"]["valid_volumes"]),
            f"of {after['counts']['volumes']}, every slice plausible",
        )
    ]
    for name, metric, digits in (
        ("Mean Dice", "dice_mean", 3),
        ("HD95 (mm)", "hd95_mm_mean", 1),
        ("LV EF error (% points)", "abs_error_lv_ef_percent", 1),
    ):
        if metric in differences:
            start, end = (number(v["metrics"][metric]["mean"], digits) for v in (before, after))
            change = differences[metric]
            note = f"{number(change['mean'], digits, sign=True)} {limits(change, digits)}"
            entries.append((name, start, end, note))
    return entries


def _signed(difference: Mapping[str, Any] | None, digits: int) -> str:
    if not difference:
        return NO_VALUE
    return f"{number(difference['mean'], digits, sign=True)} {limits(difference, digits)}"


def _findings(recipes: Sequence[RecipeResults], best: RecipeResults) -> list[str]:
    """Return the findings of all recipes; of many those of the best, and the others folded away."""
    if len(recipes) <= FEW:
        return [_bullets(recipes)]
    others = [recipe for recipe in recipes if recipe is not best]
    return [_bullets([best]), details(f"The {len(others)} other recipes", [_bullets(others)])]


def _bullets(recipes: Sequence[RecipeResults]) -> str:
    return bullets(
        [
            _finding(recipe.name, scans, summary)
            for recipe in recipes
            for scans, summary in recipe.summary["scans"].items()
        ]
    )


def _finding(recipe: str, scans: str, summary: Mapping[str, Any]) -> str:
    before, after = (summary["variants"][name] for name in ("segmenter", "refined"))
    differences = summary["differences"]["refined"]
    counts = before["counts"]["valid_volumes"], after["counts"]["valid_volumes"]
    words = {1: "improves", -1: "worsens", 0: "keeps, within chance,"}
    parts = [
        f"{words[verdict(differences.get(metric), is_lower_better)]} {name} (difference "
        f"{_signed(differences.get(metric), digits)}{unit})"
        for name, metric, digits, unit, is_lower_better in (
            ("mean Dice", "dice_mean", 3, "", False),
            ("HD95", "hd95_mm_mean", 1, " mm", True),
        )
    ]
    return (
        f"{scans.capitalize()} scans, {recipe}: {counts[0]} valid volumes become {counts[1]} of "
        f"{after['counts']['volumes']}; refinement {' and '.join(parts)}."
    )
