"""What every model makes of a mask: its code, what the code decodes to, and what lies between."""

import pytest
import torch
from tiny_models import VARIATIONAL, WITHOUT_SPREAD, assert_distribution, settled

from cardiac_vae.latent_space import encode_cohort, interpolate, leading_directions, traverse


def test_reconstructions_are_distributions_over_classes(model, masks):
    assert_distribution(model.reconstruct(masks), masks.shape)
    soft = (3 * torch.randn_like(masks)).softmax(dim=1)  # a segmenter's probabilities
    assert_distribution(model.reconstruct(soft, torch.ones(5, dtype=torch.bool)), masks.shape)


def test_codes_have_the_sizes_that_are_announced_and_decode_to_the_reconstruction(model, masks):
    latents = model.encode(masks)
    assert [z[0].numel() for z in latents] == model.latent_sizes
    assert sum(model.latent_sizes) % model.num_latents == 0  # a token has several numbers
    assert all(len(z) == 5 for z in latents)
    decoded = model.decode(latents)
    assert decoded.shape == masks.shape
    torch.testing.assert_close(decoded.softmax(dim=1), model.reconstruct(masks))


def test_coding_draws_no_random_numbers(model, masks):
    state = torch.get_rng_state()
    assert torch.equal(model.reconstruct(masks), model.reconstruct(masks))
    assert torch.equal(torch.get_rng_state(), state)


@torch.no_grad()
@pytest.mark.parametrize("name", sorted(set(VARIATIONAL) - WITHOUT_SPREAD))
def test_codes_at_a_temperature_scatter_about_the_mean(name, masks):
    model = settled(name)
    many = masks[:1].expand(500, -1, -1, -1)
    cold = model.encode(many)
    # The group that is inferred first hangs on no draw: its draws have the mean of its posterior.
    first = -1 if name == "hvae" else 0
    means = {}
    for temperature in (0.5, 1.0):
        warm = model.encode(many, temperature=temperature)[first]
        means[temperature] = (warm - cold[first]).std(dim=0)
        error = (warm.mean(dim=0) - cold[first][0]).abs() / means[temperature]
        assert error.max() < 6 / 500**0.5
    torch.testing.assert_close(2 * means[0.5], means[1.0], rtol=0.3, atol=0.0)


@pytest.mark.parametrize("batch", [1, 3])
def test_in_eval_mode_a_case_does_not_see_its_batch(model, masks, batch):
    whole = model.reconstruct(masks)
    parts = torch.cat([model.reconstruct(part) for part in masks.split(batch)])
    torch.testing.assert_close(parts, whole)


def test_the_input_is_not_changed(model, masks):
    before = masks.clone()
    model(masks, is_broken=torch.ones(5, dtype=torch.bool))
    model.edit(masks, 0, torch.zeros(1))
    assert torch.equal(masks, before)


def test_editing_a_group_changes_the_mask_and_a_change_of_zero_keeps_the_code(model, masks):
    latents = model.encode(masks)
    whole = model.reconstruct(masks)
    for group, z in enumerate(latents):
        still = model.edit(masks, group, torch.zeros_like(z))
        expected = model.decode(latents[: group + 1]).softmax(dim=1)
        torch.testing.assert_close(still, expected)
        edited = model.edit(masks, group, torch.ones_like(z))
        assert_distribution(edited, masks.shape)
        assert ((edited - still).abs().amax(dim=(1, 2, 3)) > 1e-4).all()
    torch.testing.assert_close(still, whole)  # nothing lies below the last group


def test_a_group_that_is_not_there_cannot_be_edited(model, masks):
    for group in (-1, len(model.latent_sizes)):
        with pytest.raises(ValueError, match=rf"group: expected 0 to \d, got {group}"):
            model.edit(masks, group, torch.zeros(1))


def test_the_way_between_two_masks_starts_and_ends_at_their_reconstructions(model, masks):
    steps = interpolate(model, masks[:2], masks[2:4], 5)
    assert_distribution(steps.flatten(end_dim=1), (10, 4, 16, 16))
    torch.testing.assert_close(steps[0], model.reconstruct(masks[:2]))
    torch.testing.assert_close(steps[-1], model.reconstruct(masks[2:4]))
    means = zip(model.encode(masks[:2]), model.encode(masks[2:4]), strict=True)
    middle = model.decode([(first + second) / 2 for first, second in means])
    torch.testing.assert_close(steps[2], middle.softmax(dim=1))


def test_a_traversal_starts_at_what_the_groups_down_to_the_moved_one_say(model, masks):
    codes = encode_cohort(model, masks)
    for group, z in enumerate(codes):
        found = leading_directions(z, masks, 2)
        assert found.vectors.shape == (2, *z.shape[1:])
        moved = traverse(model, masks[:1], group, found.one_sd[0], (-3, 0, 3))
        still = model.edit(masks[:1], group, torch.zeros_like(z[:1]))
        torch.testing.assert_close(moved[1:2], still)
        assert ((moved[::2] - still).abs().amax(dim=(1, 2, 3)) > 1e-5).all()
    torch.testing.assert_close(still, model.reconstruct(masks[:1]))  # nothing lies below the last
