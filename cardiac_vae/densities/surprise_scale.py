"""A scale for surprise: a density, and how much the hearts that it was fitted to surprise.

What a mask costs in nats grows with its outline, for that is where a decoder is unsure: a large
heart surprises more than a small broken one. So masks are ranked by their excess,

    excess(x) = surprise(x) - (a + b edges(x))

the surprise beyond that of hearts with an outline as long, by the least-squares line through the
hearts of the scale. Edges are the sides of pixels that lie between two structures.

On file it is the density's folder with one file more, ``surprise.safetensors``. One of the hearts
and its own surprise are kept as well: another model, or the same trained again, does not agree.
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
_TOLERANCE = 1.0  # nats: rounding on another machine is far less, another model far more


class SurpriseConfig(StrictConfig):
    """How finely surprise is measured.

    Attributes:
        num_hearts: Training hearts that others are ranked among, drawn at random.
        num_draws: Draws of each posterior.
        batch_size: Slices looked at at a time.
    """

    num_hearts: PositiveInt = 300
    num_draws: PositiveInt = 1
    batch_size: PositiveInt = 64
    seed: NonNegativeInt = 0


@dataclass(frozen=True)
class SurpriseScale:
    """A density over a model's codes, and the surprise of hearts to rank others among.

    Attributes:
        density: The density.
        hearts: (M,) float64, the surprise of M training hearts in nats.
        edges: (M,) float64, the lengths of their outlines.
        example: (H, W) uint8, one of the hearts.
        example_nats: Its surprise in nats, measured by itself.
        num_draws: Draws of each posterior that surprise is a mean over.
    """

    density: CodeDensity
    hearts: Tensor
    edges: Tensor
    example: Tensor
    example_nats: float
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
        chosen = masks[torch.randperm(len(masks), generator=generator)[: config.num_hearts]]
        nats, example = (
            _measured(model, density, some, config.num_draws, config.batch_size)
            for some in (chosen, chosen[:1])
        )
        return cls(density, nats, num_edges(chosen), chosen[0], float(example), config.num_draws)

    def require_fit(self, model: ShapeModel) -> None:
        """Refuse a model that the density was not fitted to.

        Raises:
            ValueError: if it is one.
        """
        try:
            found = float(self.measure(model, self.example[None]))
        except RuntimeError as error:  # of torch, where the model's grid is another
            raise ValueError(
                f"density: expected a model of masks {tuple(self.example.shape)}, got one that "
                f"says {' '.join(str(error).split())[:100]}; take the one that it was fitted to"
            ) from None
        if not abs(found - self.example_nats) <= _TOLERANCE:
            raise ValueError(
                f"density: expected the model that it was fitted to, for which a training heart "
                f"surprises {self.example_nats:.0f} nats, got one with {found:.0f}; run the "
                "density stage again after training"
            )

    def measure(self, model: ShapeModel, masks: Tensor, batch_size: int = 64) -> Tensor:
        """Return the surprise (N,) float64 in nats of label maps (N, H, W).

        The same masks surprise as much every time: random numbers are drawn from a seed.

        Raises:
            ValueError: if the model has no bound, or the density is not over its codes.
        """
        return _measured(model, self.density, masks, self.num_draws, batch_size)

    def excess(self, nats: Tensor, masks: Tensor) -> Tensor:
        """Return the surprise (N,) of masks (N, H, W) beyond that of hearts outlined as long."""
        return nats - _with_ones(num_edges(masks)) @ self._line

    def rank(self, excess: Tensor) -> Tensor:
        """Return which share (N,) of the training hearts has less excess than each of (N,)."""
        known = (self.hearts - _with_ones(self.edges) @ self._line).sort().values
        return torch.searchsorted(known, excess).double() / len(known)

    @property
    def _line(self) -> Tensor:
        return torch.linalg.lstsq(_with_ones(self.edges), self.hearts[:, None]).solution[:, 0]

    def save(self, folder: Path) -> None:
        """Write the density and the surprise of the hearts."""
        save_density(folder, self.density)
        tensors = {
            "hearts": self.hearts,
            "edges": self.edges,
            "example": self.example,
            "example_nats": torch.tensor(self.example_nats, dtype=torch.float64),
            "num_draws": torch.tensor(self.num_draws),
        }
        beside = folder / (HEARTS + ".part")
        save_file({name: value.contiguous().clone() for name, value in tensors.items()}, beside)
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
            scale = cls(
                density,
                found["hearts"],
                found["edges"],
                found["example"],
                float(found["example_nats"]),
                int(found["num_draws"]),
            )
            if not len(scale.hearts) or scale.hearts.shape != scale.edges.shape:
                raise KeyError("an outline for each heart")
        except (SafetensorError, KeyError, RuntimeError) as error:
            raise ValueError(
                f"{path}: expected the surprise of training hearts, got "
                f"{' '.join(str(error).split())[:200]}; run the density stage again"
            ) from None
        return scale


def num_edges(masks: Tensor) -> Tensor:
    """Return how many sides of pixels (N,) lie between two structures of label maps (N, H, W)."""
    rows, columns = masks[:, 1:] != masks[:, :-1], masks[..., 1:] != masks[..., :-1]
    return (rows.sum(dim=(1, 2)) + columns.sum(dim=(1, 2))).double()


def _with_ones(edges: Tensor) -> Tensor:
    return torch.stack([torch.ones_like(edges), edges], dim=1)


def _measured(
    model: ShapeModel, density: CodeDensity, masks: Tensor, num_draws: int, batch_size: int
) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return surprise(model, density, masks, num_draws, batch_size=batch_size)
