"""How sure a volume is: level sets of the calibrated belief, whose errors go together.

The belief b_ik that voxel i is of structure k (``observation``) is right voxel by voxel. How far
off a volume is, a sum over voxels, depends on which of them err together: borders move as a whole.
A structure is drawn as the level set of normal deviates,

    x_i = k  iff  g_ik < Phi^-1(b_ik),    g_ik = sqrt(r_k) a_k + sqrt(1 - r_k) n_ik

with a_k ~ N(0, 1) common to the structure in the whole volume and n_ik ~ N(0, 1) to so few voxels
that it averages out. As g_ik is N(0, 1) whatever the share r_k, every voxel keeps its belief: a
Gaussian copula. Given a_k the volume is a sum that falls with it (Vasicek 2002, of loans),

    V_k(a) = volume of a voxel times sum_i Phi((Phi^-1(b_ik) - sqrt(r_k) a) / sqrt(1 - r_k))

so that its quantiles are those of a normal, sent through V_k: nothing is drawn, and no mask is
kept. ``uncertainty_fit`` finds r_k.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self

import numpy as np
from pydantic import Field
from scipy.special import ndtr, ndtri, xlogy

from cardiac_vae.config import StrictConfig
from cardiac_vae.labels import HEART, NUM_CLASSES, Structure
from cardiac_vae.metrics.calibration import near_heart

LEVELS = (0.5, 0.9)
"""Of the intervals that are reported."""

MARGIN_MM = 10.0
"""Farther than this from what is drawn there is no doubt: the belief was fitted up to here."""

_SUREST = 4.75  # the probit of one in a million
_PROBITS = np.linspace(-_SUREST, _SUREST, 191)
_DEVIATES = np.linspace(-5.0, 5.0, 201)
_NUM_QUANTILES = 100  # of each phase, for an ejection fraction

Interval = tuple[float, float]


class ErrorModel(StrictConfig):
    """How far a segmenter's errors go together, structure by structure.

    Attributes:
        rv: Share r of the variance that all voxels of a volume have in common.
        myo: The same.
        lv: The same.
    """

    rv: float = Field(gt=0, lt=1)
    myo: float = Field(gt=0, lt=1)
    lv: float = Field(gt=0, lt=1)

    def share(self, structure: Structure) -> float:
        """Return that of one structure of ``HEART``."""
        return {Structure.RV: self.rv, Structure.MYO: self.myo, Structure.LV: self.lv}[structure]


@dataclass(frozen=True)
class LevelSets:
    """What a belief says of the volumes, without its voxels.

    Attributes:
        counts: (3, P) voxels of each structure of ``HEART``, by the probit of their belief.
        voxel_ml: Volume of a voxel.
    """

    counts: np.ndarray = field(repr=False)
    voxel_ml: float

    @classmethod
    def of(cls, belief: np.ndarray, voxel_ml: float, floor: float = 0.0) -> Self:
        """Sort the beliefs (N, C) of voxels; a structure below a millionth is ruled out.

        ``floor`` is the share of voxels of which the segmenter knows nothing (``Scaling``). They
        lie anywhere and move with no border, so the level sets are those of the rest of the belief.

        Raises:
            ValueError: if they are not (N, C).
        """
        if belief.ndim != 2 or belief.shape[1] != NUM_CLASSES:
            raise ValueError(
                f"belief: expected probabilities (N, {NUM_CLASSES}) of voxels, got shape "
                f"{belief.shape}"
            )
        step = _PROBITS[1] - _PROBITS[0]
        counts = np.zeros((len(HEART), len(_PROBITS)))
        for row, structure in enumerate(HEART):
            known = (belief[:, structure] - floor / NUM_CLASSES) / (1 - floor)
            possible = known[known > ndtr(-_SUREST)]
            bins = np.rint((ndtri(possible).clip(max=_SUREST) + _SUREST) / step)
            counts[row] = np.bincount(bins.astype(np.intp), minlength=len(_PROBITS))
        return cls(counts, voxel_ml)

    def volume_ml(self, structure: Structure, share: float, deviate: np.ndarray) -> np.ndarray:
        """Return V_k(a) in ml for deviates a (N,); it falls with a."""
        return np.interp(deviate, _DEVIATES, self._curve(structure, share))

    def deviate(self, structure: Structure, share: float, volume_ml: float) -> tuple[float, float]:
        """Return the deviate a at which V_k(a) is a volume, and log(-dV_k / da) there.

        A volume beyond what the level sets can hold has the outermost deviate, -5 or 5.
        """
        curve = self._curve(structure, share)
        at = float(np.interp(-volume_ml, -curve, _DEVIATES))
        slope = float(np.interp(at, _DEVIATES, -np.gradient(curve, _DEVIATES)))
        return at, float(np.log(max(slope, self.voxel_ml)))

    def interval_ml(self, structure: Structure, share: float, level: float) -> Interval:
        """Return the central credible interval of a structure's volume, in ml."""
        low, high = self.volume_ml(structure, share, ndtri([(1 + level) / 2, (1 - level) / 2]))
        return float(low), float(high)

    def _curve(self, structure: Structure, share: float) -> np.ndarray:
        return np.asarray(self.voxel_ml * (_inside(share) @ self.counts[HEART.index(structure)]))


@lru_cache(maxsize=8)
def _inside(share: float) -> np.ndarray:
    """Return the probability that a voxel is inside, by deviate a and probit (A, P)."""
    return np.asarray(ndtr((_PROBITS - np.sqrt(share) * _DEVIATES[:, None]) / np.sqrt(1 - share)))


@dataclass(frozen=True)
class VolumeUncertainty:
    """How sure the mask of one volume is.

    Attributes:
        belief: (D, C, H, W) float32, probabilities of each voxel's class.
        levels: What they say of the volumes.
        errors: How far errors go together; None where that is not known.
    """

    belief: np.ndarray = field(repr=False)
    levels: LevelSets = field(repr=False)
    errors: ErrorModel | None = None

    @property
    def entropy_bits(self) -> np.ndarray:
        """Return the entropy (D, H, W) float32 of each voxel's class: 0 is sure, 2 bits a guess."""
        return entropy_bits(self.belief)

    def intervals_ml(self) -> Mapping[Structure, Mapping[float, Interval]]:
        """Return the credible intervals of each structure's volume by level; none without errors.

        The mass of the myocardium is its volume times ``MYOCARDIUM_G_PER_ML``.
        """
        if self.errors is None:
            return {}
        return {
            structure: {
                level: self.levels.interval_ml(structure, self.errors.share(structure), level)
                for level in LEVELS
            }
            for structure in HEART
        }


def entropy_bits(belief: np.ndarray) -> np.ndarray:
    """Return H_i = -sum_c b_ic log2 b_ic of a belief (D, C, H, W), as (D, H, W) float32."""
    nats = -xlogy(belief, belief).sum(axis=1)
    return (nats / np.log(2)).clip(min=0).astype(np.float32)


def is_doubtful(drawn: np.ndarray, pixel_mm: tuple[float, float]) -> np.ndarray:
    """Return the voxels (D, H, W) near what is drawn (D, H, W) in a slice or its neighbors.

    Within ``MARGIN_MM`` in the plane. Elsewhere there is background, without a doubt.
    """
    heart = drawn > 0
    around = heart.copy()
    around[1:] |= heart[:-1]
    around[:-1] |= heart[1:]
    return near_heart(around, pixel_mm, MARGIN_MM)


def refined_belief(belief: np.ndarray, refined: np.ndarray) -> np.ndarray:
    """Return the beliefs (N, C) of voxels beside the classes (N,) that the refiner gave them.

    Where it decided against the class that is likeliest to the segmenter, the two are as likely:
    each has the mean of both. However sure the segmenter was, a voxel on which the two disagree
    is in doubt.
    """
    rows, now, was = np.arange(len(belief)), refined.astype(np.intp), belief.argmax(axis=1)
    result = belief.copy()
    result[rows, was] = result[rows, now] = (belief[rows, now] + belief[rows, was]) / 2
    return result


def ejection_fraction_interval(
    ed: LevelSets, es: LevelSets, structure: Structure, share: float, level: float
) -> Interval:
    """Return the central credible interval of a ventricle's ejection fraction, in %.

    The errors of the two phases are taken as independent. Every pair of their quantiles, 100 by
    100, has the same probability. A ventricle that may not be there at end-diastole counts as one
    of at least a voxel.
    """
    deviates = ndtri((np.arange(_NUM_QUANTILES) + 0.5) / _NUM_QUANTILES)
    edv = ed.volume_ml(structure, share, deviates).clip(min=ed.voxel_ml)
    esv = es.volume_ml(structure, share, deviates)
    fractions = 100 * (1 - esv / edv[:, None])
    low, high = np.quantile(fractions, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
