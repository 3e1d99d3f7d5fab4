"""A model that reconstructs and draws what it is told to."""

import numpy as np
import pytest
import torch
from stub_model import UntrainableModel
from torch import Tensor, nn

from cardiac_vae.data.transforms import one_hot
from cardiac_vae.evaluation.generation import GenerationConfig, score_generation
from cardiac_vae.evaluation.reconstruction import HeldOutSlices
from cardiac_vae.labels import Structure
from cardiac_vae.metrics.slice_distance import slice_distance
from cardiac_vae.shape_model import Latents

SIZE = 32
PIXEL_MM = (1.5, 1.5)
CONFIG = GenerationConfig(num_samples=24, num_neighbors=3, num_splits=4, batch_size=7)


def heart(rng: np.random.Generator) -> np.ndarray:
    rows, columns = np.mgrid[:SIZE, :SIZE]
    inner, wall, away = rng.uniform(3, 6), rng.uniform(2, 4), rng.uniform(6, 8)
    row, column = rng.uniform(15, 17, 2)
    distance = np.hypot(rows - row, columns - column - 3)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[np.hypot(rows - row, columns - column + away - 3) < 7] = Structure.RV
    mask[distance < inner + wall] = Structure.MYO
    mask[distance < inner] = Structure.LV
    return mask


def stack(seed: int, patients: int, slices_each: int) -> HeldOutSlices:
    rng = np.random.default_rng(seed)
    owners = [f"{seed}-{index // slices_each}" for index in range(patients * slices_each)]
    return HeldOutSlices(np.stack([heart(rng) for _ in owners]), owners, owners, PIXEL_MM)


class Told(UntrainableModel):
    """Reconstructs without a structure if there is one to ``forget``, and draws ``pool``."""

    def __init__(self, pool: np.ndarray, forget: int = 0, has_prior: bool = True) -> None:
        super().__init__()
        self.pool, self.forget, self.has_prior = pool, forget, has_prior
        self.anywhere = nn.Parameter(torch.zeros(1))

    def encode(
        self,
        mask: Tensor,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
        temperature: float = 0.0,
    ) -> list[Tensor]:
        return [mask]

    def decode(
        self, latents: Latents, temperature: float = 0.0, condition: Tensor | None = None
    ) -> Tensor:
        labels = latents[0].argmax(dim=1)
        return one_hot(torch.where(labels == self.forget, 0, labels))

    def sample(
        self, num_samples: int, temperature: float = 1.0, condition: Tensor | None = None
    ) -> Tensor:
        if not self.has_prior:
            raise ValueError("this model has no prior")
        chosen = torch.randint(len(self.pool), (num_samples,))
        return one_hot(torch.from_numpy(self.pool)[chosen])

    @property
    def latent_sizes(self) -> list[int]:
        return [4 * SIZE**2]


@pytest.fixture(scope="module")
def train() -> HeldOutSlices:
    return stack(1, 8, 5)


@pytest.fixture(scope="module")
def held_out() -> HeldOutSlices:
    return stack(2, 3, 4)


def test_a_model_that_remembers_its_training_slices(
    train: HeldOutSlices, held_out: HeldOutSlices
) -> None:
    scores = score_generation(Told(train.masks), held_out, train, CONFIG)
    metrics = scores["metrics"]
    assert metrics["generalization_mm"]["mean"] == 0
    assert (scores["generalization_median_mm"], scores["num_mismatched"]) == (0, 0)
    assert metrics["specificity_mm"] == {"mean": 0, "low": 0, "high": 0, "n": 24}
    nearest = [
        min(slice_distance(mask, known, PIXEL_MM) for known in train.masks)
        for mask in held_out.masks
    ]
    assert metrics["real_specificity_mm"]["mean"] == pytest.approx(np.mean(nearest), rel=1e-4)
    assert metrics["coverage"]["n"] == 12
    assert metrics["real_coverage"]["mean"] >= 0.5
    assert metrics["frechet"]["n"] == 4
    assert metrics["frechet"]["low"] <= metrics["frechet"]["mean"] <= metrics["frechet"]["high"]
    assert metrics["frechet"]["mean"] < 2 * metrics["real_frechet"]["mean"]
    assert (scores["num_train_slices"], scores["num_held_out_slices"]) == (40, 12)
    assert (scores["num_samples"], scores["temperature"], scores["num_neighbors"]) == (24, 1, 3)


def test_a_model_that_knows_one_heart(train: HeldOutSlices, held_out: HeldOutSlices) -> None:
    scores = score_generation(Told(train.masks[:1]), held_out, train, CONFIG)
    metrics = scores["metrics"]
    assert metrics["specificity_mm"]["mean"] == 0
    assert metrics["coverage"]["mean"] < metrics["real_coverage"]["mean"]
    assert metrics["frechet"]["mean"] > 3 * metrics["real_frechet"]["mean"]
    assert scores["variance_mm2"] == pytest.approx(0, abs=1e-6)
    assert scores["real_variance_mm2"] > 0.1
    assert scores["modes"] < scores["real_modes"]


def test_hearts_unlike_any(train: HeldOutSlices, held_out: HeldOutSlices) -> None:
    without_rv = np.where(train.masks == Structure.RV, 0, train.masks)
    scores = score_generation(Told(without_rv), held_out, train, CONFIG)["metrics"]
    diagonal = SIZE * 1.5 * np.sqrt(2)
    assert scores["specificity_mm"]["mean"] == pytest.approx(diagonal / 3)
    assert scores["coverage"]["mean"] == 0
    assert scores["density"]["mean"] == 0
    assert scores["real_density"]["mean"] > 0.2


def test_a_forgotten_structure_is_charged(train: HeldOutSlices, held_out: HeldOutSlices) -> None:
    model = Told(train.masks, forget=Structure.RV)
    scores = score_generation(model, held_out, train, CONFIG)
    diagonal = SIZE * 1.5 * np.sqrt(2)
    assert scores["metrics"]["generalization_mm"]["mean"] == pytest.approx(diagonal / 3)
    assert scores["num_mismatched"] == 12


def test_a_model_without_a_prior_is_not_asked_for_samples(
    train: HeldOutSlices, held_out: HeldOutSlices
) -> None:
    scores = score_generation(Told(train.masks, has_prior=False), held_out, train, CONFIG)
    assert set(scores["metrics"]) == {"generalization_mm"}
    assert "num_samples" not in scores


def test_the_same_seed_gives_the_same_scores_and_leaves_the_generator(
    train: HeldOutSlices, held_out: HeldOutSlices
) -> None:
    model = Told(train.masks)
    torch.manual_seed(3)
    expected = torch.randn(2)
    torch.manual_seed(3)
    first = score_generation(model, held_out, train, CONFIG)
    torch.testing.assert_close(torch.randn(2), expected)
    assert score_generation(model, held_out, train, CONFIG) == first
