"""The section about densities over codes: what each makes of what a model draws."""

from collections.abc import Mapping, Sequence
from typing import Any

from cardiac_vae.reports.html import Section, paragraph
from cardiac_vae.reports.inputs import RecipeResults
from cardiac_vae.reports.tables import NO_VALUE, Cell, Line, limits, number, stacked_table

NAMES = {
    "prior": "its own prior",
    "mixture": "Bayesian mixture",
    "gaussian": "one normal",
    "kernels": "kernels at all codes",
    "vampprior": "VampPrior",
}


def densities(recipes: Sequence[RecipeResults]) -> Section:
    """Return the densities of each recipe that has any, its prior first."""
    bodies = [_lines(recipe) for recipe in recipes if recipe.densities.get("densities")]
    if not bodies:
        return Section("densities", "Densities over codes", [])
    scored = next(recipe.densities for recipe in recipes if recipe.densities.get("densities"))
    passes = len(next(iter(scored["densities"].values()))["valid_samples"]) - 1
    is_rejected = any("rejection" in scores for scores in scored["densities"].values())
    heads = {
        "Valid samples (%)": [
            ("as drawn", ""),
            *((f"after pass {count}", "") for count in range(1, passes + 1)),
        ],
        "After the last pass": [("Frechet", ""), ("Coverage", "%")],
        "Held-out hearts": [("Gain", "nats")],
    }
    if is_rejected:
        heads["Drawn until it is a heart"] = [
            ("Valid", "%"),
            ("Tries per heart", ""),
            ("Frechet", ""),
            ("Coverage", "%"),
        ]
    return Section(
        "densities",
        "Densities over codes",
        [
            paragraph(
                "What a model draws is a heart more often if codes come from a density fitted to "
                "the codes of training hearts, and if the model then looks again at what it drew: "
                "a pass takes the sample for a broken mask, draws a code of the heart behind it "
                "and decodes that. Gain is how "
                "much the bound of held-out hearts rises with the density in the place of the "
                "prior."
            ),
            stacked_table(heads, bodies),
        ],
    )


def _lines(recipe: RecipeResults) -> list[Line]:
    found: Mapping[str, Any] = recipe.densities["densities"]
    return [
        Line(f"{recipe.name}: {NAMES.get(kind, kind)}", _cells(scores))
        for kind, scores in found.items()
    ]


def _cells(scores: Mapping[str, Any]) -> list[Cell]:
    return [
        *(_cell(share, 1, 100) for share in scores["valid_samples"]),
        _cell(scores["frechet"], 2),
        _cell(scores["coverage"], 1, 100),
        _cell(scores["nats_gained"], 1),
        *(_of_rejection(scores["rejection"]) if "rejection" in scores else ()),
    ]


def _of_rejection(scores: Mapping[str, Any]) -> list[Cell]:
    return [
        _cell(scores["valid_samples"], 1, 100),
        Cell(number(scores["tries_per_heart"], 1)),
        _cell(scores["frechet"], 2),
        _cell(scores["coverage"], 1, 100),
    ]


def _cell(values: Mapping[str, Any] | None, digits: int, scale: float = 1.0) -> Cell:
    if not values:
        return Cell(NO_VALUE)
    return Cell(number(values["mean"], digits, scale), limits(values, digits, scale))
