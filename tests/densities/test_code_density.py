import math

import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal

from cardiac_vae.densities.code_density import CodeDensity, rows
from cardiac_vae.densities.drawing import draw_codes, look_again
from cardiac_vae.densities.file import load_density, save_density
from cardiac_vae.densities.fit import DensityConfig, fit_code_density
from cardiac_vae.densities.normal_mixture import NormalMixture

KINDS = ("mixture", "gaussian", "kernels", "vampprior")


class Scores:
    """A normal of two scores."""

    def __init__(self):
        self.normal = MultivariateNormal(
            torch.tensor([1.0, -2.0], dtype=torch.float64),
            torch.tensor([[0.5, 0.2], [0.2, 2.0]], dtype=torch.float64),
        )

    def log_prob(self, scores):
        return self.normal.log_prob(scores)

    def sample(self, num_samples, generator):
        noise = torch.randn(num_samples, 2, dtype=torch.float64, generator=generator)
        return self.normal.loc + noise @ self.normal.scale_tril.T


@pytest.fixture
def density():
    generator = torch.Generator().manual_seed(3)
    matrix = torch.randn(5, 2, dtype=torch.float64, generator=generator)
    return CodeDensity(torch.linalg.qr(matrix)[0], Scores(), ((2,), (3,)))


def joint(density):
    """Return the normal of all scalars that a density of two scores makes."""
    u, normal = density.directions, density.scores.normal
    rest = torch.eye(len(u), dtype=u.dtype) - u @ u.T
    return MultivariateNormal(u @ normal.loc, u @ normal.covariance_matrix @ u.T + rest)


def test_the_density_of_the_whole_code_is_normalized_and_its_ratio_to_the_prior_is_right(density):
    noise = [torch.randn(6, 2), torch.randn(6, 3), torch.randn(6, 9)]  # the last has no density
    e = rows(noise[:2])
    prior = Independent(Normal(torch.zeros(5).double(), 1.0), 1)
    expected = joint(density).log_prob(e) - prior.log_prob(e)
    torch.testing.assert_close(density.log_ratio(noise), expected)


def test_draws_have_the_density_along_its_directions_and_the_prior_elsewhere(density):
    drawn = density.draw(40_000, torch.Generator().manual_seed(0))
    assert [group.shape for group in drawn] == [(40_000, 2), (40_000, 3)]
    e, expected = rows(drawn), joint(density)
    torch.testing.assert_close(e.mean(dim=0), expected.mean, rtol=0, atol=0.03)
    torch.testing.assert_close(torch.cov(e.T), expected.covariance_matrix, rtol=0, atol=0.06)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["ae", "cvae", "nvae", "vae"])
def test_a_density_of_any_kind_is_fitted_to_the_codes_of_any_model(build, masks, name, kind):
    model = build(name)
    config = DensityConfig(kind=kind, num_components=3, num_dimensions=2)
    density = fit_code_density(model, masks, config)
    identity = density.directions.T @ density.directions
    torch.testing.assert_close(identity, torch.eye(2, dtype=torch.float64))
    assert len(density.directions) == sum(model.latent_sizes)
    latents = draw_codes(model, density, 5, torch.Generator().manual_seed(0))
    assert [z[0].numel() for z in latents] == model.latent_sizes
    assert bool(density.log_ratio(model.noise_of(latents)).isfinite().all())
    again = fit_code_density(model, masks, config)
    torch.testing.assert_close(again.log_ratio(latents), density.log_ratio(latents))


def test_a_mixture_of_codes_explains_them_better_than_the_prior(build, masks):
    model = build("vae")
    with torch.no_grad():  # codes of two kinds, far from 0
        model.encoder[-1].bias[:3] += 8.0
    density = fit_code_density(model, masks, DensityConfig(num_components=2, num_dimensions=3))
    assert density.log_ratio(model.encode(one_hot_of(masks))).min() > 20


def one_hot_of(masks):
    return torch.nn.functional.one_hot(masks.long(), 4).movedim(-1, 1).float()


def test_the_top_groups_alone_can_have_a_density(build, masks):
    model = build("nvae")
    config = DensityConfig(num_components=2, num_dimensions=4, num_groups=1)
    density = fit_code_density(model, masks, config)
    assert len(density.directions) == model.latent_sizes[0]
    assert density.num_groups == 1
    latents = draw_codes(model, density, 5, torch.Generator().manual_seed(0))
    assert len(latents) == 1
    assert model.decode(latents, temperature=1.0).shape == (5, 4, 16, 16)


def test_no_more_directions_than_codes_have(build, masks):
    density = fit_code_density(build("vae"), masks, DensityConfig(num_components=2))
    assert density.directions.shape == (3, 3)


def test_fitting_leaves_the_generator_as_it_was(build, masks):
    model = build("vae")
    state = torch.get_rng_state()
    fit_code_density(model, masks, DensityConfig(num_components=2))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_second_look_is_a_draw_of_the_heart_behind_what_was_drawn(build, masks):
    model = build("vae")
    torch.manual_seed(5)
    seen = look_again(model, masks)
    torch.manual_seed(5)
    codes = model.encode(one_hot_of(masks), torch.ones(40, dtype=torch.bool), temperature=1.0)
    assert seen.dtype == torch.uint8
    assert torch.equal(seen, model.decode(codes).argmax(dim=1).to(torch.uint8))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_is_what_was_written(build, masks, tmp_path, kind):
    model = build("nvae")
    config = DensityConfig(kind=kind, num_components=2, num_dimensions=3)
    density = fit_code_density(model, masks, config)
    save_density(tmp_path, density)
    read = load_density(tmp_path)
    noise = [torch.randn(4, *shape) for shape in density.group_shapes]
    assert torch.equal(read.log_ratio(noise), density.log_ratio(noise))
    assert read.group_shapes == density.group_shapes
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "density.safetensors",
        "density.yaml",
    ]


def test_a_folder_without_a_density_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected the folder of a density over codes"):
        load_density(tmp_path)


def test_files_that_do_not_fit_are_said_in_one_line(build, masks, tmp_path):
    density = fit_code_density(build("vae"), masks, DensityConfig(kind="kernels"))
    save_density(tmp_path, density)
    settings = tmp_path / "density.yaml"
    settings.write_text(settings.read_text().replace("normal_mixture", "bayesian_mixture"))
    with pytest.raises(ValueError, match=r"to fit density\.yaml, got") as no:
        load_density(tmp_path)
    assert "\n" not in str(no.value)


def test_an_unknown_family_is_not_written(density, tmp_path):
    with pytest.raises(ValueError, match=r"density: expected one of .*, got Scores"):
        save_density(tmp_path, density)


def test_a_density_of_normals_at_the_prior_gains_nothing():
    generator = torch.Generator().manual_seed(0)
    standard = NormalMixture(torch.zeros(1, 2).double(), torch.eye(2).double()[None])
    density = CodeDensity(torch.eye(2).double(), standard, ((2,),))
    noise = density.draw(100, generator)
    assert math.isclose(float(density.log_ratio(noise).abs().max()), 0, abs_tol=1e-9)
