"""The scales of a network between a mask and its coarsest features, each half the size before."""

from typing import Literal, Self

from pydantic import PositiveInt, model_validator

from cardiac_vae.config import StrictConfig


class Scales(StrictConfig):
    """How large masks are, and how wide the features of them at each scale.

    Attributes:
        image_size: Pixels a side; divisible by ``patch_size`` times two per further scale.
        patch_size: Pixels a side that become one position of the finest scale.
        channels: Width of each scale, finest first.
    """

    spatial_dims: Literal[2, 3] = 2
    image_size: PositiveInt = 96
    patch_size: PositiveInt = 4
    channels: tuple[PositiveInt, ...] = (48, 96, 128)

    @property
    def coarsest_size(self) -> int:
        """Positions a side at the coarsest scale."""
        return self.size_at(len(self.channels) - 1)

    def size_at(self, scale: int) -> int:
        """Return the positions a side at a scale; scale 0 is the finest."""
        return self.image_size // (self.patch_size * 2**scale)

    @model_validator(mode="after")
    def _image_can_be_halved(self) -> Self:
        factor = self.patch_size * 2 ** (len(self.channels) - 1)
        if self.image_size % factor:
            raise ValueError(f"image_size {self.image_size} is not divisible by {factor}")
        return self
