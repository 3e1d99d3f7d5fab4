"""With a model whose code is the radius of the LV it is known which heart is nearest, or best."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from stub_model import UntrainableModel
from torch import Tensor

from cardiac_vae.anatomy.criteria import check_volume, is_valid
from cardiac_vae.densities.code_density import CodeDensity
from cardiac_vae.densities.normal_mixture import NormalMixture
from cardiac_vae.labels import Structure
from cardiac_vae.refinement.latent_baselines import (
    Bank,
    NearestDrawnHeart,
    RandomSearch,
    draw_bank,
)
from cardiac_vae.refinement.observation import one_hot_planes

SIZE, PIXEL_MM = 96, 1.5
SPACING_MM = (10.0, PIXEL_MM, PIXEL_MM)


def disk_heart(radius: float) -> np.ndarray:
    """Return (SIZE, SIZE) uint8: an LV in a wall of 6 pixels, in the middle."""
    rows, columns = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    distance = np.hypot(rows, columns)
    return np.select([distance < radius, distance < radius + 6], [3, 2], 0).astype(np.uint8)


class Disks(UntrainableModel):
    """Its code (B, 1) is the LV's radius; draws add normal noise to it; below 4 no heart."""

    def encode(
        self,
        mask: Tensor,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
        temperature: float = 0.0,
    ) -> list[Tensor]:
        radius = (mask[:, Structure.LV].sum(dim=(1, 2)) / np.pi).sqrt()[:, None]
        return [radius + temperature * torch.randn_like(radius)]

    def decode(
        self,
        latents: Sequence[Tensor],
        temperature: float = 0.0,
        condition: Tensor | None = None,
    ) -> Tensor:
        masks = np.stack([disk_heart(max(float(r), 0)) for r in latents[0][:, 0]])
        masks[latents[0][:, 0].numpy() < 4, :5] = Structure.RV  # far from the heart: no heart
        return 20 * torch.from_numpy(one_hot_planes(masks))

    @property
    def latent_sizes(self) -> list[int]:
        return [1]


class Certain(Disks):
    """The same without a posterior."""

    def encode(
        self,
        mask: Tensor,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
        temperature: float = 0.0,
    ) -> list[Tensor]:
        return super().encode(mask)


@pytest.fixture
def model() -> Disks:
    model = Disks()
    model.anywhere = torch.nn.Parameter(torch.zeros(1))
    return model.eval()


@pytest.fixture
def volume() -> np.ndarray:
    """Return a volume whose middle slice has a hole in the wall; the last is empty."""
    volume = np.stack([disk_heart(13), disk_heart(11), disk_heart(9), np.zeros((SIZE, SIZE))])
    volume = volume.astype(np.uint8)
    volume[1, 47:49, 33:35] = Structure.BACKGROUND
    assert not is_valid(volume[1], SPACING_MM[1:])
    return volume


def bank(*radii: float) -> Bank:
    hearts = np.stack([disk_heart(radius) for radius in radii])
    return Bank(hearts, torch.tensor(radii, dtype=torch.float64)[:, None], 1, PIXEL_MM)


def density(mean: float, sigma: float) -> CodeDensity:
    mixture = NormalMixture(
        torch.full((1, 1), mean).double(), torch.full((1, 1, 1), sigma).double()
    )
    return CodeDensity(torch.eye(1, dtype=torch.float64), mixture, ((1,),))


def test_the_bank_holds_the_hearts_among_the_draws_with_their_codes(model: Disks):
    drawn = draw_bank(model, density(5.0, 2.0), 40, PIXEL_MM)
    assert 0 < len(drawn.hearts) < 40
    assert (drawn.codes >= 4).all()
    for heart, code in zip(drawn.hearts, drawn.codes, strict=True):
        np.testing.assert_array_equal(heart, disk_heart(float(code.float())))
    again = draw_bank(model, density(5.0, 2.0), 40, PIXEL_MM)
    np.testing.assert_array_equal(drawn.hearts, again.hearts)
    other = draw_bank(model, density(5.0, 2.0), 40, PIXEL_MM, seed=1)
    assert not torch.equal(drawn.codes[:5], other.codes[:5])


def test_a_density_without_hearts_is_refused(model: Disks):
    with pytest.raises(ValueError, match="none of 8 draws from the density is a heart"):
        draw_bank(model, density(1.0, 0.1), 8, PIXEL_MM)


def test_a_broken_slice_becomes_the_heart_with_the_nearest_code(model: Disks, volume: np.ndarray):
    before = volume.copy()
    refined = NearestDrawnHeart(model, bank(7.0, 10.5, 12.0, 20.0))(volume, SPACING_MM)
    np.testing.assert_array_equal(refined[1], disk_heart(10.5))  # the hole leaves a radius of 11
    np.testing.assert_array_equal(refined[[0, 2, 3]], before[[0, 2, 3]])
    np.testing.assert_array_equal(volume, before)
    assert check_volume(refined, SPACING_MM).is_valid


def test_the_next_heart_is_taken_if_the_nearest_is_none_here(model: Disks, volume: np.ndarray):
    hearts = bank(11.0, 16.0)
    hearts.hearts[0, 0, 0] = Structure.LV
    refined = NearestDrawnHeart(model, hearts)(volume, SPACING_MM)
    np.testing.assert_array_equal(refined[1], disk_heart(16.0))
    hearts.hearts[1, 0, 0] = Structure.LV
    unchanged = NearestDrawnHeart(model, hearts)(volume, SPACING_MM)
    np.testing.assert_array_equal(unchanged, volume)


def believed(volume: np.ndarray) -> np.ndarray:
    return 0.96 * one_hot_planes(volume) + 0.01


def test_search_takes_the_draw_that_the_segmenter_believes_most(model: Disks, volume: np.ndarray):
    seen = believed(volume)
    refined = RandomSearch(model, SIZE, PIXEL_MM, num_decodings=9, seed=3)(volume, SPACING_MM, seen)
    torch.manual_seed(3)
    prepared = torch.from_numpy(seen[1:2].astype(np.float32))
    drawn = [disk_heart(float(model.encode(prepared, temperature=1.0)[0])) for _ in range(9)]
    scores = [
        np.log(np.take_along_axis(seen[1], heart[None].astype(int), 0)).sum() for heart in drawn
    ]
    np.testing.assert_array_equal(refined[1], drawn[int(np.argmax(scores))])
    assert len({heart.tobytes() for heart in drawn}) > 5
    np.testing.assert_array_equal(refined[[0, 2, 3]], volume[[0, 2, 3]])


def test_more_decodings_are_never_believed_less(model: Disks, volume: np.ndarray):
    seen = believed(volume)
    scores = []
    for number in (1, 2, 8, 32):
        search = RandomSearch(model, SIZE, PIXEL_MM, number)
        refined = search(volume, SPACING_MM, seen)
        np.testing.assert_array_equal(refined, search(volume, SPACING_MM, seen))
        picked = np.take_along_axis(seen, refined[:, None].astype(int), 1)
        scores.append(np.log(picked).sum())
    assert scores == sorted(scores)
    assert scores[0] < scores[-1]


def test_a_slice_stays_if_no_draw_is_a_heart(model: Disks, volume: np.ndarray):
    volume[1] = 0
    volume[1, 46:48, 46:48] = Structure.LV  # its code is about 1, no heart
    search = RandomSearch(model, SIZE, PIXEL_MM, 4)
    refined = search(volume, SPACING_MM, one_hot_planes(volume))
    np.testing.assert_array_equal(refined, volume)


def test_a_search_leaves_the_global_random_numbers_alone(model: Disks, volume: np.ndarray):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    RandomSearch(model, SIZE, PIXEL_MM, 2)(volume, SPACING_MM, believed(volume))
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


def test_a_model_without_a_posterior_is_refused():
    with pytest.raises(ValueError, match="no posterior to search in"):
        RandomSearch(Certain(), SIZE, PIXEL_MM, 4)
