"""A segmenter that the study compares: its network, and how its training differs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, PositiveInt

from cardiac_vae.config import StrictConfig, read_yaml
from cardiac_vae.segmentation.network import SegmenterConfig
from cardiac_vae.training.fit import FitConfig

SCHEDULE = ("steps", "validate_every", "warmup_steps")
"""The settings of a fit that are numbers of steps."""


class SegmenterRecipe(StrictConfig):
    """One file of ``configs/segmenters``.

    Attributes:
        settings: The network and its training windows.
        num_patients: Training patients to learn from, of each group in its proportion; None for
            all.
        share_of_steps: Share of the study's steps; the whole schedule shrinks with it.
        fit: Settings of ``FitConfig`` that stand in place of the study's.
    """

    settings: SegmenterConfig = SegmenterConfig()
    num_patients: PositiveInt | None = None
    share_of_steps: float = Field(default=1.0, gt=0, le=1)
    fit: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a recipe file.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it has other keys, or a value is out of range.
        """
        return cls.parse(read_yaml(path), str(path))

    def fit_config(self, study: Mapping[str, Any], where: str) -> FitConfig:
        """Return how this segmenter is fitted, given the study's settings of ``FitConfig``.

        Raises:
            ValueError: if a setting is unknown or out of range; ``where`` names where they are.
        """
        whole = FitConfig.parse({**study, **self.fit}, where)
        lengths = {name: getattr(whole, name) for name in SCHEDULE}
        shrunk = {
            name: max(round(self.share_of_steps * length), min(length, 1))
            for name, length in lengths.items()
        }
        return whole.model_copy(update=shrunk)
