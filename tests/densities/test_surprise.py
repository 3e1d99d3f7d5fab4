import pytest
import torch

from cardiac_vae.data.transforms import one_hot
from cardiac_vae.densities.code_density import CodeDensity
from cardiac_vae.densities.fit import DensityConfig, fit_code_density
from cardiac_vae.densities.normal_mixture import NormalMixture
from cardiac_vae.densities.surprise import surprise


def prior_of(size):
    """Return a density that is the prior."""
    standard = NormalMixture(torch.zeros(1, size).double(), torch.eye(size).double()[None])
    return CodeDensity(torch.eye(size).double(), standard, ((size,),))


def test_with_the_prior_itself_the_surprise_is_the_negative_elbo(build, masks):
    model = build("vae")
    torch.manual_seed(0)
    found = surprise(model, prior_of(3), masks, num_draws=100)
    torch.manual_seed(1)
    bounds = [model(one_hot(masks))[1].negative_elbo for _ in range(100)]
    expected = torch.stack(bounds).double()
    error = (2 * expected.var(dim=0) / 100).sqrt()
    assert ((found - expected.mean(dim=0)).abs() < 5 * error + 1e-3).all()


def test_a_density_at_the_codes_lowers_the_surprise_by_what_it_gains(build, masks):
    model = build("vae")
    with torch.no_grad():
        model.encoder[-1].bias[:3] += 8.0
    density = fit_code_density(model, masks, DensityConfig(num_components=2, num_dimensions=3))
    torch.manual_seed(0)
    before, after = (surprise(model, d, masks, num_draws=50) for d in (prior_of(3), density))
    codes = [model.encode(one_hot(masks), temperature=1.0) for _ in range(50)]
    gain = torch.stack([density.log_ratio(z) for z in codes]).mean(dim=0)
    torch.testing.assert_close(before - after, gain, rtol=0.2, atol=3.0)


def test_a_model_without_a_bound_is_refused(build, masks):
    with pytest.raises(ValueError, match="surprise: expected a model with a bound, got"):
        surprise(build("ae"), prior_of(3), masks)
