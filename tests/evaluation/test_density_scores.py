import numpy as np
import pytest
import torch
from stub_model import UntrainableModel
from torch import Tensor

from cardiac_vae.densities.code_density import CodeDensity
from cardiac_vae.densities.normal_mixture import NormalMixture
from cardiac_vae.evaluation.densities import DensityScoresConfig, score_density
from cardiac_vae.evaluation.reconstruction import HeldOutSlices
from cardiac_vae.labels import Structure
from cardiac_vae.shape_model import Latents

SIZE = 40


def ring(radius):
    """Return a heart (SIZE, SIZE) without RV: a disk of LV in a wall three pixels thick."""
    rows, columns = np.ogrid[:SIZE, :SIZE]
    distance = np.hypot(rows - 20, columns - 20)
    heart = np.zeros((SIZE, SIZE), np.uint8)
    heart[distance < radius + 3] = Structure.MYO
    heart[distance < radius] = Structure.LV
    return heart


class Rings(UntrainableModel):
    """Codes are (radius - 8) of a ring; beyond 1 in magnitude nothing is drawn."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def encode(
        self,
        mask: Tensor,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
        temperature: float = 0.0,
    ) -> list[Tensor]:
        area = mask[:, Structure.LV].sum(dim=(1, 2))
        return [((area / torch.pi).sqrt() - 8).round()[:, None]]

    def decode(
        self, latents: Latents, temperature: float = 0.0, condition: Tensor | None = None
    ) -> Tensor:
        shapes = [
            ring(8 + float(z)) if abs(float(z)) <= 1 else np.zeros((SIZE, SIZE), np.uint8)
            for z in latents[0]
        ]
        masks = torch.from_numpy(np.stack(shapes)).long()
        return torch.nn.functional.one_hot(masks, 4).movedim(-1, 1).float()

    def draw(
        self, num_samples: int, temperature: float = 1.0, condition: Tensor | None = None
    ) -> list[Tensor]:
        return [torch.tensor([[0.0], [5.0]]).repeat(num_samples, 1)[:num_samples]]

    @property
    def latent_sizes(self) -> list[int]:
        return [1]


@pytest.fixture
def slices():
    masks = np.stack([ring(7), ring(8), ring(9), ring(8)] * 2)
    return HeldOutSlices(masks, list("aabbaabb"), list("aabbaabb"), (1.5, 1.5))


def test_half_of_what_this_prior_draws_are_hearts_and_all_of_the_density(slices):
    config = DensityScoresConfig(num_samples=8, num_passes=1)
    normal = NormalMixture(torch.zeros(1, 1).double(), torch.full((1, 1, 1), 0.1).double())
    density = CodeDensity(torch.ones(1, 1).double(), normal, ((1,),))
    prior = score_density(Rings(), None, slices, slices, config)
    assert [share["mean"] for share in prior["valid_samples"]] == [0.5, 0.5]
    assert prior["nats_gained"] is None
    fitted = score_density(Rings(), density, slices, slices, config)
    assert [share["mean"] for share in fitted["valid_samples"]] == [1.0, 1.0]
    assert fitted["valid_samples"][0]["n"] == 8
    # log N(z; 0, 0.01) - log N(z; 0, 1) = log 10 - 99 z^2 / 2 at z = -1, 0, 1, 0
    expected = np.log(10) - 99 / 2 * np.array([1, 0, 1, 0])
    assert fitted["nats_gained"]["mean"] == pytest.approx(expected.mean())
    assert fitted["frechet"]["mean"] < prior["frechet"]["mean"]
