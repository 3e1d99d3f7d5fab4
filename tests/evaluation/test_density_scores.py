from dataclasses import replace

import numpy as np
import pytest
import torch
from stub_model import UntrainableModel
from torch import Tensor

from cardiac_vae.data.prepared import read_prepared, write_records
from cardiac_vae.densities.code_density import CodeDensity
from cardiac_vae.densities.fit import DensityConfig
from cardiac_vae.densities.normal_mixture import NormalMixture
from cardiac_vae.densities.surprise_scale import SurpriseConfig, SurpriseScale
from cardiac_vae.evaluation.densities import (
    DensityScoresConfig,
    fit_and_score_densities,
    score_density,
)
from cardiac_vae.evaluation.reconstruction import HeldOutSlices
from cardiac_vae.labels import Structure
from cardiac_vae.models import build_model
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


def test_by_rejection_all_are_hearts_at_the_price_of_draws(slices):
    """Codes are N(0, 1) and those beyond 1 are no hearts: 68 % are accepted."""
    normal = NormalMixture(torch.zeros(1, 1).double(), torch.ones(1, 1, 1).double())
    density = CodeDensity(torch.ones(1, 1).double(), normal, ((1,),))
    config = DensityScoresConfig(num_samples=64, num_passes=0, max_tries=12)
    found = score_density(Rings(), density, slices, slices, config)["rejection"]
    assert found["valid_samples"]["mean"] == 1.0
    assert found["acceptance"]["low"] < 0.683 < found["acceptance"]["high"]
    assert found["tries_per_heart"] == pytest.approx(1 / found["acceptance"]["mean"])
    assert found["acceptance"]["n"] == round(64 * found["tries_per_heart"])
    assert found["frechet"]["mean"] >= 0


def test_a_prior_that_draws_no_heart_is_said_to_draw_none(slices):
    far = NormalMixture(torch.full((1, 1), 50.0).double(), torch.ones(1, 1, 1).double())
    density = CodeDensity(torch.ones(1, 1).double(), far, ((1,),))
    config = DensityScoresConfig(num_samples=4, num_passes=0, max_tries=3)
    found = score_density(Rings(), density, slices, slices, config)["rejection"]
    assert found["tries_per_heart"] is None
    assert found["acceptance"]["n"] == 12


@pytest.fixture
def prepared(cohort, tmp_path):
    """Return the cohort's training hearts, on 48 x 48 pixels."""
    folder, cases = tmp_path / "prepared", []
    folder.mkdir()
    for case in read_prepared(cohort.prepared, "train")[:4]:
        mask = np.pad(case.load().mask[:, 1:49], ((0, 0), (0, 0), (1, 1)))
        cases.append(replace(case, path=folder / case.path.name))
        np.savez(cases[-1].path, mask=mask, image=mask, full_mask=mask, full_image=mask)
    write_records(folder, cases)
    return folder


@pytest.mark.parametrize(("name", "has_scale"), [("vae", True), ("ae", False)])
def test_the_surprise_of_training_hearts_is_kept_beside_a_density(
    prepared, tmp_path, name, has_scale
):
    torch.manual_seed(0)
    settings = {"image_size": 48, "channels": [4, 8], "latent_dim": 2}
    model = build_model(name, settings).eval()
    config = DensityScoresConfig(
        density=DensityConfig(kind="kernels"),
        controls=(),
        num_samples=2,
        num_passes=0,
        surprise=SurpriseConfig(num_hearts=7),
    )
    fitted = fit_and_score_densities(model, prepared, "train", config)
    folder = tmp_path / "density"
    fitted.save(folder)
    assert list(fitted.summary["densities"]) == (["prior"] if has_scale else []) + ["kernels"]
    assert (fitted.scale is not None) == has_scale
    assert (folder / "density.safetensors").is_file()
    assert (folder / "surprise.safetensors").is_file() == has_scale
    if has_scale:
        assert len(SurpriseScale.load(folder).hearts) == 7
