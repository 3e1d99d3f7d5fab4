"""A cohort scored: the masks of the segmenter, the baseline and the refiner beside the experts'."""

from collections.abc import Iterable
from pathlib import Path

from pydantic import NonNegativeInt

from cardiac_vae.config import StrictConfig
from cardiac_vae.data.case import CardiacCase
from cardiac_vae.data.segmented import SCANS, Split, mask_path, read_structures, refined_path
from cardiac_vae.evaluation.disentanglement import DisentanglementConfig
from cardiac_vae.evaluation.generation import GenerationConfig
from cardiac_vae.evaluation.likelihood import LikelihoodConfig
from cardiac_vae.evaluation.reconstruction import ReconstructionConfig
from cardiac_vae.evaluation.scores import CaseScores, score_case
from cardiac_vae.refinement.baselines import largest_component_and_filled_holes


class EvaluationConfig(StrictConfig):
    """Which patients the figures are about, and what is spent on them.

    The patients of ``validation`` are for tuning. Each part draws from a seed of its own; ``seed``
    is that of the masks' intervals.
    """

    split: Split = "test"
    reconstruction: ReconstructionConfig = ReconstructionConfig()
    likelihood: LikelihoodConfig = LikelihoodConfig()
    generation: GenerationConfig = GenerationConfig()
    disentanglement: DisentanglementConfig = DisentanglementConfig()
    seed: NonNegativeInt = 0


def evaluate_cases(
    cases: Iterable[CardiacCase], segmented: Path, refined: Path
) -> dict[str, dict[str, list[CaseScores]]]:
    """Score every case that was segmented and refined (folders laid out as ``data.segmented``).

    Returns:
        Rows by kind of scans and by variant, as ``write_csv`` and ``summarize`` take them.
    """
    rows: dict[str, dict[str, list[CaseScores]]] = {
        scans: {"segmenter": [], "baseline": [], "refined": []} for scans in SCANS
    }
    for case in cases:
        for scans in SCANS:
            initial = read_structures(mask_path(segmented, scans, case.case_id))
            variants = {
                "segmenter": initial,
                "baseline": largest_component_and_filled_holes(initial),
                "refined": read_structures(refined_path(refined, scans, case.case_id)),
            }
            for variant, mask in variants.items():
                rows[scans][variant].append(score_case(case, mask))
    return rows
