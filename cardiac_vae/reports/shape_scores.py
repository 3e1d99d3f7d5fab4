"""What is measured of a shape model, as lines of a table, and the numbers behind them.

A measure is found in the scores of a recipe by its path, which is also its name in MLflow: the run
of the evaluation has it as ``shape_model/<path>/mean``, the ends of its interval as ``/low`` and
``/high``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cardiac_vae.reports.html import paragraph
from cardiac_vae.reports.tables import interval, number

Scores = Mapping[str, Any]


@dataclass(frozen=True)
class Measure:
    """One number of a shape model.

    Attributes:
        path: Where the scores have it.
        title: What the reader sees.
        unit: The same, empty if there is none.
        digits: After the decimal point.
        scale: Factor from the stored number to the unit shown.
        better: 1 if higher is better, -1 if lower is, 0 if neither.
        real: Where the scores have the same of real masks; empty if it has no such.
        is_log: Whether ratios count rather than differences.
    """

    path: str
    title: str
    unit: str = ""
    digits: int = 1
    scale: float = 1.0
    better: int = 0
    real: str = ""
    is_log: bool = False

    def of(self, scores: Scores) -> Mapping[str, Any] | None:
        """Return mean, low and high; a plain number has no ends, and what is lacking is None."""
        return _found(scores, self.path)

    def of_real(self, scores: Scores) -> Mapping[str, Any] | None:
        """Return the same of real masks."""
        return _found(scores, self.real) if self.real else None

    def text(self, scores: Scores) -> str:
        """Return mean and interval as text; a dash where the model has none."""
        values = self.of(scores)
        if values and "low" not in values:
            return number(values["mean"], self.digits, self.scale)
        return interval(values, self.digits, self.scale)

    @property
    def heading(self) -> str:
        """Title and unit in one line."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


def _found(scores: Scores, path: str) -> Mapping[str, Any] | None:
    values: Any = scores
    for key in path.split("/"):
        values = (values or {}).get(key)
    if values is None or isinstance(values, Mapping):
        return values or None
    return {"mean": values}


_VALID = "metrics/valid_references"
_DRAWN = "generation/metrics/"

MEASURES: Mapping[str, Sequence[Measure]] = {
    "Reconstruction": (
        Measure("metrics/dice_mean", "Dice, slice by slice", "", 3, better=1),
        Measure("metrics/dice_rv", "Dice, RV", "", 3, better=1),
        Measure("metrics/dice_myo", "Dice, MYO", "", 3, better=1),
        Measure("metrics/dice_lv", "Dice, LV", "", 3, better=1),
        Measure("metrics/volume_dice_mean", "Dice, whole volumes", "", 3, better=1),
        Measure("metrics/valid_reconstructions", "Valid reconstructions", "%", 1, 100, 1, _VALID),
        Measure(_VALID, "Valid expert slices", "%", 1, 100),
        Measure(f"{_DRAWN}generalization_mm", "Generalization", "mm", 2, better=-1),
        Measure("generation/generalization_median_mm", "Generalization, median", "mm", 2),
    ),
    "Bound and likelihood": (
        Measure("metrics/negative_elbo", "Negative ELBO", "nats", better=-1),
        Measure("metrics/rate", "Rate, KL", "nats"),
        Measure("metrics/reconstruction", "Reconstruction", "nats"),
        Measure(
            "likelihood/metrics/negative_log_likelihood",
            "Negative log-likelihood",
            "nats",
            better=-1,
        ),
        Measure(
            "likelihood/metrics/negative_elbo",
            "Negative ELBO of the same slices",
            "nats",
            better=-1,
        ),
        Measure("likelihood/metrics/bits_per_dimension", "Bits per dimension", "", 4, better=-1),
        Measure("likelihood/metrics/effective_draws", "Effective draws"),
        Measure("latent_scalars", "Latent scalars", "", 0),
        Measure("active_units", "Active latent scalars", "", 0),
    ),
    "Drawn from the prior": (
        Measure(
            "metrics/valid_samples_at_1", "Valid samples at temperature 1", "%", 1, 100, 1, _VALID
        ),
        Measure(
            "metrics/valid_samples_at_0.6",
            "Valid samples at temperature 0.6",
            "%",
            1,
            100,
            1,
            _VALID,
        ),
        Measure(
            f"{_DRAWN}frechet",
            "Fréchet distance",
            "",
            2,
            better=-1,
            real=f"{_DRAWN}real_frechet",
            is_log=True,
        ),
        Measure(f"{_DRAWN}real_frechet", "Fréchet distance of real halves", "", 2),
        Measure(
            f"{_DRAWN}coverage", "Coverage", "%", 1, 100, better=1, real=f"{_DRAWN}real_coverage"
        ),
        Measure(f"{_DRAWN}real_coverage", "Coverage by training slices", "%", 1, 100),
        Measure(f"{_DRAWN}density", "Density", "", 2, real=f"{_DRAWN}real_density"),
        Measure(f"{_DRAWN}real_density", "Density of training slices", "", 2),
        Measure(
            f"{_DRAWN}specificity_mm",
            "Specificity",
            "mm",
            2,
            better=-1,
            real=f"{_DRAWN}real_specificity_mm",
        ),
        Measure(f"{_DRAWN}real_specificity_mm", "Specificity of unseen real slices", "mm", 2),
        Measure(
            "generation/modes",
            "Modes with 90 % of the variance",
            "",
            0,
            real="generation/real_modes",
        ),
        Measure("generation/real_modes", "The same of training slices", "", 0),
    ),
    "Disentanglement": (
        Measure("disentanglement/mig", "MIG", "", 3, better=1),
        Measure("disentanglement/sap", "SAP", "", 3, better=1),
        Measure("disentanglement/dci/disentanglement", "DCI, disentanglement", "", 2, better=1),
        Measure("disentanglement/dci/completeness", "DCI, completeness", "", 2, better=1),
        Measure("disentanglement/dci/informativeness", "DCI, informativeness", "", 2, better=1),
        Measure("disentanglement/total_correlation", "Total correlation", "nats", 2),
    ),
}


def measure(path: str, **changes: Any) -> Measure:
    """Return the measure at a path, with other fields where a table has less room.

    Raises:
        ValueError: if there is none.
    """
    for group in MEASURES.values():
        for found in group:
            if found.path == path:
                return replace(found, **changes)
    raise ValueError(f"path: expected that of a measure, got {path!r}")


def known(measures: Sequence[Measure], scores: Sequence[Scores]) -> list[Measure]:
    """Return the measures that some model has."""
    return [measure for measure in measures if any(measure.of(found) for found in scores)]


def notes(scores: Sequence[Scores]) -> list[str]:
    """Return a paragraph for each part that some model has, with the numbers behind its lines."""
    texts = {"likelihood": _likelihood, "generation": _generation, "disentanglement": _codes}
    parts = []
    for name, text in texts.items():
        having = [found[name] for found in scores if found.get(name)]
        if having:
            fullest = max(having, key=len)
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
