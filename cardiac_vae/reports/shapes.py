"""The sections about models and data: what the shape models know, how they were fitted, on whom."""

from collections.abc import Mapping, Sequence

from cardiac_vae.reports import figures, ladder, parallel
from cardiac_vae.reports.html import Section, figure, heading, paragraph
from cardiac_vae.reports.inputs import RecipeResults, Study
from cardiac_vae.reports.rungs import Rung
from cardiac_vae.reports.sitting import Picture
from cardiac_vae.reports.tables import NO_VALUE, number, plain_table


def shape_models(rungs: Sequence[Rung], pictures: Mapping[str, Sequence[Picture]]) -> Section:
    """Return the scores of each shape model, and the figures of those that have any."""
    first = rungs[0].scores
    rates = {rung.name: rung.scores["kl_per_group"] for rung in rungs}
    rates = {name: groups for name, groups in rates.items() if groups}
    parts = [
        paragraph(
            f"Scored on {first['num_slices']} held-out expert slices of {first['num_patients']} "
            f"patients ({first['num_empty_slices']} empty ones left out). Nats per slice; rate + "
            "reconstruction = negative ELBO, lower is better; models without a KL have no bound, "
            "and those without a prior no samples. A latent scalar is active if its posterior mean "
            "varies over the slices by more than 0.01 (variance)."
        ),
        *ladder.tables(rungs),
        *parallel.view(rungs),
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
    for rung in rungs:
        if rung.name in pictures:
            parts.append(heading(rung.name))
            parts += [figure(p.png, p.title, p.caption) for p in pictures[rung.name]]
    return Section("shapes", "Shape models", parts)


def training(study: Study) -> Section:
    """Return how long each model was fitted, and its curves where they were kept.

    A training report may hold ``history``: what was logged -> points (step, value).
    """
    fitted = {recipe.name: recipe.training for recipe in study.recipes}
    fitted[f"segmenter {study.segmenter}"] = study.segmenter_training
    fitted["corrector"] = study.corrector_training
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
                "What each model logged, by optimizer step; losses of shape models and of the "
                "corrector in nats per slice.",
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
                "Over all refined cases, those of the validation patients included. A mask in "
                "which nothing is wrong comes back untouched."
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
