"""The sections about models and data: what the shape models know, how they were fitted, on whom."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cardiac_vae.data.conditions import Condition, encode_conditions
from cardiac_vae.evaluation.reconstruction import (
    HeldOutSlices,
    is_valid_heart,
    some_conditions,
)
from cardiac_vae.labels import NUM_CLASSES, Phase
from cardiac_vae.reports import figures, ladder, parallel, pictures
from cardiac_vae.reports.html import Section, figure, heading, paragraph
from cardiac_vae.reports.inputs import RecipeResults, Study
from cardiac_vae.reports.rungs import rungs
from cardiac_vae.reports.tables import NO_VALUE, number, plain_table
from cardiac_vae.shape_model import ShapeModel

_NUM_RECONSTRUCTIONS = 10
_NUM_SAMPLES = 24
_POSITIONS = {"base": 0.0, "1/4": 0.25, "middle": 0.5, "3/4": 0.75, "apex": 1.0}


def shape_models(
    recipes: Sequence[RecipeResults], models: Mapping[str, ShapeModel], slices: HeldOutSlices
) -> Section:
    """Return what each shape model makes of held-out slices, and what it draws by itself."""
    ladder_rungs = rungs(recipes, models, slices)
    first = ladder_rungs[0].scores
    rates = {rung.name: rung.scores["kl_per_group"] for rung in ladder_rungs}
    rates = {name: groups for name, groups in rates.items() if groups}
    parts = [
        paragraph(
            f"Scored on {first['num_slices']} held-out expert slices of {first['num_patients']} "
            f"patients ({first['num_empty_slices']} empty ones left out). Nats per slice; rate + "
            "reconstruction = negative ELBO, lower is better; models without a KL have no bound, "
            "and those without a prior no samples. A latent scalar is active if its posterior mean "
            "varies over the slices by more than 0.01 (variance)."
        ),
        *ladder.tables(ladder_rungs),
        *parallel.view(ladder_rungs),
    ]
    if rates:
        parts.append(
            figure(
                figures.kl_per_group(rates),
                "Where the information is",
                "KL of each latent group, coarsest first, mean over held-out slices in nats; "
                "whiskers: 95 % interval over patients.",
            )
        )
    for recipe in recipes:
        if recipe.name in models:
            parts.append(heading(recipe.name))
            parts += _pictures(recipe.name, models[recipe.name], slices)
    return Section("shapes", "Shape models", parts)


@torch.no_grad()
def _pictures(name: str, model: ShapeModel, slices: HeldOutSlices) -> list[str]:
    shown = slices.without_empty()
    condition = shown.condition_for(model)
    num_shown = min(_NUM_RECONSTRUCTIONS, len(shown.masks))
    chosen = np.linspace(0, len(shown.masks) - 1, num_shown).round().astype(int)
    masks = shown.masks[chosen]
    device = next(model.parameters()).device
    one_hot = F.one_hot(torch.from_numpy(masks.astype(np.int64)), NUM_CLASSES).permute(0, 3, 1, 2)
    known = None if condition is None else condition[torch.from_numpy(chosen)]
    decoded = _decided(model.reconstruct(one_hot.float().to(device), condition=known))
    found = figure(
        pictures.reconstructions(masks, decoded),
        f"Reconstructions of held-out slices, {name}",
        f"{len(masks)} expert slices evenly spaced over the test patients, what the model "
        "decodes from their posterior mean, and in color the pixels that differ.",
    )
    if not model.has_prior:
        return [found]
    drawn = _samples(name, model, condition, slices.pixel_mm)
    return [found, drawn, *_on_demand(name, model, slices.pixel_mm)]


def _samples(
    name: str, model: ShapeModel, condition: Tensor | None, pixel_mm: tuple[float, float]
) -> str:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        samples = {
            t: _decided(model.sample(_NUM_SAMPLES, t, some_conditions(condition, _NUM_SAMPLES)))
            for t in (1.0, 0.6)
        }
    validity = {
        temperature: [is_valid_heart(mask, pixel_mm) for mask in masks]
        for temperature, masks in samples.items()
    }
    return figure(
        pictures.prior_samples(samples, validity),
        f"Hearts the model draws by itself, {name}",
        f"{_NUM_SAMPLES} samples of the prior per temperature, the first ones drawn. Framed: "
        "breaks an anatomical criterion, or is empty.",
    )


def _on_demand(name: str, model: ShapeModel, pixel_mm: tuple[float, float]) -> list[str]:
    """Return the figure of a model that looks at conditions; nothing for any other."""
    groups = model.condition_groups
    if groups is None:
        return []
    hearts = {}
    for group in ("", *groups):
        wanted = [Condition(group, p, t) for p in Phase for t in _POSITIONS.values()]
        condition = encode_conditions(wanted, groups)
        hearts[group or "any"] = _decided(model.sample(len(wanted), 0.0, condition))
    validity = {
        group: [is_valid_heart(mask, pixel_mm) for mask in masks] for group, masks in hearts.items()
    }
    columns = {f"end-{word}": list(_POSITIONS) for word in ("diastole", "systole")}
    return [
        figure(
            pictures.hearts_on_demand(hearts, validity, columns),
            f"Hearts on demand, {name}",
            "What the model decodes from the mean of its prior, given group, phase and position; "
            "in the first line the group is not given. Framed: breaks an anatomical criterion, or "
            "is empty. In the table this model is told the true condition of every slice, so its "
            "bound is one of log p(x | c); its samples have the conditions of held-out slices.",
        )
    ]


def _decided(probabilities: Tensor) -> np.ndarray:
    return probabilities.argmax(dim=1).cpu().numpy().astype(np.uint8)


def training(study: Study) -> Section:
    """Return how long each model was fitted, and its curves where they were kept.

    A training report may hold ``history``: what was logged -> points (step, value).
    """
    fitted = {recipe.name: recipe.training for recipe in study.recipes}
    fitted["segmenter"] = study.segmenter
    fitted = {name: values for name, values in fitted.items() if values}
    lines = [
        [
            name,
            str(values.get("steps", NO_VALUE)),
            number(values.get("seconds"), 1, 1 / 60),
            number(values.get("best_value"), 3),
            "yes" if values.get("stopped_early") else "no",
        ]
        for name, values in fitted.items()
    ]
    if not lines:
        return Section("training", "Training", [])
    head = ("Model", "Steps", "Minutes", "Best validation loss", "Stopped early")
    parts = [plain_table(head, lines)]
    histories = {n: values["history"] for n, values in fitted.items() if values.get("history")}
    if histories:
        parts.append(
            figure(
                figures.training_curves(histories),
                "Training",
                "What each model logged, by optimizer step; losses of shape models in nats per "
                "slice.",
            )
        )
    return Section("training", "Training", parts)


def refinement(recipes: Sequence[RecipeResults]) -> Section:
    """Return what the refiner did, slice by slice."""
    lines = []
    for recipe in recipes:
        for scans, found in recipe.refinement.items():
            routes = ", ".join(f"{route} {count}" for route, count in found["routes"].items())
            changed = f"{found['num_changed']} of {found['num_cases']}"
            seconds = number(found.get("seconds_per_scan"), 2)
            lines.append([recipe.name, scans, changed, seconds, routes])
    if not lines:
        return Section("refinement", "What refinement did", [])
    head = ("Recipe", "Scans", "Masks changed", "Seconds per scan", "Slices by what was done")
    return Section(
        "refinement",
        "What refinement did",
        [
            paragraph(
                "Over all refined cases, those of the validation patients included. A mask that "
                "breaks no criterion comes back untouched."
            ),
            plain_table(head, lines, num_labels=2),
        ],
    )


def data(study: Study) -> Section:
    """Return the patients of each split and how well masks survive the prepared grid."""
    found = study.preparation
    splits = found.get("num_patients_by_group", {})
    groups = sorted({group for counts in splits.values() for group in counts})
    lines = [
        [split, *(str(counts.get(group, 0)) for group in groups), str(sum(counts.values()))]
        for split, counts in splits.items()
    ]
    parts = [plain_table(["Patients", *groups, "all"], lines)]
    if "round_trip_dice_mean" in found:
        parts.append(
            paragraph(
                f"{found['num_cases']} cases. Native grid to prepared grid and back keeps a mean "
                f"Dice of {found['round_trip_dice_mean']:.4f} (lowest case "
                f"{found['round_trip_dice_min']:.4f}) and loses {found['lost_parts']} parts of "
                f"structures; {found['hearts_beyond_window']} hearts reach beyond the window."
            )
        )
    tested = ", ".join(study.recipes[0].summary.get("patients", []))
    parts.append(paragraph(f"Scored patients: {tested}.", "note"))
    return Section("data", "Data", parts)
