"""All figures of one shape model, from held-out slices: drawn here, shown and logged elsewhere."""

import torch

from cardiac_vae.data.conditions import Condition, encode_conditions
from cardiac_vae.evaluation.decoding import sample_slices
from cardiac_vae.evaluation.reconstruction import HeldOutSlices
from cardiac_vae.labels import Phase
from cardiac_vae.latent_space import encode_cohort
from cardiac_vae.reports import hearts
from cardiac_vae.reports.latent_pictures import interpolations, map_of_codes, traversals
from cardiac_vae.reports.sitting import FRAMED, Picture, Sitting, decided, evenly, sit
from cardiac_vae.shape_model import ShapeModel

_NUM_RECONSTRUCTIONS = 10
_NUM_SAMPLES = 24
_POSITIONS = {"base": 0.0, "1/4": 0.25, "middle": 0.5, "3/4": 0.75, "apex": 1.0}
_LARGEST_COHORT = 256  # slices behind directions and map: more would cost time and tell little


@torch.no_grad()
def pictures_of(name: str, model: ShapeModel, slices: HeldOutSlices) -> list[Picture]:
    """Return the figures of a model in evaluation mode, called ``name`` in their titles.

    What a model cannot do it has no figure of: samples without a prior, hearts on demand without
    conditions, a map if fewer than two scalars of its codes vary.
    """
    sitting = sit(name, model, slices)
    cohort = evenly(len(sitting.masks), _LARGEST_COHORT)
    codes = encode_cohort(model, sitting.one_hot[cohort], sitting.told(cohort))
    return [
        _reconstructions(sitting),
        *_samples(sitting),
        *_on_demand(sitting),
        *interpolations(sitting),
        *traversals(sitting, cohort, codes),
        *map_of_codes(sitting, cohort, codes),
    ]


def _reconstructions(sitting: Sitting) -> Picture:
    chosen = evenly(len(sitting.masks), _NUM_RECONSTRUCTIONS)
    masks = sitting.masks[chosen]
    told = sitting.told(chosen)
    decoded = decided(sitting.model.reconstruct(sitting.one_hot[chosen], condition=told))
    return Picture(
        "reconstructions",
        f"Reconstructions of held-out slices, {sitting.name}",
        f"{len(masks)} expert slices evenly spaced over the test patients, what the model "
        "decodes from their posterior mean, and in color the pixels that differ.",
        hearts.reconstructions(masks, decoded),
    )


def _samples(sitting: Sitting) -> list[Picture]:
    if not sitting.model.has_prior:
        return []
    samples = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for temperature in (1.0, 0.6):
            drawn = sample_slices(
                sitting.model,
                _NUM_SAMPLES,
                temperature,
                batch_size=_NUM_SAMPLES,
                condition=sitting.condition,
            )
            samples[temperature] = sitting.line(f"temperature {temperature:g}", drawn)
    return [
        Picture(
            "samples",
            f"Hearts the model draws by itself, {sitting.name}",
            f"{_NUM_SAMPLES} samples of the prior per temperature, the first ones drawn. {FRAMED}",
            hearts.prior_samples(
                {temperature: line.masks for temperature, line in samples.items()},
                {temperature: line.validity for temperature, line in samples.items()},
            ),
        )
    ]


def _on_demand(sitting: Sitting) -> list[Picture]:
    """Return the figure of a model that looks at conditions; nothing for any other."""
    groups = sitting.model.condition_groups
    if groups is None or not sitting.model.has_prior:
        return []
    lines = {}
    for group in ("", *groups):
        wanted = [Condition(group, p, t) for p in Phase for t in _POSITIONS.values()]
        told = encode_conditions(wanted, groups)
        drawn = decided(sitting.model.sample(len(wanted), 0.0, told))
        lines[group or "any"] = sitting.line(group or "any", drawn)
    columns = {f"end-{word}": list(_POSITIONS) for word in ("diastole", "systole")}
    return [
        Picture(
            "on_demand",
            f"Hearts on demand, {sitting.name}",
            "What the model decodes from the mean of its prior, given group, phase and position; "
            f"in the first line the group is not given. {FRAMED} In the table this model is told "
            "the true condition of every slice, so its bound is one of log p(x | c); its samples "
            "have the conditions of held-out slices.",
            hearts.hearts_on_demand(
                {group: line.masks for group, line in lines.items()},
                {group: line.validity for group, line in lines.items()},
                columns,
            ),
        )
    ]
