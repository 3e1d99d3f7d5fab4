"""What was learnt of one segmenter, and its files: how it errs, and what its stacks look like.

A folder with a JSON file for each part; ``evaluation.calibration`` fits them.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar

from cardiac_vae.config import StrictConfig
from cardiac_vae.refinement.observation import ObservationModel
from cardiac_vae.refinement.stack.slice_order import SliceOrder
from cardiac_vae.refinement.stack.stack_model import StackModel

OBSERVATION = "observation.json"
STACK = "stack.json"
SLICE_ORDER = "slice_order.json"

Part = TypeVar("Part", bound=StrictConfig)


@dataclass(frozen=True)
class Calibration:
    """How a segmenter errs. Without a fit: the defaults of the observation, and nothing else.

    Attributes:
        observation: What its output says of each pixel.
        stack: What it says of which structures are in which slice; None leaves that as drawn.
        slice_order: What sound stacks look like; None looks for no slice out of place.
    """

    observation: ObservationModel = field(default_factory=ObservationModel)
    stack: StackModel | None = None
    slice_order: SliceOrder | None = None

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote.

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
        )

    def save(self, folder: Path) -> None:
        """Write the calibration; parts of an earlier one go if this has none."""
        folder.mkdir(parents=True, exist_ok=True)
        parts = {STACK: self.stack, SLICE_ORDER: self.slice_order, OBSERVATION: self.observation}
        for name, values in parts.items():
            if values is None:
                (folder / name).unlink(missing_ok=True)
            else:
                _write(folder / name, values)


def _write(path: Path, values: StrictConfig) -> None:
    beside = path.with_suffix(path.suffix + ".part")
    beside.write_text(values.model_dump_json(indent=1))
    beside.replace(path)


def _read(path: Path, part: type[Part]) -> Part | None:
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
    return part.parse(values, str(path))
