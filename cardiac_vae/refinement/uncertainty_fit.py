"""Fitting how far a segmenter's errors go together, to the volumes that experts drew.

Under the level sets of ``uncertainty`` an expert's volume V stands for one deviate a = V_k^-1(V), a
draw of N(0, 1). The share r_k is the one of the greatest likelihood,

    log p(V | r) = log N(a; 0, 1) - log |dV_k / da|
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import optimize

from cardiac_vae.labels import HEART, Structure
from cardiac_vae.refinement.uncertainty import ErrorModel, LevelSets

_SHARES = (0.01, 0.02, *(np.arange(1, 20) / 20).tolist())
_HALF_LOG_2PI = 0.5 * np.log(2 * np.pi)


@dataclass(frozen=True)
class ExpertVolumes:
    """What a segmenter's output says of a scan's volumes, and what an expert drew.

    Attributes:
        levels: The level sets of the calibrated belief.
        expert_ml: Volume of each structure of ``HEART`` in the expert's mask.
    """

    levels: LevelSets = field(repr=False)
    expert_ml: Mapping[Structure, float]


def fit_errors(cases: Sequence[ExpertVolumes]) -> ErrorModel:
    """Return the error model under which the experts' volumes are likeliest.

    A structure that the expert did not draw, or that the belief rules out, says nothing of how
    errors go together, and is left out.

    Raises:
        ValueError: if nothing remains of a structure.
    """
    return ErrorModel(
        rv=_fit(cases, Structure.RV),
        myo=_fit(cases, Structure.MYO),
        lv=_fit(cases, Structure.LV),
    )


def log_likelihood(cases: Sequence[ExpertVolumes], structure: Structure, share: float) -> float:
    """Return the sum of log p(V | r) over cases, V in ml."""
    total = 0.0
    for case in cases:
        deviate, log_slope = case.levels.deviate(structure, share, case.expert_ml[structure])
        total -= 0.5 * deviate**2 + _HALF_LOG_2PI + log_slope
    return total


def _fit(cases: Sequence[ExpertVolumes], structure: Structure) -> float:
    row = HEART.index(structure)
    known = [
        case for case in cases if case.expert_ml[structure] > 0 and case.levels.counts[row].any()
    ]
    if not known:
        raise ValueError(
            f"{structure.name}: expected a volume that both an expert and a segmenter drew, got "
            f"none in {len(cases)} scans"
        )

    def cost(share: float) -> float:
        return -log_likelihood(known, structure, share)

    best = int(np.argmin([cost(share) for share in _SHARES]))
    bounds = _SHARES[max(best - 1, 0)], _SHARES[min(best + 1, len(_SHARES) - 1)]
    found = optimize.minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-3})
    return float(found.x)
