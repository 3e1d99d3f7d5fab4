"""What every model with a prior draws, and what the noise behind a draw is."""

import pytest
import torch
from tiny_models import (
    CONDITION,
    GENERATIVE,
    WITHOUT_NOISE,
    WITHOUT_PRIOR,
    assert_distribution,
    perturbed,
    settled,
)


def test_samples_are_distributions_over_classes(generative):
    assert generative.has_prior
    for number in (1, 3):
        assert_distribution(generative.sample(number).detach(), (number, 4, 16, 16))


def test_samples_are_decoded_draws(generative):
    torch.manual_seed(3)
    latents = generative.draw(4)
    assert [len(group) for group in latents] == [4] * len(latents)
    torch.manual_seed(3)
    expected = generative.decode(latents).softmax(dim=1)
    torch.manual_seed(3)
    torch.testing.assert_close(generative.sample(4), expected)


@pytest.mark.parametrize("name", sorted(WITHOUT_PRIOR))
def test_a_model_without_a_prior_says_so_when_it_is_to_sample(name):
    model = perturbed(name)
    assert not model.has_prior
    with pytest.raises(ValueError, match="draw: expected a model with a prior, got "):
        model.sample(3)


def test_temperature_zero_is_deterministic_and_one_is_not(generative):
    cold = generative.sample(3, temperature=0.0)
    assert torch.equal(cold, generative.sample(3, temperature=0.0))
    torch.testing.assert_close(cold[:1].expand_as(cold), cold)
    warm = generative.sample(3)
    assert not torch.allclose(warm[0], warm[1])
    assert not torch.allclose(warm, generative.sample(3))


@torch.no_grad()
@pytest.mark.parametrize("name", sorted(set(GENERATIVE) - WITHOUT_NOISE))
def test_noise_and_latents_say_the_same_and_noise_of_the_prior_is_standard(name):
    model = settled(name)
    told = CONDITION[:1]
    drawn = model.draw(2000, condition=told)
    noise = model.noise_of(drawn, told)
    assert [e.shape for e in noise] == [z.shape for z in drawn]
    for z, again in zip(drawn, model.from_noise(noise, told), strict=True):
        torch.testing.assert_close(z, again, rtol=1e-4, atol=1e-4)
    for e in noise:  # N(0, I), whatever lies above
        assert e.mean(dim=0).abs().max() < 6 / 2000**0.5
        assert (e.std(dim=0) - 1).abs().max() < 6 / 4000**0.5
    top = model.noise_of(drawn[:1], told)
    torch.testing.assert_close(top, noise[:1])


@pytest.mark.parametrize("name", sorted(WITHOUT_NOISE))
def test_a_model_without_noise_says_so(name, masks):
    model = perturbed(name)
    for asked in (model.noise_of, model.from_noise):
        with pytest.raises(ValueError, match="noise: expected a model of continuous latents"):
            asked(model.encode(masks))
