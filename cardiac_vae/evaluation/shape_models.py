"""All that is measured of one shape model, from the prepared masks on file."""

from pathlib import Path
from typing import Any

from cardiac_vae.data.phantom_factors import read_factors, slice_factors
from cardiac_vae.data.prepared import read_prepared
from cardiac_vae.evaluation.cohort import EvaluationConfig
from cardiac_vae.evaluation.disentanglement import score_disentanglement
from cardiac_vae.evaluation.generation import score_generation
from cardiac_vae.evaluation.likelihood import score_likelihood
from cardiac_vae.evaluation.reconstruction import held_out_slices, score_reconstruction
from cardiac_vae.shape_model import ShapeModel


def score_shape_model(
    model: ShapeModel, prepared: Path, factors: Path | None, config: EvaluationConfig
) -> dict[str, Any]:
    """Score a model in evaluation mode on the split that is evaluated, as plain values for JSON.

    ``factors`` is the file of the true factors, where the hearts are phantoms.

    Returns what ``score_reconstruction`` does, and under their names ``likelihood``,
    ``generation`` and ``disentanglement``, None where the model or the data have none.

    Raises:
        FileNotFoundError: if the folder is not prepared.
        ValueError: if the split has no heart.
    """
    held_out = held_out_slices(read_prepared(prepared, config.split))
    train = held_out_slices(read_prepared(prepared, "train"))
    scores = score_reconstruction(model, held_out, config.reconstruction)
    disentanglement = None
    if factors is not None:
        every = held_out_slices(read_prepared(prepared))
        truth = slice_factors(read_factors(factors), every.case_ids)
        disentanglement = score_disentanglement(model, every, truth, config.disentanglement)
    return {
        **scores,
        "likelihood": score_likelihood(model, held_out, config.likelihood),
        "generation": score_generation(model, held_out, train, config.generation),
        "disentanglement": disentanglement,
    }
