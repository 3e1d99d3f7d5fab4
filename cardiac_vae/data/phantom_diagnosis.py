"""The five diagnoses of a phantom cohort: what is drawn for each heart, and from what.

Sources of the distributions (means and spreads rounded, cut at the limits of the diagnosis):
    Petersen et al. 2017, JCMR 19:18 (normal volumes and ejection fractions by bSSFP).
    Kawel-Boehm et al. 2020, JCMR 22:87 (wall thickness, right ventricle).
    Bernard et al. 2018, IEEE TMI 37:2514 (what defines the five groups of ACDC).
Within those limits the diseased groups are set to resemble the mean volumes of ACDC's masks.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Distribution:
    """A normal distribution cut at its limits."""

    mean: float
    sd: float
    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        """Draw one value, again until it lies within the limits."""
        while True:
            value = float(rng.normal(self.mean, self.sd))
            if self.low <= value <= self.high:
                return value


@dataclass(frozen=True)
class Diagnosis:
    """What the hearts of one group have in common; volumes in ml, fractions in %, walls in mm."""

    edv_ml: Distribution
    ef_percent: Distribution
    wall_mm: Distribution
    rv_edv_ml: Distribution
    rv_ef_percent: Distribution
    axis_ratio: float  # length of the axis over the cube root of the end-diastolic volume
    septal_excess: Distribution | None = None  # of the wall, over its mean (hypertrophy)
    infarct_thinning: Distribution | None = None  # fraction of the wall that is lost
    septal_flattening: Distribution | None = None  # fraction of the radius (RV overload)


DIAGNOSES: dict[str, Diagnosis] = {
    "NOR": Diagnosis(
        edv_ml=Distribution(138, 25, 85, 205),
        ef_percent=Distribution(61, 4.5, 52, 72),
        wall_mm=Distribution(7.4, 0.9, 5.5, 9.8),
        rv_edv_ml=Distribution(152, 28, 90, 225),
        rv_ef_percent=Distribution(57, 5, 46, 68),
        axis_ratio=1.76,
    ),
    "DCM": Diagnosis(
        edv_ml=Distribution(270, 45, 185, 380),
        ef_percent=Distribution(23, 8, 9, 39),
        wall_mm=Distribution(7.6, 1.0, 5.5, 10),
        rv_edv_ml=Distribution(172, 45, 90, 270),
        rv_ef_percent=Distribution(36, 11, 15, 60),
        axis_ratio=1.58,
    ),
    "HCM": Diagnosis(
        edv_ml=Distribution(130, 26, 80, 200),
        ef_percent=Distribution(67, 6, 56, 80),
        wall_mm=Distribution(10.0, 1.2, 8, 13),
        rv_edv_ml=Distribution(125, 25, 75, 190),
        rv_ef_percent=Distribution(61, 6, 48, 74),
        axis_ratio=1.78,
        septal_excess=Distribution(0.9, 0.25, 0.5, 1.4),
    ),
    "MINF": Diagnosis(
        edv_ml=Distribution(172, 34, 110, 260),
        ef_percent=Distribution(31, 6, 15, 40),
        wall_mm=Distribution(8.4, 0.9, 7, 10.5),
        rv_edv_ml=Distribution(128, 28, 75, 200),
        rv_ef_percent=Distribution(53, 8, 35, 68),
        axis_ratio=1.70,
        infarct_thinning=Distribution(0.4, 0.07, 0.2, 0.5),
    ),
    "RV": Diagnosis(
        edv_ml=Distribution(112, 25, 65, 180),
        ef_percent=Distribution(57, 6, 45, 70),
        wall_mm=Distribution(6.5, 0.7, 5, 8.5),
        rv_edv_ml=Distribution(200, 40, 140, 300),
        rv_ef_percent=Distribution(36, 8, 18, 52),
        axis_ratio=1.80,
        septal_flattening=Distribution(0.08, 0.03, 0.02, 0.14),
    ),
}
GROUPS = tuple(DIAGNOSES)


@dataclass(frozen=True)
class HeartFactors:
    """What one heart was made from; written to ``factors.csv``.

    Attributes:
        group: One of ``GROUPS``.
        edv_ml, esv_ml, rv_edv_ml, rv_esv_ml: Cavity volumes of the continuous shape.
        wall_mm: Mean end-diastolic wall thickness before the group's own excess or loss.
        length_mm: Epicardial length from mitral plane to apex, end-diastole.
        pose_deg: Direction from the right to the left ventricle, 0 along columns, 90 down rows.
        septal_excess, infarct_thinning, septal_flattening: Fractions, 0 where the group has none.
        infarct_deg, infarct_depth: Centre of the infarct: angle from the septum, share of length.
        rv_base_mm: How far below the mitral plane the right ventricle opens (negative: above).
        rv_apex: Where the right ventricle ends, as a share of the length.
        rv_span_deg: Angle that the right ventricle's base covers around the left.
        ellipticity, ellipse_deg: Of the epicardium in the plane.
    """

    group: str
    edv_ml: float
    esv_ml: float
    rv_edv_ml: float
    rv_esv_ml: float
    wall_mm: float
    length_mm: float
    pose_deg: float
    septal_excess: float
    infarct_thinning: float
    infarct_deg: float
    infarct_depth: float
    septal_flattening: float
    rv_base_mm: float
    rv_apex: float
    rv_span_deg: float
    ellipticity: float
    ellipse_deg: float

    @property
    def ef_percent(self) -> float:
        """Return the left ventricular ejection fraction."""
        return 100 * (1 - self.esv_ml / self.edv_ml)

    @property
    def rv_ef_percent(self) -> float:
        """Return the right ventricular ejection fraction."""
        return 100 * (1 - self.rv_esv_ml / self.rv_edv_ml)


def draw_heart(group: str, rng: np.random.Generator) -> HeartFactors:
    """Draw the factors of one heart of a group."""
    diagnosis = DIAGNOSES[group]
    edv = diagnosis.edv_ml.draw(rng)
    rv_edv = diagnosis.rv_edv_ml.draw(rng)

    def share(distribution: Distribution | None) -> float:
        return distribution.draw(rng) if distribution else 0.0

    return HeartFactors(
        group=group,
        edv_ml=edv,
        esv_ml=edv * (1 - diagnosis.ef_percent.draw(rng) / 100),
        rv_edv_ml=rv_edv,
        rv_esv_ml=rv_edv * (1 - diagnosis.rv_ef_percent.draw(rng) / 100),
        wall_mm=diagnosis.wall_mm.draw(rng),
        length_mm=10 * diagnosis.axis_ratio * edv ** (1 / 3) * rng.uniform(0.95, 1.05),
        pose_deg=Distribution(-14, 14, -48, 25).draw(rng),
        septal_excess=share(diagnosis.septal_excess),
        infarct_thinning=share(diagnosis.infarct_thinning),
        # Territories of the left anterior descending, circumflex and right coronary artery.
        infarct_deg=float(rng.choice([50.0, 150.0, 270.0]) + rng.normal(0, 15)),
        infarct_depth=rng.uniform(0.45, 0.8),
        septal_flattening=share(diagnosis.septal_flattening),
        rv_base_mm=Distribution(2, 5, -7, 14).draw(rng),
        rv_apex=rng.uniform(0.78, 0.95),
        rv_span_deg=rng.uniform(138, 168),
        ellipticity=rng.uniform(0.0, 0.05),
        ellipse_deg=rng.uniform(0, 180),
    )
