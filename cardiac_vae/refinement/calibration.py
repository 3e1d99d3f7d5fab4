"""What was learnt of one segmenter, and its files.

How it errs, ``observation.json``; which slices it draws, ``stack.json``; what sound stacks look
like, ``slice_order.json``; how far its errors go together, ``uncertainty.json``; and a network that
learnt from the mistakes of segmenters, the folder ``corrector``. ``correction.training`` fits the
last, and ``evaluation.calibration`` all others.
"""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np

from cardiac_vae.config import StrictConfig
from cardiac_vae.data.case import Spacing
from cardiac_vae.labels import Structure
from cardiac_vae.metrics.calibration import voxels
from cardiac_vae.refinement.observation import ObservationModel
from cardiac_vae.refinement.stack.slice_order import SliceOrder
from cardiac_vae.refinement.stack.stack_model import StackModel
from cardiac_vae.refinement.uncertainty import (
    ErrorModel,
    LevelSets,
    VolumeUncertainty,
    is_doubtful,
    refined_belief,
)

if TYPE_CHECKING:
    from cardiac_vae.correction.corrector import Corrector

OBSERVATION = "observation.json"
STACK = "stack.json"
SLICE_ORDER = "slice_order.json"
UNCERTAINTY = "uncertainty.json"
CORRECTOR = "corrector"

Part = TypeVar("Part", bound=StrictConfig)


@dataclass(frozen=True)
class Calibration:
    """How a segmenter errs. Without a fit: the defaults of the observation, and nothing else.

    Attributes:
        observation: What its output says of each pixel.
        stack: What it says of which structures are in which slice; None leaves that as drawn.
        slice_order: What sound stacks look like; None looks for no slice out of place.
        errors: How far its errors go together; None leaves volumes without intervals.
        corrector: Says what slices should have looked like; None leaves them as drawn.
    """

    observation: ObservationModel = field(default_factory=ObservationModel)
    stack: StackModel | None = None
    slice_order: SliceOrder | None = None
    errors: ErrorModel | None = None
    corrector: "Corrector | None" = None

    @classmethod
    def load(cls, folder: Path, *, with_corrector: bool = True) -> Self:
        """Read what ``save`` wrote; without the corrector where no slice is drawn anew.

        Raises:
            FileNotFoundError: if the folder holds no calibration.
            ValueError: if its files hold something else.
        """
        if not (folder / OBSERVATION).is_file():
            raise FileNotFoundError(
                f"{folder}: expected the folder of a segmenter's calibration, got no {OBSERVATION} "
                "in it; run the stage calibrate, or refine without one"
            )
        return cls(
            ObservationModel.load(folder / OBSERVATION),
            _read(folder / STACK, StackModel),
            _read(folder / SLICE_ORDER, SliceOrder),
            _read(folder / UNCERTAINTY, ErrorModel),
            _read_corrector(folder / CORRECTOR) if with_corrector else None,
        )

    def save(self, folder: Path) -> None:
        """Write the calibration; what an earlier one had and this has not goes."""
        folder.mkdir(parents=True, exist_ok=True)
        parts = {
            STACK: self.stack,
            SLICE_ORDER: self.slice_order,
            UNCERTAINTY: self.errors,
            OBSERVATION: self.observation,
        }
        for name, part in parts.items():
            if part is None:
                (folder / name).unlink(missing_ok=True)
            else:
                _write(folder / name, part)
        if self.corrector is not None:
            self.corrector.save(folder / CORRECTOR)
        elif (folder / CORRECTOR).is_dir():
            shutil.rmtree(folder / CORRECTOR)

    def uncertainty(
        self, refined: np.ndarray, probabilities: np.ndarray, spacing_mm: Spacing
    ) -> VolumeUncertainty:
        """Return how sure a refined mask (D, H, W) is, of one whose probabilities are known.

        ``probabilities`` (D, C, H, W) are the segmenter's, ``spacing_mm`` is (slice, row, column).
        Of a mask that is as the segmenter drew it, this is the segmenter's calibrated belief.

        Raises:
            ValueError: if the two are not on one grid.
        """
        pixel_mm = spacing_mm[1:]
        belief = self.observation.belief(refined, pixel_mm, probabilities)
        where = is_doubtful(refined, pixel_mm)
        of_voxels = refined_belief(*voxels(belief, refined, where))
        doubted = np.zeros((*refined.shape, belief.shape[1]), np.float32)
        doubted[..., Structure.BACKGROUND] = 1
        doubted[where] = of_voxels
        voxel_ml = float(np.prod(spacing_mm)) / 1000
        levels = LevelSets.of(of_voxels, voxel_ml, self.observation.of_probabilities.floor)
        return VolumeUncertainty(np.moveaxis(doubted, -1, 1), levels, self.errors)


def _write(path: Path, values: StrictConfig) -> None:
    beside = path.with_suffix(path.suffix + ".part")
    beside.write_text(values.model_dump_json(indent=1))
    beside.replace(path)


def _read_corrector(folder: Path) -> "Corrector | None":
    if not folder.is_dir():
        return None
    from cardiac_vae.correction.corrector import Corrector  # here, as it takes seconds

    return Corrector.load(folder)


def _read(path: Path, kind: type[Part]) -> Part | None:
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(
            f"{path}: expected JSON, got {error}; run the stage calibrate again"
        ) from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a mapping, got {type(values).__name__}")
    return kind.parse(values, str(path))
