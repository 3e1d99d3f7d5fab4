"""Figures of a shape model's codes: from heart to heart, along directions, and as a map."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from cardiac_vae.labels import HEART
from cardiac_vae.latent_space import has_map, interpolate, latent_map, leading_directions, traverse
from cardiac_vae.reports import hearts, latent_maps
from cardiac_vae.reports.sitting import FRAMED, Picture, Sitting, decided, evenly

_NUM_PAIRS = 5
_NUM_STEPS = 8
_NUM_DIRECTIONS = 6
_SDS = (-3, -2, -1, 0, 1, 2, 3)
_MEANING_OF_LINES = (
    "Each line is a direction along which codes and masks vary together, the strongest first; "
    "hearts grow along it in the cohort's mean. The middle column is the reconstruction."
)
_MEANING_OF_GROUPS = (
    "Each line is a direction along which the codes of one latent group and the masks vary "
    "together, the strongest first, the top group above; hearts grow along it in the cohort's "
    "mean. The groups below the moved one take the mean of their prior: the middle column is what "
    "the groups down to it say of the slice, the last one of them the reconstruction."
)


def interpolations(sitting: Sitting) -> list[Picture]:
    """Return the ways between some slices, if there are two."""
    ends = evenly(len(sitting.masks), 2 * _NUM_PAIRS)
    num_pairs = len(ends) // 2
    if not num_pairs:
        return []
    first, second = ends[:num_pairs], ends[-num_pairs:]
    known = sitting.condition
    steps = interpolate(
        sitting.model,
        sitting.one_hot[first],
        sitting.one_hot[second],
        _NUM_STEPS,
        None if known is None else (known[first], known[second]),
    )
    decoded = decided(steps)
    lines = [
        sitting.line("", np.stack([sitting.masks[start], *decoded[:, pair], sitting.masks[end]]))
        for pair, (start, end) in enumerate(zip(first, second, strict=True))
    ]
    shares = [f"{100 * step / (_NUM_STEPS - 1):.0f} %" for step in range(_NUM_STEPS)]
    return [
        Picture(
            "interpolations",
            f"From heart to heart, {sitting.name}",
            "Each line goes from one expert slice to another: between them "
            f"{_NUM_STEPS} steps on the straight line between their codes, in all latent groups "
            "at once. 0 % and 100 % are the reconstructions of the two; a model that knows shapes "
            f"changes evenly and passes hearts only. {FRAMED}",
            hearts.lines_of_hearts(lines, ["expert", *shares, "expert"]),
        )
    ]


def traversals(sitting: Sitting, cohort: Sequence[int], codes: Sequence[Tensor]) -> list[Picture]:
    """Return a typical slice moved along the directions of a cohort's codes, if there are any."""
    start = _most_typical(sitting.masks)
    mask, told = sitting.one_hot[[start]], sitting.told([start])
    groups = evenly(len(codes), _NUM_DIRECTIONS)
    lines = []
    for group in groups if len(cohort) > 1 else []:
        number = _NUM_DIRECTIONS // len(groups)
        found = leading_directions(codes[group], sitting.one_hot[cohort], number)
        for index, one_sd in enumerate(found.one_sd):
            moved = traverse(sitting.model, mask, group, one_sd, _SDS, told)
            title = f"group {group + 1}" if len(codes) > 1 else f"direction {index + 1}"
            lines.append(sitting.line(title, decided(moved)))
    if not lines:
        return []
    return [
        Picture(
            "traversals",
            f"Along the codes, {sitting.name}",
            "The held-out slice with all structures that is nearest to their mean, its code moved "
            f"by up to 3 standard deviations of the codes of {len(cohort)} held-out slices. "
            f"{_MEANING_OF_GROUPS if len(codes) > 1 else _MEANING_OF_LINES} {FRAMED}",
            hearts.lines_of_hearts(lines, [_in_sd(step) for step in _SDS]),
        )
    ]


def _in_sd(step: int) -> str:
    sign = {-1: "\N{MINUS SIGN}", 0: "", 1: "+"}[int(np.sign(step))]
    return f"{sign}{abs(step)} SD"


def _most_typical(masks: np.ndarray) -> int:
    """Return the index of the mask (N, H, W) nearest to the mean of all that show every structure.

    Of all there are, if none shows every structure.
    """
    planes = np.stack([masks == structure for structure in HEART], axis=1)
    present = np.asarray(planes.any(axis=(2, 3)))
    shown = np.flatnonzero(present.all(axis=1))
    shown = shown if len(shown) else np.arange(len(masks))
    distance = ((planes[shown] - planes[shown].mean(axis=0)) ** 2).sum(axis=(1, 2, 3))
    return int(shown[distance.argmin()])


def map_of_codes(sitting: Sitting, cohort: Sequence[int], codes: Sequence[Tensor]) -> list[Picture]:
    """Return the map of a cohort, if its codes spread and something is known of the slices."""
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
