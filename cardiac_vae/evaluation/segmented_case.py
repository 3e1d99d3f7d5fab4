"""A scan that a segmenter and an expert have drawn: what a calibration is fitted to and judged by.

Stacks are turned so that the base comes first. No file says where it is; the expert's heart does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cardiac_vae.anatomy.measurements import volume_ml
from cardiac_vae.correction.corrector import Corrector
from cardiac_vae.data.case import CardiacCase, Spacing
from cardiac_vae.data.conditions import slice_positions
from cardiac_vae.data.nifti import read_probabilities
from cardiac_vae.data.prepared import PreparedCase
from cardiac_vae.data.segmented import mask_path, probabilities_path, read_structures
from cardiac_vae.labels import HEART, NUM_CLASSES, Phase, Structure
from cardiac_vae.metrics.calibration import near_heart, voxels
from cardiac_vae.metrics.presence import present_structures
from cardiac_vae.refinement.observation import PixelSize, Scaling
from cardiac_vae.refinement.observation_fit import ExpertPair
from cardiac_vae.refinement.seen import stack_evidence
from cardiac_vae.refinement.stack.presence_prior import PresencePrior
from cardiac_vae.refinement.stack.slice_order import SliceOrder, fit_slice_order
from cardiac_vae.refinement.stack.stack_model import SegmentedStack
from cardiac_vae.refinement.uncertainty import LevelSets, is_doubtful
from cardiac_vae.refinement.uncertainty_fit import ExpertVolumes
from cardiac_vae.refinement.window import HeartWindow


@dataclass(frozen=True)
class SegmentedCase:
    """One scan of a case as the segmenter and the expert drew it, base first.

    Attributes:
        patient_id: Cases that share it are never on both sides of a split.
        scans: Kind of scans, of ``SCANS``.
        expert: (D, H, W) uint8, values of ``Structure``.
        drawn: (D, H, W) uint8, the segmenter's mask.
        probabilities: (D, C, H, W) the segmenter's.
        spacing_mm: Voxel size along (slice, row, column).
        pair: The three in the window around what is drawn; None if nothing is.
        near: (N, C) the segmenter's probabilities of the voxels of the window that are near the
            heart; N is 0 without a window, for then there is nothing to refine either.
        truth: (N,) the expert's classes there.
        doubted: (M, C) the segmenter's probabilities of the voxels that ``is_doubtful``.
        stack: What is said of each slice, and what the expert drew there.
    """

    patient_id: str
    scans: str
    expert: np.ndarray = field(repr=False)
    drawn: np.ndarray = field(repr=False)
    probabilities: np.ndarray = field(repr=False)
    spacing_mm: Spacing
    pair: ExpertPair | None = field(repr=False)
    near: np.ndarray = field(repr=False)
    truth: np.ndarray = field(repr=False)
    doubted: np.ndarray = field(repr=False)
    stack: SegmentedStack = field(repr=False)

    @property
    def pixel_mm(self) -> PixelSize:
        """Return the pixel size along (row, column)."""
        return self.spacing_mm[1:]

    @property
    def phase(self) -> Phase:
        """Return the instant of the cycle."""
        return self.stack.phase

    def volumes(self, scaling: Scaling) -> ExpertVolumes:
        """Return the volumes, by the segmenter's probabilities once scaled and by the expert."""
        voxel_ml = float(np.prod(self.spacing_mm)) / 1000
        levels = LevelSets.of(scaling.apply(self.doubted), voxel_ml, scaling.floor)
        return ExpertVolumes(levels, expert_volumes_ml(self.expert, self.spacing_mm))


def read_segmented_case(
    case: CardiacCase,
    scans: str,
    segmented: Path,
    prepared: PreparedCase,
    margin_mm: float,
    corrector: Corrector | None = None,
) -> SegmentedCase:
    """Read what the segmenter made of a case's scan of one kind (laid out as ``data.segmented``).

    ``prepared`` is any prepared case: its grid says how large the window is. Near the heart is what
    lies within ``margin_mm`` of what either drew. A ``corrector`` is heard on what slices hold.

    Raises:
        FileNotFoundError: if the case was not segmented.
        ValueError: if the segmenter's mask or probabilities are not on the case's grid.
    """
    drawn = read_structures(mask_path(segmented, scans, case.case_id))
    probabilities, _ = read_probabilities(probabilities_path(segmented, scans, case.case_id))
    if drawn.shape != case.mask.shape:
        raise ValueError(
            f"{case.case_id}: expected a segmented mask on the expert's grid {case.mask.shape}, "
            f"got {drawn.shape}; run the stage segment again"
        )
    way = _from_base(case.mask)
    expert, drawn, probabilities = case.mask[way], drawn[way], probabilities[way]
    pixel_mm = case.spacing_mm[1], case.spacing_mm[2]
    pair = None
    near, truth = np.zeros((0, NUM_CLASSES), np.float32), np.zeros(0, np.intp)
    if drawn.any():
        size, size_mm = prepared.grid.shape[0], prepared.grid.pixel_mm[0]
        window = HeartWindow.around(drawn, case.spacing_mm, size, size_mm)
        volumes = window.cut(expert), window.cut(drawn), window.cut(probabilities)
        pair = ExpertPair(volumes[0], volumes[1], pixel_mm, volumes[2])
        where = near_heart((pair.expert > 0) | (pair.drawn > 0), pixel_mm, margin_mm)
        near, truth = voxels(volumes[2], pair.expert, where)
    return SegmentedCase(
        patient_id=case.patient_id,
        scans=scans,
        expert=expert,
        drawn=drawn,
        probabilities=probabilities,
        spacing_mm=case.spacing_mm,
        pair=pair,
        near=near,
        truth=truth,
        doubted=np.moveaxis(probabilities, 1, -1)[is_doubtful(drawn, pixel_mm)],
        stack=SegmentedStack(
            stack_evidence(drawn, probabilities, case.spacing_mm, corrector),
            present_structures(expert),
            case.phase,
        ),
    )


def expert_volumes_ml(expert: np.ndarray, spacing_mm: Spacing) -> dict[Structure, float]:
    """Return the volume of each structure of ``HEART`` in an expert's mask (D, H, W), in ml."""
    return {structure: volume_ml(expert, structure, spacing_mm) for structure in HEART}


def learn_stacks(cases: Sequence[PreparedCase]) -> tuple[PresencePrior, SliceOrder]:
    """Learn from the experts' masks of prepared cases what is in which slice, and how smoothly."""
    present: list[tuple[Phase, np.ndarray]] = []
    masks: list[tuple[np.ndarray, Spacing]] = []
    for case in cases:
        mask = case.load().mask
        present.append((case.phase, present_structures(mask[_from_base(mask)])))
        masks.append((mask, (case.spacing_mm[0], *case.grid.pixel_mm)))
    return PresencePrior.learn(present), fit_slice_order(masks)


def _from_base(expert: np.ndarray) -> slice:
    """Return the index that turns a stack (D, ...) so that its base comes first."""
    positions = slice_positions(expert)
    known = positions[~np.isnan(positions)]
    is_apex_first = len(known) > 0 and known[0] > 0
    return slice(None, None, -1 if is_apex_first else 1)
