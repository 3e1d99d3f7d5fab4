"""All figures of one shape model, from held-out slices: drawn here, shown and logged elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from cardiac_vae.data.conditions import Condition, encode_conditions
from cardiac_vae.data.transforms import one_hot
from cardiac_vae.evaluation.reconstruction import HeldOutSlices, is_valid_heart, some_conditions
from cardiac_vae.labels import HEART, Phase
from cardiac_vae.latent_space import (
    encode_cohort,
    has_map,
    interpolate,
    latent_map,
    leading_directions,
    traverse,
)
from cardiac_vae.reports import hearts, latent_maps
from cardiac_vae.reports.hearts import HeartLine
from cardiac_vae.shape_model import ShapeModel

_NUM_RECONSTRUCTIONS = 10
_NUM_SAMPLES = 24
_POSITIONS = {"base": 0.0, "1/4": 0.25, "middle": 0.5, "3/4": 0.75, "apex": 1.0}
_NUM_PAIRS = 5
_NUM_STEPS = 8
_NUM_DIRECTIONS = 6
_SDS = (-3, -2, -1, 0, 1, 2, 3)
_FRAMED = "Framed: breaks an anatomical criterion, or is empty."
_LARGEST_COHORT = 256  # slices behind directions and map: more would cost time and tell little


@dataclass(frozen=True)
class Picture:
    """One figure of a shape model.

    Attributes:
        name: What it is called among those of its model, fit for a file.
        title: Leads its caption.
        caption: How to read it.
        png: The image.
    """

    name: str
    title: str
    caption: str
    png: bytes = field(repr=False)


@dataclass(frozen=True)
class _Sitting:
    """A model and the slices it is pictured with, none of them empty.

    Attributes:
        masks: (N, H, W) uint8.
        one_hot: (N, C, H, W) the same, as the model reads them.
        condition: (N, K), or None for a model that does not look at it.
        known: What is known of each slice, or nothing at all.
    """

    name: str
    model: ShapeModel
    masks: np.ndarray
    one_hot: Tensor
    condition: Tensor | None
    known: Sequence[Condition]
    pixel_mm: tuple[float, float]

    def told(self, chosen: Sequence[int]) -> Tensor | None:
        """Return the conditions of some slices."""
        return None if self.condition is None else self.condition[chosen]

    def line(self, title: str, masks: np.ndarray) -> HeartLine:
        """Return a line of masks (N, H, W) that knows which break a criterion."""
        return HeartLine(title, masks, [is_valid_heart(mask, self.pixel_mm) for mask in masks])


@torch.no_grad()
def pictures_of(name: str, model: ShapeModel, slices: HeldOutSlices) -> list[Picture]:
    """Return the figures of a model in evaluation mode, called ``name`` in their titles.

    What a model cannot do it has no figure of: samples without a prior, hearts on demand without
    conditions, a map if fewer than two scalars of its codes vary.
    """
    sitting = _sit(name, model, slices)
    cohort = _evenly(len(sitting.masks), _LARGEST_COHORT)
    codes = encode_cohort(model, sitting.one_hot[cohort], sitting.told(cohort))
    return [
        _reconstructions(sitting),
        *_samples(sitting),
        *_on_demand(sitting),
        *_interpolations(sitting),
        *_traversals(sitting, cohort, codes),
        *_latent_map(sitting, cohort, codes),
    ]


def _sit(name: str, model: ShapeModel, slices: HeldOutSlices) -> _Sitting:
    shown = slices.without_empty()
    device = next(model.parameters()).device
    masks = one_hot(torch.from_numpy(shown.masks)).to(device)
    condition = shown.condition_for(model)
    return _Sitting(name, model, shown.masks, masks, condition, shown.conditions, shown.pixel_mm)


def _evenly(length: int, number: int) -> list[int]:
    """Return at most ``number`` indices spread evenly over a sequence."""
    chosen = np.linspace(0, length - 1, min(number, length)).round().astype(int)
    return [int(index) for index in chosen]


def _decided(probabilities: Tensor) -> np.ndarray:
    return probabilities.argmax(dim=-3).cpu().numpy().astype(np.uint8)


def _reconstructions(sitting: _Sitting) -> Picture:
    chosen = _evenly(len(sitting.masks), _NUM_RECONSTRUCTIONS)
    masks = sitting.masks[chosen]
    told = sitting.told(chosen)
    decoded = _decided(sitting.model.reconstruct(sitting.one_hot[chosen], condition=told))
    return Picture(
        "reconstructions",
        f"Reconstructions of held-out slices, {sitting.name}",
        f"{len(masks)} expert slices evenly spaced over the test patients, what the model "
        "decodes from their posterior mean, and in color the pixels that differ.",
        hearts.reconstructions(masks, decoded),
    )


def _samples(sitting: _Sitting) -> list[Picture]:
    if not sitting.model.has_prior:
        return []
    samples = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for temperature in (1.0, 0.6):
            told = some_conditions(sitting.condition, _NUM_SAMPLES)
            drawn = _decided(sitting.model.sample(_NUM_SAMPLES, temperature, told))
            samples[temperature] = sitting.line(f"temperature {temperature:g}", drawn)
    return [
        Picture(
            "samples",
            f"Hearts the model draws by itself, {sitting.name}",
            f"{_NUM_SAMPLES} samples of the prior per temperature, the first ones drawn. {_FRAMED}",
            hearts.prior_samples(
                {temperature: line.masks for temperature, line in samples.items()},
                {temperature: line.validity for temperature, line in samples.items()},
            ),
        )
    ]


def _on_demand(sitting: _Sitting) -> list[Picture]:
    """Return the figure of a model that looks at conditions; nothing for any other."""
    groups = sitting.model.condition_groups
    if groups is None or not sitting.model.has_prior:
        return []
    lines = {}
    for group in ("", *groups):
        wanted = [Condition(group, p, t) for p in Phase for t in _POSITIONS.values()]
        told = encode_conditions(wanted, groups)
        drawn = _decided(sitting.model.sample(len(wanted), 0.0, told))
        lines[group or "any"] = sitting.line(group or "any", drawn)
    columns = {f"end-{word}": list(_POSITIONS) for word in ("diastole", "systole")}
    return [
        Picture(
            "on_demand",
            f"Hearts on demand, {sitting.name}",
            "What the model decodes from the mean of its prior, given group, phase and position; "
            f"in the first line the group is not given. {_FRAMED} In the table this model is told "
            "the true condition of every slice, so its bound is one of log p(x | c); its samples "
            "have the conditions of held-out slices.",
            hearts.hearts_on_demand(
                {group: line.masks for group, line in lines.items()},
                {group: line.validity for group, line in lines.items()},
                columns,
            ),
        )
    ]


def _interpolations(sitting: _Sitting) -> list[Picture]:
    ends = _evenly(len(sitting.masks), 2 * _NUM_PAIRS)
    num_pairs = len(ends) // 2
    if not num_pairs:
        return []
    first, second = ends[:num_pairs], ends[-num_pairs:]
    told = (sitting.told(first), sitting.told(second))
    decoded = _decided(
        interpolate(
            sitting.model,
            sitting.one_hot[first],
            sitting.one_hot[second],
            _NUM_STEPS,
            None if told[0] is None or told[1] is None else (told[0], told[1]),
        )
    )
    lines = [
        sitting.line("", np.stack([sitting.masks[start], *decoded[:, pair], sitting.masks[end]]))
        for pair, (start, end) in enumerate(zip(first, second, strict=True))
    ]
    shares = [f"{100 * step / (_NUM_STEPS - 1):.0f} %" for step in range(_NUM_STEPS)]
    return [
        Picture(
            "interpolations",
            f"From heart to heart, {sitting.name}",
            "Each line goes from one expert slice to another, of different patients: between them "
            f"{_NUM_STEPS} steps on the straight line between their codes, in all latent groups "
            "at once. 0 % and 100 % are the reconstructions of the two; a model that knows shapes "
            f"changes evenly and passes hearts only. {_FRAMED}",
            hearts.lines_of_hearts(lines, ["expert", *shares, "expert"]),
        )
    ]


def _traversals(sitting: _Sitting, cohort: Sequence[int], codes: Sequence[Tensor]) -> list[Picture]:
    start = _most_typical(sitting.masks)
    mask, told = sitting.one_hot[[start]], sitting.told([start])
    groups = _evenly(len(codes), _NUM_DIRECTIONS)
    lines = []
    for group in groups:
        number = _NUM_DIRECTIONS // len(groups)
        found = leading_directions(codes[group], sitting.one_hot[cohort], number)
        for index, one_sd in enumerate(found.one_sd):
            moved = traverse(sitting.model, mask, group, one_sd, _SDS, told)
            title = f"group {group + 1}" if len(codes) > 1 else f"{index + 1}"
            lines.append(sitting.line(title, _decided(moved)))
    if not lines:
        return []
    below = (
        "The groups below the one that is moved take the mean of their prior, so the middle column "
        "shows what the groups down to it say of the slice."
        if len(codes) > 1
        else "The middle column is the reconstruction."
    )
    return [
        Picture(
            "traversals",
            f"Along the codes, {sitting.name}",
            "The held-out slice that is nearest to the mean of all, its code moved by up to 3 "
            f"standard deviations of the codes of {len(cohort)} held-out slices. Each line is a "
            "direction along which codes and masks vary together, the strongest first"
            f"{_per_group(len(codes))}; hearts grow along it in the mean. {below} {_FRAMED}",
            hearts.lines_of_hearts(lines, [_in_sd(step) for step in _SDS]),
        )
    ]


def _per_group(num_groups: int) -> str:
    return " in each latent group, the coarsest group above" if num_groups > 1 else ""


def _in_sd(step: int) -> str:
    sign = {-1: "\N{MINUS SIGN}", 0: "", 1: "+"}[int(np.sign(step))]
    return f"{sign}{abs(step)} SD"


def _most_typical(masks: np.ndarray) -> int:
    """Return the index of the mask of (N, H, W) that is nearest to the mean of all."""
    planes = np.stack([masks == structure for structure in HEART], axis=1).reshape(len(masks), -1)
    return int(((planes - planes.mean(axis=0)) ** 2).sum(axis=1).argmin())


def _latent_map(sitting: _Sitting, cohort: Sequence[int], codes: Sequence[Tensor]) -> list[Picture]:
    if not sitting.known or not has_map(codes):
        return []
    found = latent_map(codes)
    first, second = (float(share) for share in found.shares)
    return [
        Picture(
            "latent_map",
            f"Map of the codes, {sitting.name}",
            f"Posterior means of {len(cohort)} held-out slices: first two principal components of "
            f"their {found.num_scalars} standardized latent scalars that vary. The plane shows "
            f"{100 * (first + second):.0f} % of their variance: what lies apart in it differs, and "
            "what lies together may still differ elsewhere.",
            latent_maps.latent_map(
                found.points.cpu().numpy(),
                (first, second),
                [sitting.known[index] for index in cohort],
            ),
        )
    ]
