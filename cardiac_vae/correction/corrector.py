"""A trained corrector and its files: what a stack of drawn slices should have looked like.

A mask that was broken at random tells more of its heart than one that a segmenter got wrong, where
noise, a missing border or a basal slice misled it in the same way over many pixels. A corrector has
seen segmenters' own mistakes beside what an expert drew, and the slices above and below. What it
makes of a slice is not the result: it is what the shape model is shown in the place of the drawn
slice, so that q(z | y) starts where hearts like it lie.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch

from cardiac_vae.config import read_yaml, write_yaml
from cardiac_vae.correction.network import Config, Network
from cardiac_vae.correction.slices import neighbors, views
from cardiac_vae.layers.weights import read_weights, write_weights

CONFIG, WEIGHTS = "config.yaml", "weights.safetensors"
_SLICES_AT_ONCE = 32


@dataclass(frozen=True)
class Corrector:
    """A trained network, in eval mode.

    Attributes:
        config: Its settings; ``image_size`` is the side of the slices it sees, in pixels.
        network: Its weights.
        pixel_mm: Pixel size of these slices.
    """

    config: Config
    network: Network
    pixel_mm: float

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            FileNotFoundError: if the folder holds no corrector.
            ValueError: if its files do not fit each other.
        """
        missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(
                f"{folder}: expected a corrector's folder, {' and '.join(missing)} not found; "
                "train one with: dvc repro train_corrector, or copy the folder whole"
            )
        values = read_yaml(folder / CONFIG)
        pixel_mm = values.pop("pixel_mm", None)
        if not isinstance(pixel_mm, int | float) or not 0 < pixel_mm < float("inf"):
            raise ValueError(
                f"{folder / CONFIG}: pixel_mm: expected mm above 0, got {pixel_mm!r}; "
                "train the corrector again, or copy its folder whole"
            )
        config = Config.parse(values, str(folder / CONFIG))
        network = Network(config)
        read_weights(folder / WEIGHTS, network, folder / CONFIG, "corrector")
        return cls(config, network.eval(), float(pixel_mm))

    def save(self, folder: Path) -> None:
        """Write settings and weights, without pickle."""
        folder.mkdir(parents=True, exist_ok=True)
        values = {**self.config.model_dump(mode="json"), "pixel_mm": self.pixel_mm}
        write_yaml(folder / CONFIG, values)
        write_weights(folder / WEIGHTS, self.network)

    def require_grid(self, size: int, pixel_mm: float) -> None:
        """Refuse slices of another size or pixel size than those it learnt from.

        Raises:
            ValueError: if they are.
        """
        own = self.config.image_size, self.pixel_mm
        if own != (size, pixel_mm):
            raise ValueError(
                f"corrector: expected a shape model of {own[0]} pixels of {own[1]} mm a side, got "
                f"{size} of {pixel_mm} mm; train the two on one prepared dataset"
            )

    @torch.inference_mode()
    def correct(self, given: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Return probabilities (N, C, S, S) float32 of the ``chosen`` (N,) slices of a stack.

        ``given`` (D, C, S, S) is the whole stack as drawn: probabilities, or one-hot masks.
        """
        stack = torch.from_numpy(given)
        beside = neighbors(stack)
        lots = torch.split(torch.from_numpy(chosen), _SLICES_AT_ONCE)
        logits = [self.network(views(stack, beside, rows)) for rows in lots]
        return torch.cat([*logits, torch.zeros(0, *given.shape[1:])]).softmax(dim=1).numpy()
