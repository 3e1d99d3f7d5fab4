"""What holds for every shape model, whatever it is made of."""

from dataclasses import replace

import pytest
import torch

from cardiac_vae.data.transforms import one_hot
from cardiac_vae.models import available_models, build_model

TINY = {
    "vae": {"image_size": 16, "channels": [8, 8], "latent_dim": 3},
    "nvae": {
        "image_size": 16,
        "channels": [8, 8],
        "groups": [2, 1],
        "latent_channels": 2,
        "group_width": 4,
    },
}


def perturbed(name, **changes):
    """Build a tiny model and move every weight a little: heads that start at zero say something."""
    torch.manual_seed(0)
    model = build_model(name, TINY[name] | changes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


@pytest.fixture(params=available_models())
def model(request):
    return perturbed(request.param).eval()


@pytest.fixture
def masks():
    torch.manual_seed(1)
    return one_hot(torch.randint(4, (5, 16, 16)))


def assert_distribution(probabilities, shape):
    assert probabilities.shape == shape
    assert (probabilities >= 0).all()
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(shape[0], *shape[2:]))


def test_every_model_is_under_this_contract():
    assert set(TINY) == set(available_models())


def test_reconstructions_and_samples_are_distributions_over_classes(model, masks):
    assert_distribution(model.reconstruct(masks), masks.shape)
    assert_distribution(model.sample(3).detach(), (3, 4, 16, 16))
    soft = (3 * torch.randn_like(masks)).softmax(dim=1)  # a segmenter's probabilities
    assert_distribution(model.reconstruct(soft, torch.ones(5, dtype=torch.bool)), masks.shape)


def test_terms_have_one_row_per_case_and_one_column_per_group(model, masks):
    logits, terms = model(masks)
    assert logits.shape == masks.shape
    assert terms.reconstruction.shape == (5,)
    assert terms.regularization.shape == (5, len(model.latent_sizes))
    assert (terms.reconstruction > 0).all()
    assert (terms.regularization >= 0).all()
    torch.testing.assert_close(terms.kl, terms.regularization.sum(dim=1))
    torch.testing.assert_close(terms.negative_elbo, terms.reconstruction + terms.kl)
    some = torch.tensor([True, False, False, True, False])
    assert torch.equal(terms.of(some).negative_elbo, terms.negative_elbo[some])
    extended = replace(terms, log_ratio=terms.kl, parts={"commitment": terms.reconstruction})
    assert torch.equal(extended.of(some).log_ratio, terms.kl[some])
    assert torch.equal(extended.of(some).parts["commitment"], terms.reconstruction[some])
    assert terms.of(some).parts == {}


@torch.no_grad()
def test_the_log_ratio_of_what_was_drawn_is_the_kl_in_the_mean(model, masks):
    """So -(reconstruction + log_ratio) is the logarithm of an importance weight."""
    terms = model(masks[:1].expand(4000, -1, -1, -1))[1]
    if terms.log_ratio is None:
        assert terms.regularization.shape[1] == 0
        return
    assert terms.log_ratio.shape == (4000,)
    spread = terms.log_ratio.std() / 4000**0.5
    assert spread > 0
    assert abs(terms.log_ratio.mean() - terms.kl.mean()) < 5 * spread


def test_the_target_is_what_is_explained_and_does_not_reach_the_posterior(model, masks):
    other = masks.roll(1, dims=1)
    torch.manual_seed(0)
    logits, terms = model(masks)
    torch.manual_seed(0)
    same_logits, other_terms = model(masks, other)
    assert torch.equal(logits, same_logits)
    assert torch.equal(terms.regularization, other_terms.regularization)
    expected = -(other * logits.log_softmax(dim=1)).sum(dim=(1, 2, 3))
    torch.testing.assert_close(other_terms.reconstruction, expected)
    assert not torch.equal(terms.reconstruction, expected)


@pytest.mark.parametrize("name", available_models())
def test_every_parameter_learns(name, masks):
    model = perturbed(name)
    is_broken = torch.tensor([True, False, True, False, False])
    model.loss(model(masks, is_broken=is_broken)[1]).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    silent = [name for name, grad in gradients.items() if grad is None or not grad.any()]
    assert silent == []
    assert all(bool(grad.isfinite().all()) for grad in gradients.values())


@pytest.mark.parametrize("name", available_models())
def test_no_weight_stands_still_from_its_start(name, masks):
    """Heads that start at zero hide what lies behind them for some steps, not for ever."""
    torch.manual_seed(0)
    model = build_model(name, TINY[name])
    before = {name: value.clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.Adamax(model.parameters(), lr=2e-3)
    for _ in range(4):
        optimizer.zero_grad()
        model.loss(model(masks)[1]).backward()
        optimizer.step()
    still = [name for name, value in model.named_parameters() if torch.equal(value, before[name])]
    assert still == []


def test_the_loss_is_the_mean_bound_and_the_warm_up_weighs_only_the_kl(model, masks):
    terms = model(masks)[1]
    torch.testing.assert_close(model.loss(terms), terms.negative_elbo.mean())
    torch.testing.assert_close(model.loss(terms, warmup=0.0), terms.reconstruction.mean())


def test_the_penalty_of_the_weights_is_one_number(model):
    assert model.penalty().shape == ()
    assert model.penalty() >= 0


@pytest.mark.parametrize("name", available_models())
def test_beta_weighs_the_loss_and_nothing_that_is_reported(name, masks):
    model, heavy = (perturbed(name, beta=beta).eval() for beta in (1.0, 4.0))
    torch.manual_seed(0)
    terms = model(masks)[1]
    torch.manual_seed(0)
    assert torch.equal(heavy(masks)[1].negative_elbo, terms.negative_elbo)
    expected = (terms.reconstruction + 4 * terms.kl).mean()
    torch.testing.assert_close(heavy.loss(terms), expected)


def test_codes_have_the_sizes_that_are_announced_and_decode_to_the_reconstruction(model, masks):
    latents = model.encode(masks)
    assert [z[0].numel() for z in latents] == model.latent_sizes
    assert sum(model.latent_sizes) == model.num_latents
    assert all(len(z) == 5 for z in latents)
    decoded = model.decode(latents)
    assert decoded.shape == masks.shape
    torch.testing.assert_close(decoded.softmax(dim=1), model.reconstruct(masks))


def test_coding_draws_no_random_numbers(model, masks):
    state = torch.get_rng_state()
    assert torch.equal(model.reconstruct(masks), model.reconstruct(masks))
    assert torch.equal(torch.get_rng_state(), state)


def test_temperature_zero_is_deterministic_and_one_is_not(model):
    cold = model.sample(3, temperature=0.0)
    assert torch.equal(cold, model.sample(3, temperature=0.0))
    torch.testing.assert_close(cold[:1].expand_as(cold), cold)
    warm = model.sample(3)
    assert not torch.allclose(warm[0], warm[1])
    assert not torch.allclose(warm, model.sample(3))


@pytest.mark.parametrize("batch", [1, 3])
def test_in_eval_mode_a_case_does_not_see_its_batch(model, masks, batch):
    whole = model.reconstruct(masks)
    parts = torch.cat([model.reconstruct(part) for part in masks.split(batch)])
    torch.testing.assert_close(parts, whole)
    assert len(model.sample(batch)) == batch


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


@pytest.mark.parametrize("name", available_models())
def test_what_is_learnt_of_broken_masks_leaves_the_posterior_of_whole_ones_apart(name, masks):
    torch.manual_seed(0)
    model = build_model(name, TINY[name])
    is_broken = torch.arange(10) < 5
    optimizer = torch.optim.Adamax(model.parameters(), lr=1e-2)
    for _ in range(8):
        optimizer.zero_grad()
        seen, target = torch.cat([masks, masks]), torch.cat([masks.roll(1, dims=0), masks])
        model.loss(model(seen, target, is_broken)[1]).backward()
        optimizer.step()
    model.eval()
    whole, broken = model.encode(masks), model.encode(masks, is_broken[:5])
    assert any((a - b).abs().max() > 1e-3 for a, b in zip(whole, broken, strict=True))
    unmarked = model.encode(masks, torch.zeros(5, dtype=torch.bool))
    assert all(torch.equal(a, b) for a, b in zip(whole, unmarked, strict=True))


def test_the_flag_marks_single_cases(model, masks):
    flag = torch.tensor([False, True, False, False, True])
    marked, plain = model.reconstruct(masks, flag), model.reconstruct(masks)
    torch.testing.assert_close(marked[~flag], plain[~flag])
    assert ((marked - plain)[flag].abs().amax(dim=(1, 2, 3)) > 1e-6).all()


def test_the_input_is_not_changed(model, masks):
    before = masks.clone()
    model(masks, is_broken=torch.ones(5, dtype=torch.bool))
    model.edit(masks, 0, torch.zeros(1))
    assert torch.equal(masks, before)


@pytest.mark.parametrize("name", available_models())
def test_three_dimensions_are_a_setting(name):
    settings = {"spatial_dims": 3, "channels": [4, 4], "patch_size": 2, "image_size": 8}
    model = perturbed(name, **settings)
    volumes = one_hot(torch.randint(4, (2, 8, 8, 8)))
    _, terms = model(volumes, is_broken=torch.tensor([True, False]))
    model.loss(terms).backward()
    model.eval()
    assert_distribution(model.reconstruct(volumes), volumes.shape)
    assert_distribution(model.sample(2).detach(), volumes.shape)
    latents = model.encode(volumes)
    assert [z[0].numel() for z in latents] == model.latent_sizes
    assert model.edit(volumes, 0, torch.ones_like(latents[0])).shape == volumes.shape


def test_what_cannot_be_built_is_said_in_one_line():
    with pytest.raises(ValueError, match=r"unknown model 'gan'; available: \['nvae', 'vae'\]"):
        build_model("gan", {})


@pytest.mark.parametrize("name", available_models())
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent_dims": 3}, "latent_dims: unknown parameter"),
        ({"image_size": 90}, "image_size 90 is not divisible by 16"),
        ({"spatial_dims": 4}, "spatial_dims: .*, got 4"),
        ({"beta": 0}, "beta: .*, got 0"),
    ],
)
def test_wrong_settings_are_named_with_their_model(name, settings, message):
    with pytest.raises(ValueError, match=f"settings of model '{name}': .*{message}") as caught:
        build_model(name, settings)
    assert "\n" not in str(caught.value)
