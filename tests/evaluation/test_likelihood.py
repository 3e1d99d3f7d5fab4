"""Against a model whose log p(x) is known: one latent number, integrated by quadrature."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cardiac_vae.data.transforms import one_hot
from cardiac_vae.evaluation.likelihood import (
    LikelihoodConfig,
    draw_log_weights,
    effective_draws,
    log_likelihood,
    score_likelihood,
)
from cardiac_vae.evaluation.reconstruction import HeldOutSlices
from cardiac_vae.layers.distributions import DiagonalNormal
from cardiac_vae.layers.likelihoods import categorical_nll
from cardiac_vae.shape_model import Latents, LossTerms, ShapeModel

SIZE = 4


class Tractable(ShapeModel):
    """x ~ Categorical(softmax(a z + b)), z ~ N(0, 1); q(z | x) is near the posterior and not it."""

    def __init__(self, has_density: bool = True) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.slope = nn.Parameter(torch.randn(4, SIZE, SIZE, generator=generator))
        self.offset = nn.Parameter(torch.randn(4, SIZE, SIZE, generator=generator))
        self.has_density = has_density
        self.most_at_once = 0

    def posterior(self, mask: Tensor) -> DiagonalNormal:
        mu = 0.15 * (mask * self.slope).sum(dim=(1, 2, 3))[:, None]
        return DiagonalNormal(mu, torch.full_like(mu, math.log(0.7)))

    def forward(
        self,
        mask: Tensor,
        target: Tensor | None = None,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, LossTerms]:
        self.most_at_once = max(self.most_at_once, len(mask))
        posterior = self.posterior(mask)
        prior = DiagonalNormal.standard_like(posterior.mu)
        z = posterior.rsample()
        logits = self.decode([z])
        ratio = posterior.log_prob(z) - prior.log_prob(z) if self.has_density else None
        kl = posterior.kl(prior)[:, None]
        return logits, LossTerms(categorical_nll(logits, mask), kl, ratio)

    def loss(self, terms: LossTerms, warmup: float = 1.0, progress: float = 1.0) -> Tensor:
        return terms.negative_elbo.mean()

    def encode(
        self,
        mask: Tensor,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
        temperature: float = 0.0,
    ) -> list[Tensor]:
        return [self.posterior(mask).mu]

    def decode(
        self, latents: Latents, temperature: float = 0.0, condition: Tensor | None = None
    ) -> Tensor:
        return latents[0][:, :, None, None] * self.slope + self.offset

    def sample(
        self, num_samples: int, temperature: float = 1.0, condition: Tensor | None = None
    ) -> Tensor:
        return self.decode([torch.randn(num_samples, 1)]).softmax(dim=1)

    @property
    def latent_sizes(self) -> list[int]:
        return [1]

    @torch.no_grad()
    def exact(self, mask: np.ndarray) -> float:
        """Return log p(x) of a mask (H, W) by Gauss-Hermite quadrature."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(120)
        logits = self.decode([torch.from_numpy(nodes).float()[:, None]])
        costs = categorical_nll(logits, one_hot(torch.from_numpy(mask[None])).expand_as(logits))
        log_weights = np.log(weights / math.sqrt(2 * math.pi))
        return float(np.logaddexp.reduce(log_weights - costs.double().numpy()))


@pytest.fixture
def model() -> Tractable:
    return Tractable().eval()


@pytest.fixture
def slices(rng: np.random.Generator) -> HeldOutSlices:
    masks = rng.integers(0, 4, (7, SIZE, SIZE)).astype(np.uint8)
    masks[3] = 0
    return HeldOutSlices(masks, list("aabbccd"), list("aabbccd"), (1.5, 1.5))


def test_many_draws_find_the_likelihood(model: Tractable, slices: HeldOutSlices) -> None:
    torch.manual_seed(0)
    for mask in slices.masks:
        weights = draw_log_weights(model, mask, LikelihoodConfig(num_draws=20000, batch_size=20000))
        assert weights is not None
        assert float(log_likelihood(weights[None])) == pytest.approx(model.exact(mask), abs=0.03)


def test_the_bound_rises_with_the_draws_and_starts_at_the_elbo(
    model: Tractable, slices: HeldOutSlices
) -> None:
    torch.manual_seed(0)
    mask = slices.masks[0]
    weights = draw_log_weights(model, mask, LikelihoodConfig(num_draws=40000, batch_size=40000))
    assert weights is not None
    bounds = [float(log_likelihood(weights.view(-1, k)).mean()) for k in (1, 2, 8, 64)]
    assert bounds == sorted(bounds)
    assert bounds[0] == pytest.approx(float(weights.mean()))
    # The gaps are far above their standard error of about 0.005.
    assert bounds[0] + 0.1 < bounds[-1] < model.exact(mask) + 0.01
    with torch.no_grad():
        terms = model(one_hot(torch.from_numpy(mask[None])).expand(20000, -1, -1, -1))[1]
    assert bounds[0] == pytest.approx(-float(terms.negative_elbo.mean()), abs=0.05)


def test_equal_weights_are_all_effective_and_a_single_one_alone() -> None:
    weights = torch.tensor([[2.0, 2.0, 2.0, 2.0], [900.0, 0.0, 0.0, 0.0], [1.0, 1.0, -99.0, -99.0]])
    torch.testing.assert_close(effective_draws(weights), torch.tensor([4.0, 1.0, 2.0]))
    expected = [2.0, 900 - math.log(4), 1 - math.log(2)]
    torch.testing.assert_close(log_likelihood(weights), torch.tensor(expected))


def test_scores_are_of_the_slices_with_a_heart(model: Tractable, slices: HeldOutSlices) -> None:
    config = LikelihoodConfig(num_draws=500, batch_size=64)
    scores = score_likelihood(model, slices, config)
    assert scores is not None
    assert model.most_at_once == 64
    counts = ("num_draws", "num_slices", "num_patients", "num_dimensions")
    assert [scores[name] for name in counts] == [500, 6, 4, SIZE**2]
    metrics = scores["metrics"]
    exact = np.mean([model.exact(mask) for mask in slices.masks if mask.any()])
    nll = metrics["negative_log_likelihood"]["mean"]
    assert nll == pytest.approx(-exact, abs=0.1)
    assert metrics["bits_per_dimension"]["mean"] == pytest.approx(nll / 16 / math.log(2))
    assert metrics["negative_elbo"]["mean"] > nll
    assert 1 < metrics["effective_draws"]["mean"] < 500
    assert metrics["negative_log_likelihood"]["low"] < nll


def test_a_subset_is_drawn_by_its_seed_and_leaves_the_generator(
    model: Tractable, slices: HeldOutSlices
) -> None:
    config = LikelihoodConfig(num_draws=4, num_slices=3)
    torch.manual_seed(3)
    expected = torch.randn(2)
    torch.manual_seed(3)
    first = score_likelihood(model, slices, config)
    torch.testing.assert_close(torch.randn(2), expected)
    assert first is not None
    assert first["num_slices"] == 3
    assert score_likelihood(model, slices, config) == first
    assert score_likelihood(model, slices, config.model_copy(update={"seed": 1})) != first


def test_a_model_without_weights_has_no_likelihood(slices: HeldOutSlices) -> None:
    assert score_likelihood(Tractable(has_density=False), slices) is None
