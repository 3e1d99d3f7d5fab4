"""What was learnt of one segmenter's errors, and its file: how it draws, and which slices it draws.

A folder with ``observation.json`` and ``stack.json``; ``evaluation.calibration`` fits both.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cardiac_vae.config import StrictConfig
from cardiac_vae.refinement.observation import ObservationModel
from cardiac_vae.refinement.stack.stack_model import StackModel

OBSERVATION = "observation.json"
STACK = "stack.json"


@dataclass(frozen=True)
class Calibration:
    """How a segmenter errs. Without a fit: the defaults of the observation, and no stack.

    Attributes:
        observation: What its output says of each pixel.
        stack: What it says of which structures are in which slice; None leaves that as drawn.
    """

    observation: ObservationModel = field(default_factory=ObservationModel)
    stack: StackModel | None = None

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
        observation = ObservationModel.load(folder / OBSERVATION)
        if not (folder / STACK).is_file():
            return cls(observation)
        return cls(observation, _read_stack(folder / STACK))

    def save(self, folder: Path) -> None:
        """Write the calibration; a stack of an earlier one goes if this has none."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.stack is None:
            (folder / STACK).unlink(missing_ok=True)
        else:
            _write(folder / STACK, self.stack)
        _write(folder / OBSERVATION, self.observation)


def _write(path: Path, values: StrictConfig) -> None:
    beside = path.with_suffix(path.suffix + ".part")
    beside.write_text(values.model_dump_json(indent=1))
    beside.replace(path)


def _read_stack(path: Path) -> StackModel:
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(
            f"{path}: expected JSON, got {error}; run the stage calibrate again"
        ) from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a mapping, got {type(values).__name__}")
    return StackModel.parse(values, str(path))
