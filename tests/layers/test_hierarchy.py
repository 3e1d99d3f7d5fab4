import pytest
import torch

from cardiac_vae.layers.hierarchy import Generator, HierarchyConfig, NormalHead, upward_steps

TINY = {
    "image_size": 32,
    "patch_size": 2,
    "channels": (4, 8, 12),
    "groups": (2, 1, 3),
    "latent_channels": 2,
    "group_width": 4,
}
CONFIG = HierarchyConfig(**TINY)
SHAPES = [*[(2, 4, 4)] * 3, (2, 8, 8), *[(2, 16, 16)] * 2]  # of the groups, top first


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def generator():
    generator = Generator(CONFIG).eval()
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return generator


def draws(batch=3):
    return [torch.randn(batch, *shape) for shape in SHAPES]


def test_groups_of_a_scale_share_its_size_and_the_top_comes_first():
    assert CONFIG.scales == [2, 2, 2, 1, 0, 0]
    assert CONFIG.sizes == [4, 4, 4, 8, 16, 16]
    assert CONFIG.latent_sizes == [2 * 16] * 3 + [2 * 64] + [2 * 256] * 2
    solid = HierarchyConfig(**TINY, spatial_dims=3)
    assert solid.latent_sizes == [2 * 64] * 3 + [2 * 512] + [2 * 4096] * 2


def test_scales_need_one_width_and_one_count_each():
    with pytest.raises(ValueError, match="expected one of each per scale"):
        HierarchyConfig(channels=(8, 8), groups=(1,))
    with pytest.raises(ValueError, match="image_size 20 is not divisible by 8"):
        HierarchyConfig(image_size=20, channels=(8, 8), groups=(1, 1))


def test_the_way_up_meets_every_group_at_its_own_size_and_width():
    x, shapes = torch.randn(2, 5, 32, 32), []
    for step in upward_steps(CONFIG):
        x = step(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes[::-1] == [*[(12, 4, 4)] * 3, (8, 8, 8), *[(4, 16, 16)] * 2]


def test_the_prior_of_the_top_is_the_standard_normal(generator):
    prior = generator.prior([], 3)
    assert prior.mu.shape == (3, *SHAPES[0])
    assert not prior.mu.any()
    assert not prior.log_sigma.any()


@torch.no_grad()
def test_the_prior_of_a_group_sees_the_group_above_it_and_no_other(generator):
    latents, others = draws(), draws()
    for group in range(1, 6):
        prior = generator.prior(latents[:group], 3)
        assert prior.mu.shape == (3, *SHAPES[group])
        same = generator.prior([*others[: group - 1], latents[group - 1]], 3)
        assert torch.equal(same.mu, prior.mu)
        assert torch.equal(same.log_sigma, prior.log_sigma)
        moved = generator.prior([*latents[: group - 1], others[group - 1]], 3)
        assert not torch.allclose(moved.mu, prior.mu)
        assert not torch.allclose(moved.log_sigma, prior.log_sigma)


@torch.no_grad()
def test_the_mask_is_that_of_the_chain_and_what_is_not_given_is_drawn_at_a_temperature(generator):
    latents = draws()
    torch.testing.assert_close(generator(latents, 3), generator.image(latents[-1]))
    for temperature in (0.0, 0.7):
        torch.manual_seed(1)
        logits = generator(latents[:4], 3, temperature)
        torch.manual_seed(1)
        fifth = generator.links[3](latents[3]).rsample(temperature)
        sixth = generator.links[4](fifth).rsample(temperature)
        assert torch.equal(logits, generator.image(sixth))
    assert generator([], 7).shape == (7, 4, 32, 32)


def test_more_groups_than_there_are_cannot_be_decoded(generator):
    with pytest.raises(ValueError, match="latents: expected at most 6 groups, got 7"):
        generator([*draws(), torch.zeros(3, 2, 16, 16)], 3)


@pytest.mark.parametrize("log_sigma", [0.0, 2.0])
def test_a_head_starts_near_where_it_is_told_but_not_at_it(log_sigma):
    normal = NormalHead(2, 16, 3, log_sigma)(torch.randn(20, 16, 8, 8))
    assert normal.mu.shape == (20, 3, 8, 8)
    start = 5 * torch.tanh(torch.tensor(log_sigma / 5))
    for values in (normal.mu, normal.log_sigma - start):
        assert 0 < values.abs().mean() < 0.1


def test_no_weight_can_push_a_head_out_of_reach():
    head = NormalHead(2, 8, 2, log_sigma=2.0)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter += 100 * torch.randn_like(parameter)
    normal = head(torch.randn(2, 8, 4, 4))
    for values in (normal.mu, normal.log_sigma):
        assert 4 < values.abs().max() <= 5
