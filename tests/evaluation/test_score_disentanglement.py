"""A model that reads codes off a picture in which the factors are written."""

import numpy as np
import pytest
import torch
from stub_model import UntrainableModel
from torch import Tensor, nn

from cardiac_vae.data.phantom_factors import FACTORS
from cardiac_vae.evaluation.disentanglement import DisentanglementConfig, score_disentanglement
from cardiac_vae.evaluation.reconstruction import HeldOutSlices
from cardiac_vae.labels import Structure
from cardiac_vae.shape_model import Latents

WIDTH, NUM = 24, 300
CONFIG = DisentanglementConfig(max_codes=5, num_bins=8)


class Reading(UntrainableModel):
    """Counts the LV's pixels in each of the first five rows, and mixes or drops the counts."""

    def __init__(self, mixing: Tensor) -> None:
        super().__init__()
        self.mixing = nn.Parameter(mixing)

    def encode(
        self,
        mask: Tensor,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
        temperature: float = 0.0,
    ) -> list[Tensor]:
        written = mask[:, Structure.LV, : len(FACTORS)].sum(dim=2) / WIDTH
        return list((written @ self.mixing).split([2, self.mixing.shape[1] - 2], dim=1))

    def decode(
        self, latents: Latents, temperature: float = 0.0, condition: Tensor | None = None
    ) -> Tensor:
        return torch.zeros(len(latents[0]), 4, 7, WIDTH)

    @property
    def latent_sizes(self) -> list[int]:
        return [2, self.mixing.shape[1] - 2]


@pytest.fixture
def written(rng: np.random.Generator) -> tuple[HeldOutSlices, np.ndarray]:
    factors = rng.integers(0, WIDTH + 1, (NUM, len(FACTORS)))
    masks = np.zeros((NUM, 7, WIDTH), np.uint8)
    masks[:, : len(FACTORS)] = Structure.LV * (np.arange(WIDTH) < factors[:, :, None])
    masks[:, 5], masks[:, 6, :3] = Structure.MYO, (Structure.RV, Structure.LV, 0)
    masks[-40:, 6, 0] = 0  # these show no RV
    owners = [str(index // 10) for index in range(NUM)]
    return HeldOutSlices(masks, owners, owners, (1.5, 1.5)), factors / WIDTH


def test_codes_that_are_the_factors(written: tuple[HeldOutSlices, np.ndarray]) -> None:
    scores = score_disentanglement(Reading(2 * torch.eye(5)), *written, CONFIG)
    assert (scores["num_slices"], scores["num_patients"], scores["num_codes"]) == (260, 26, 5)
    assert scores["mig"] > 0.9
    assert scores["sap"] > 0.9
    assert min(scores["dci"].values()) > 0.9
    assert 0 <= scores["total_correlation"] < 0.1
    assert set(scores["mig_by_factor"]) == set(FACTORS)
    assert scores["sap"] == pytest.approx(np.mean(list(scores["sap_by_factor"].values())))


def test_mixed_codes(written: tuple[HeldOutSlices, np.ndarray]) -> None:
    torch.manual_seed(0)
    mixing = torch.linalg.qr(torch.randn(5, 5)).Q
    scores = score_disentanglement(Reading(mixing), *written, CONFIG)
    assert scores["mig"] < 0.3
    assert scores["dci"]["disentanglement"] < 0.5
    doubled = Reading(torch.cat([mixing, mixing[:, :1] + 0.1 * mixing[:, 1:2]], dim=1))
    config = CONFIG.model_copy(update={"max_codes": 6})
    found = score_disentanglement(doubled, *written, config)["total_correlation"]
    assert found > scores["total_correlation"] + 1


def test_only_active_codes_that_vary_most_are_looked_at(
    written: tuple[HeldOutSlices, np.ndarray],
) -> None:
    scales = torch.tensor([3.0, 1.0, 0.01, 4.0, 2.0]).diag()
    scores = score_disentanglement(Reading(scales), *written, CONFIG)
    assert scores["num_codes"] == 4  # the variance of 0.01 u is below 0.01
    few = CONFIG.model_copy(update={"max_codes": 2, "num_slices": 100})
    scores = score_disentanglement(Reading(scales), *written, few)
    assert (scores["num_codes"], scores["num_slices"]) == (2, 100)
    by_factor = scores["mig_by_factor"]
    assert {name for name, gap in by_factor.items() if gap > 0.5} == {FACTORS[0], FACTORS[3]}


def test_a_collapsed_model_has_no_scores(written: tuple[HeldOutSlices, np.ndarray]) -> None:
    scores = score_disentanglement(Reading(torch.zeros(5, 5)), *written, CONFIG)
    assert scores["num_codes"] == 0
    assert "mig" not in scores


def test_factors_belong_to_slices(written: tuple[HeldOutSlices, np.ndarray]) -> None:
    slices, factors = written
    with pytest.raises(ValueError, match=r"factors: expected \(300, 5\), got \(299, 5\)"):
        score_disentanglement(Reading(torch.eye(5)), slices, factors[1:], CONFIG)
    no_rv = HeldOutSlices(slices.masks[-9:], ["a"] * 9, ["a"] * 9, (1.5, 1.5))
    with pytest.raises(ValueError, match="that show all structures, got none of 9"):
        score_disentanglement(Reading(torch.eye(5)), no_rv, factors[-9:], CONFIG)
