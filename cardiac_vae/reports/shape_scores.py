"""The lines of the shape models' table beyond the bound: likelihood, generation, disentanglement.

A line is left out where no model has it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cardiac_vae.reports.html import paragraph
from cardiac_vae.reports.tables import NO_VALUE, interval, number

Scores = Mapping[str, Any]
_Cell = Callable[[Scores], str]


def _metric(part: str, name: str, digits: int, scale: float = 1.0) -> _Cell:
    return lambda scores: interval(_part(scores, part).get("metrics", {}).get(name), digits, scale)


def _number(part: str, name: str, digits: int) -> _Cell:
    return lambda scores: number(_part(scores, part).get(name), digits)


def _dci(name: str) -> _Cell:
    return lambda scores: number(_part(scores, "disentanglement").get("dci", {}).get(name), 2)


def _part(scores: Scores, name: str) -> Scores:
    return scores.get(name) or {}


_LINES: Mapping[str, _Cell] = {
    "Negative log-likelihood (nats)": _metric("likelihood", "negative_log_likelihood", 1),
    "Negative ELBO of the same slices (nats)": _metric("likelihood", "negative_elbo", 1),
    "Bits per dimension": _metric("likelihood", "bits_per_dimension", 4),
    "Generalization (mm)": _metric("generation", "generalization_mm", 2),
    "Generalization, median (mm)": _number("generation", "generalization_median_mm", 2),
    "Specificity (mm)": _metric("generation", "specificity_mm", 2),
    "Specificity of unseen real slices (mm)": _metric("generation", "real_specificity_mm", 2),
    "Coverage (%)": _metric("generation", "coverage", 1, 100),
    "Coverage by training slices (%)": _metric("generation", "real_coverage", 1, 100),
    "Density": _metric("generation", "density", 2),
    "Density of training slices": _metric("generation", "real_density", 2),
    "Fréchet distance": _metric("generation", "frechet", 2),
    "Fréchet distance of real halves": _metric("generation", "real_frechet", 2),
    "Modes with 90 % of the variance": _number("generation", "modes", 0),
    "The same of training slices": _number("generation", "real_modes", 0),
    "MIG": _number("disentanglement", "mig", 3),
    "SAP": _number("disentanglement", "sap", 3),
    "DCI, disentanglement": _dci("disentanglement"),
    "DCI, completeness": _dci("completeness"),
    "DCI, informativeness": _dci("informativeness"),
    "Total correlation (nats)": _number("disentanglement", "total_correlation", 2),
}


def lines(scores: Sequence[Scores]) -> list[list[str]]:
    """Return a title and one cell per model for each line that some model has."""
    table = [[title, *(cell(found) for found in scores)] for title, cell in _LINES.items()]
    return [line for line in table if set(line[1:]) != {NO_VALUE}]


def notes(scores: Sequence[Scores]) -> list[str]:
    """Return a paragraph for each part that some model has, with the numbers behind its lines."""
    texts = {"likelihood": _likelihood, "generation": _generation, "disentanglement": _codes}
    parts = []
    for name, text in texts.items():
        known = [_part(found, name) for found in scores if _part(found, name)]
        if known:
            fullest = max(known, key=len)
            parts.append(paragraph(text(fullest), "note"))
    return parts


def _likelihood(found: Scores) -> str:
    return (
        f"Log-likelihood by importance weighting with {found['num_draws']} draws of "
        f"{found['num_slices']} slices of {found['num_patients']} patients: a bound, which more "
        "draws tighten."
    )


def _generation(found: Scores) -> str:
    text = (
        f"Generalization: distance of {found['num_held_out_slices']} held-out slices to their "
        "reconstruction, average symmetric surface distance, mean over structures; one that is "
        "missing or too many costs the diagonal of the slice."
    )
    if "num_samples" not in found:
        return text
    return (
        f"{text} Specificity: distance of {found['num_samples']} samples at temperature "
        f"{found['temperature']:g} to the nearest of {found['num_train_slices']} training slices. "
        f"Coverage: share of held-out slices with a sample among their {found['num_neighbors']} "
        "nearest neighbors. Fréchet distance, in squared standard deviations of 11 lengths in mm: "
        f"of samples to half of the training patients, {found['num_splits']} times, beside that of "
        "the other half to the same; brackets hold 95 % of the halves."
    )


def _codes(found: Scores) -> str:
    return (
        f"Disentanglement: {found['num_slices']} phantom slices of all splits that show all "
        "structures, against their position, the volumes of both ventricles, wall thickness and "
        f"pose; at most {found['num_codes']} active latent scalars."
    )
