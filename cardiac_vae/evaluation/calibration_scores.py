"""What a calibration is worth: probabilities and presence by fits that left the patient out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cardiac_vae.evaluation.interval_scores import Judged, score_intervals
from cardiac_vae.evaluation.intervals import difference
from cardiac_vae.labels import HEART, Structure
from cardiac_vae.metrics.calibration import brier_score, negative_log_likelihood, reliability
from cardiac_vae.metrics.presence import PresenceErrors

SEGMENTER = "segmenter"


@dataclass(frozen=True)
class LeftOut:
    """One scan, by fits that have not seen its patient.

    Attributes:
        patient_id: Cases that share it are never independent.
        scans: Kind of scans, of ``SCANS``.
        raw: (N, C) the segmenter's probabilities of voxels near the heart.
        calibrated: (N, C) the same, calibrated.
        truth: (N,) the expert's classes.
        presence: The errors of presence of ``SEGMENTER``, and of its mask redrawn in each way.
        judged: Its volumes, and the errors of the others; None if those are not known.
    """

    patient_id: str
    scans: str
    raw: np.ndarray = field(repr=False)
    calibrated: np.ndarray = field(repr=False)
    truth: np.ndarray = field(repr=False)
    presence: Mapping[str, PresenceErrors]
    judged: Judged | None = None


def score_left_out(results: Sequence[LeftOut], seed: int) -> dict[str, Any]:
    """Return the scores of scans of one kind as plain values for JSON.

    ``raw`` and ``calibrated`` are those of ``score_voxels``, all voxels of all scans together;
    ``presence`` is ``score_presence`` and ``intervals`` is ``score_intervals``.
    """
    truth = np.concatenate([result.truth for result in results])
    return {
        "raw": score_voxels(np.concatenate([result.raw for result in results]), truth),
        "calibrated": score_voxels(
            np.concatenate([result.calibrated for result in results]), truth
        ),
        "presence": score_presence(results, seed),
        "intervals": score_intervals([r.judged for r in results if r.judged is not None]),
    }


def score_voxels(probabilities: np.ndarray, truth: np.ndarray) -> dict[str, Any] | None:
    """Return how far the probabilities (N, C) of voxels can be believed; None if there is no voxel.

    ``num_voxels``, ``expected_error`` (ECE), ``brier``, ``negative_log_likelihood`` (nats per
    voxel), and ``reliability``, a list with ``count``, ``confidence`` and ``accuracy`` of each bin.
    """
    if not len(truth):
        return None
    bins = reliability(probabilities, truth)
    columns = bins.count.tolist(), bins.confidence.tolist(), bins.accuracy.tolist()
    return {
        "num_voxels": len(truth),
        "expected_error": bins.expected_error,
        "brier": brier_score(probabilities, truth),
        "negative_log_likelihood": negative_log_likelihood(probabilities, truth),
        "reliability": [
            {"count": count, "confidence": confidence, "accuracy": accuracy}
            for count, confidence, accuracy in zip(*columns, strict=True)
        ],
    }


def score_presence(results: Sequence[LeftOut], seed: int) -> dict[str, Any]:
    """Return ``num_volumes``, and the errors of presence of the segmenter and of each way.

    Of each: ``total``; ``spurious`` and ``missed`` by structure; and, but of the segmenter,
    ``change`` against it in errors per volume (mean, low, high, n; intervals over patients).
    """
    patients = [result.patient_id for result in results]
    before = _totals(results, SEGMENTER)
    scores: dict[str, Any] = {"num_volumes": len(results)}
    for way in results[0].presence:
        errors = [result.presence[way] for result in results]
        after = _totals(results, way)
        scores[way] = {
            "total": int(after.sum()),
            "spurious": _by_structure([error.spurious for error in errors]),
            "missed": _by_structure([error.missed for error in errors]),
        }
        if way != SEGMENTER:
            scores[way]["change"] = difference(after, before, patients, seed)
    return scores


def _totals(results: Sequence[LeftOut], way: str) -> np.ndarray:
    return np.array([result.presence[way].total for result in results], float)


def _by_structure(counts: Sequence[Mapping[Structure, int]]) -> dict[str, int]:
    return {
        structure.name.lower(): sum(count[structure] for count in counts) for structure in HEART
    }
