"""A scale for surprise: a density, and how much the hearts that it was fitted to surprise.

On file it is the density's folder with one file more, ``surprise.safetensors``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from pydantic import NonNegativeInt, PositiveInt
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cardiac_vae.config import StrictConfig
from cardiac_vae.densities.code_density import CodeDensity
from cardiac_vae.densities.file import load_density, save_density
from cardiac_vae.densities.surprise import surprise
from cardiac_vae.shape_model import ShapeModel

HEARTS = "surprise.safetensors"


class SurpriseConfig(StrictConfig):
    """How finely surprise is measured.

    Attributes:
        num_hearts: Training hearts that others are ranked among, drawn at random.
        num_draws: Draws of each posterior.
        batch_size: Slices looked at at a time.
    """

    num_hearts: PositiveInt = 300
    num_draws: PositiveInt = 2
    batch_size: PositiveInt = 64
    seed: NonNegativeInt = 0


@dataclass(frozen=True)
class SurpriseScale:
    """A density over a model's codes, and the surprise of hearts to rank others among.

    Attributes:
        density: The density.
        hearts: (M,) float64, the surprise of M training hearts in nats.
        num_draws: Draws of each posterior that it is a mean over; others are measured so, too.
    """

    density: CodeDensity
    hearts: Tensor
    num_draws: int

    @classmethod
    def of(
        cls,
        model: ShapeModel,
        density: CodeDensity,
        masks: Tensor,
        config: SurpriseConfig | None = None,
    ) -> Self:
        """Measure some of the training hearts (N, H, W) uint8, with a model in eval mode.

        The model is told nothing of their conditions, as nothing is known of the masks to come.

        Raises:
            ValueError: if the model has no bound, or the density is not over its codes.
        """
        config = config or SurpriseConfig()
        generator = torch.Generator().manual_seed(config.seed)
        chosen = torch.randperm(len(masks), generator=generator)[: config.num_hearts]
        hearts = _measured(model, density, masks[chosen], config)
        return cls(density, hearts.sort().values, config.num_draws)

    def measure(self, model: ShapeModel, masks: Tensor, batch_size: int = 64) -> Tensor:
        """Return the surprise (N,) float64 in nats of label maps (N, H, W).

        The same masks surprise as much every time: random numbers are drawn from a seed.

        Raises:
            ValueError: if the model has no bound, or the density is not over its codes.
        """
        config = SurpriseConfig(num_draws=self.num_draws, batch_size=batch_size)
        return _measured(model, self.density, masks, config)

    def rank(self, nats: Tensor) -> Tensor:
        """Return which share (N,) of the training hearts surprises less than each of (N,)."""
        return torch.searchsorted(self.hearts.sort().values, nats) / len(self.hearts)

    def save(self, folder: Path) -> None:
        """Write the density and the surprise of the hearts."""
        save_density(folder, self.density)
        beside = folder / (HEARTS + ".part")
        draws = torch.tensor(self.num_draws)
        save_file({"hearts": self.hearts.contiguous(), "num_draws": draws}, beside)
        beside.replace(folder / HEARTS)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            FileNotFoundError: if the folder holds no density, or that of a model without a bound.
            ValueError: if its files hold something else.
        """
        density = load_density(folder)
        path = folder / HEARTS
        if not path.is_file():
            raise FileNotFoundError(
                f"{folder}: expected the surprise of training hearts beside the density, got no "
                f"{HEARTS} in it; run the density stage again, for a model with a bound such as vae"
            )
        try:
            found = load_file(path)
            hearts, num_draws = found["hearts"].double(), int(found["num_draws"])
        except (SafetensorError, KeyError, RuntimeError) as error:
            raise ValueError(
                f"{path}: expected the surprise of training hearts, got "
                f"{' '.join(str(error).split())[:200]}; run the density stage again"
            ) from None
        if hearts.ndim != 1 or not len(hearts) or num_draws < 1 or bool(hearts.isnan().any()):
            raise ValueError(
                f"{path}: expected nats (M,) of one heart or more, none NaN, and one draw or more, "
                f"got shape {tuple(hearts.shape)} and {num_draws}; run the density stage again"
            )
        return cls(density, hearts, num_draws)


def _measured(
    model: ShapeModel, density: CodeDensity, masks: Tensor, config: SurpriseConfig
) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return surprise(model, density, masks, config.num_draws, batch_size=config.batch_size)
