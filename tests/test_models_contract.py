"""What holds for every shape model, whatever it is made of."""

import re
from dataclasses import replace

import pytest
import torch

from cardiac_vae.data.conditions import Condition, encode_conditions
from cardiac_vae.data.transforms import one_hot
from cardiac_vae.latent_space import encode_cohort, interpolate, leading_directions, traverse
from cardiac_vae.models import available_models, build_model
from cardiac_vae.shape_model import ClosedFormModel

VECTOR = {"image_size": 16, "channels": [8, 8], "latent_dim": 3}
HIERARCHY = {
    "image_size": 16,
    "channels": [8, 8],
    "groups": [2, 1],
    "latent_channels": 2,
    "group_width": 4,
}
TINY = {
    "ae": VECTOR,
    "cvae": VECTOR,
    "hvae": HIERARCHY,
    "lvae": HIERARCHY,
    "nvae": HIERARCHY,
    "pca": {"image_size": 16, "num_modes": 3},
    "vae": VECTOR,
    "vq_vae": {
        "image_size": 16,
        "patch_size": 2,
        "channels": [8, 8],
        "cells": [1, 1],
        "quantizer": {"num_embeddings": 512, "embedding_dim": 1},  # fine: little moves a token
        "prior": {"width": 8, "num_layers": 1, "num_heads": 2},
    },
}
NETWORK_3D = {"spatial_dims": 3, "channels": [4, 4], "patch_size": 2, "image_size": 8}
TINY_3D = dict.fromkeys(TINY, NETWORK_3D) | {"pca": {"spatial_dims": 3, "image_size": 8}}

VARIANTS = {  # settings of one model that change what it is
    "vae: bits": ("vae", {"likelihood": {"name": "bernoulli"}}),
    "vae: normals, capacity": (
        "vae",
        {"likelihood": {"name": "gaussian", "scale": 0.5}, "regularizer": {"name": "capacity"}},
    ),
    "vae: learnt scale, total correlation": (
        "vae",
        {
            "likelihood": {"name": "gaussian", "scale": 0.5, "is_scale_learnt": True},
            "regularizer": {"name": "total_correlation", "estimator": "stratified"},
        },
    ),
}
EVERY = [*TINY, *VARIANTS]

# What does not hold for every model, and for which it does not.
SOLVED = {"pca"}  # no gradient; a broken mask is coded as any other
WITHOUT_BOUND = {"ae", "pca"}  # no KL
WITHOUT_PRIOR = {"ae"}  # nothing to sample from
WITHOUT_SPREAD = {"vq_vae"}  # q(z | x) is a point
WITHOUT_BETA = {"vq_vae"}  # the rate teaches the prior alone
WITHOUT_NOISE = {"vq_vae"}  # tokens are no normals
WITH_ESTIMATED_KL = {"hvae"}  # columns are log-ratios of a draw, not negative in the mean alone

TRAINED = [name for name in EVERY if name not in SOLVED]
VARIATIONAL = [name for name in EVERY if name not in WITHOUT_BOUND]
GENERATIVE = [name for name in EVERY if name not in WITHOUT_PRIOR]
WEIGHED = sorted(set(TINY) - WITHOUT_BOUND - WITHOUT_BETA)

CONDITION = encode_conditions(
    [
        Condition("HCM", "es", 0.5),
        Condition("DCM", "ed", 0.0),
        Condition(phase="ed", position=0.9),
        Condition("NOR"),
        Condition("RV", "es", 1.0),
    ]
)


def tiny(name, **changes):
    """Build a tiny model, or a variant of one."""
    module, settings = VARIANTS.get(name, (name, {}))
    return build_model(module, TINY[module] | settings | changes)


def perturbed(name, **changes):
    """Build a tiny model and move every weight a little: heads that start at zero say something.

    A model whose weights are solved for is fitted to masks of nothing in particular instead.
    """
    torch.manual_seed(0)
    model = tiny(name, **changes)
    if isinstance(model, ClosedFormModel):
        sides = (model.config.image_size,) * model.config.spatial_dims
        model.fit_masks(torch.randint(4, (12, *sides)))
        return model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


@pytest.fixture(params=EVERY)
def model(request):
    return perturbed(request.param).eval()


@pytest.fixture(params=TRAINED)
def trained(request):
    return perturbed(request.param).eval()


@pytest.fixture(params=VARIATIONAL)
def variational(request):
    return perturbed(request.param).eval()


@pytest.fixture(params=GENERATIVE)
def generative(request):
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


def test_reconstructions_are_distributions_over_classes(model, masks):
    assert_distribution(model.reconstruct(masks), masks.shape)
    soft = (3 * torch.randn_like(masks)).softmax(dim=1)  # a segmenter's probabilities
    assert_distribution(model.reconstruct(soft, torch.ones(5, dtype=torch.bool)), masks.shape)


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


def test_terms_have_one_row_per_case_and_their_bound_is_their_sum(model, masks):
    logits, terms = model(masks)
    assert logits.shape == masks.shape
    assert terms.reconstruction.shape == (5,)
    assert (terms.reconstruction > 0).all()
    torch.testing.assert_close(terms.kl, terms.regularization.sum(dim=1))
    torch.testing.assert_close(terms.negative_elbo, terms.reconstruction + terms.kl)
    some = torch.tensor([True, False, False, True, False])
    assert torch.equal(terms.of(some).negative_elbo, terms.negative_elbo[some])
    extended = replace(terms, log_ratio=terms.kl, parts={"commitment": terms.reconstruction})
    assert torch.equal(extended.of(some).log_ratio, terms.kl[some])
    assert torch.equal(extended.of(some).parts["commitment"], terms.reconstruction[some])
    assert {name: part.shape for name, part in terms.of(some).parts.items()} == {
        name: (2,) for name in terms.parts
    }


def test_a_variational_model_has_a_kl_per_group(variational, masks):
    terms = variational(masks)[1]
    assert terms.has_bound
    assert terms.regularization.shape == (5, len(variational.latent_sizes))


@pytest.mark.parametrize("name", sorted(set(VARIATIONAL) - WITH_ESTIMATED_KL))
def test_no_column_of_the_regularization_is_negative(name, masks):
    assert (perturbed(name).eval()(masks)[1].regularization >= 0).all()


@pytest.mark.parametrize("name", sorted(WITHOUT_BOUND))
def test_a_model_without_a_bound_has_no_column_and_no_importance_weight(name, masks):
    terms = perturbed(name)(masks)[1]
    assert not terms.has_bound
    assert terms.regularization.shape == (5, 0)
    assert terms.log_ratio is None
    assert torch.equal(terms.negative_elbo, terms.reconstruction)


@torch.no_grad()
@pytest.mark.parametrize("name", sorted(set(VARIATIONAL) - WITHOUT_SPREAD))
def test_the_log_ratio_of_what_was_drawn_is_the_kl_in_the_mean(name, masks):
    """So -(reconstruction + log_ratio) is the logarithm of an importance weight."""
    terms = perturbed(name).eval()(masks[:1].expand(1000, -1, -1, -1))[1]
    assert terms.log_ratio.shape == (1000,)
    spread = terms.log_ratio.std() / 1000**0.5
    assert spread > 0
    assert abs(terms.log_ratio.mean() - terms.kl.mean()) < 5 * spread
    assert terms.kl.mean() > -5 * spread


@pytest.mark.parametrize("name", sorted(WITHOUT_SPREAD))
def test_the_log_ratio_of_a_point_is_its_kl(name, masks):
    terms = perturbed(name).eval()(masks)[1]
    assert torch.equal(terms.log_ratio, terms.kl)


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


@pytest.mark.parametrize("name", TRAINED)
def test_every_parameter_learns(name, masks):
    model = perturbed(name)
    is_broken = torch.tensor([True, False, True, False, False])
    model.loss(model(masks, is_broken=is_broken, condition=CONDITION)[1]).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    silent = [name for name, grad in gradients.items() if grad is None or not grad.any()]
    assert silent == []
    assert all(bool(grad.isfinite().all()) for grad in gradients.values())


@pytest.mark.parametrize("name", sorted(SOLVED))
def test_no_parameter_that_is_solved_for_asks_for_a_gradient(name, masks):
    model = perturbed(name)
    assert isinstance(model, ClosedFormModel)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.loss(model(masks)[1]).requires_grad
    assert sum(parameter.numel() for parameter in model.parameters()) > 0  # they are counted


@pytest.mark.parametrize("name", TRAINED)
def test_no_weight_stands_still_from_its_start(name, masks):
    """Heads that start at zero hide what lies behind them for some steps, not for ever."""
    torch.manual_seed(0)
    model = tiny(name)
    before = {name: value.clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.Adamax(model.parameters(), lr=2e-3)
    for _ in range(4):
        optimizer.zero_grad()
        model.loss(model(masks, condition=CONDITION)[1]).backward()
        optimizer.step()
    still = [name for name, value in model.named_parameters() if torch.equal(value, before[name])]
    assert still == []


@pytest.mark.parametrize("name", sorted(TINY))
def test_the_loss_is_the_mean_bound_and_the_warm_up_weighs_only_the_kl(name, masks):
    model = perturbed(name).eval()
    terms = replace(model(masks)[1], parts={})  # what a model adds of its own is its own test
    torch.testing.assert_close(model.loss(terms), terms.negative_elbo.mean())
    torch.testing.assert_close(model.loss(terms, warmup=0.0), terms.reconstruction.mean())


def test_the_penalty_of_the_weights_is_one_number(model):
    assert model.penalty().shape == ()
    assert model.penalty() >= 0


@pytest.mark.parametrize("name", WEIGHED)
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
    assert sum(model.latent_sizes) % model.num_latents == 0  # a token has several numbers
    assert all(len(z) == 5 for z in latents)
    decoded = model.decode(latents)
    assert decoded.shape == masks.shape
    torch.testing.assert_close(decoded.softmax(dim=1), model.reconstruct(masks))


def test_coding_draws_no_random_numbers(model, masks):
    state = torch.get_rng_state()
    assert torch.equal(model.reconstruct(masks), model.reconstruct(masks))
    assert torch.equal(torch.get_rng_state(), state)


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
    model = perturbed(name).eval()
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


@torch.no_grad()
@pytest.mark.parametrize("name", sorted(set(VARIATIONAL) - WITHOUT_SPREAD))
def test_codes_at_a_temperature_scatter_about_the_mean(name, masks):
    model = perturbed(name).eval()
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


@pytest.mark.parametrize("name", TRAINED)
def test_what_is_learnt_of_broken_masks_leaves_the_posterior_of_whole_ones_apart(name, masks):
    torch.manual_seed(0)
    model = tiny(name)
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


def test_the_flag_marks_single_cases(trained, masks):
    flag = torch.tensor([False, True, False, False, True])
    marked, plain = trained.reconstruct(masks, flag), trained.reconstruct(masks)
    torch.testing.assert_close(marked[~flag], plain[~flag])
    assert ((marked - plain)[flag].abs().amax(dim=(1, 2, 3)) > 1e-6).all()


def test_a_condition_says_something_to_the_models_that_look_at_it_and_to_no_other(model, masks):
    looks = model.condition_groups is not None
    told, untold = (model.reconstruct(masks, condition=c) for c in (CONDITION, None))
    assert torch.equal(told, untold) != looks
    assert torch.equal(model.reconstruct(masks, condition=0 * CONDITION), untold)
    bounds = []
    for condition in (CONDITION, None, 0 * CONDITION):
        torch.manual_seed(0)
        bounds.append(model(masks, condition=condition)[1].negative_elbo)
    told, untold, told_nothing = bounds
    assert torch.equal(told, untold) != looks
    assert torch.equal(told_nothing, untold)


def test_a_condition_is_drawn_for_by_the_models_that_look_at_it_and_by_no_other(generative):
    drawn = []
    for condition in (CONDITION, None, 0 * CONDITION):
        torch.manual_seed(0)
        drawn.append(generative.sample(5, condition=condition))
    told, untold, told_nothing = drawn
    assert torch.equal(told, untold) != (generative.condition_groups is not None)
    assert torch.equal(told_nothing, untold)


def test_the_input_is_not_changed(model, masks):
    before = masks.clone()
    model(masks, is_broken=torch.ones(5, dtype=torch.bool))
    model.edit(masks, 0, torch.zeros(1))
    assert torch.equal(masks, before)


@pytest.mark.parametrize("name", EVERY)
def test_three_dimensions_are_a_setting(name):
    model = perturbed(name, **TINY_3D[VARIANTS.get(name, (name,))[0]])
    volumes = one_hot(torch.randint(4, (2, 8, 8, 8)))
    _, terms = model(volumes, is_broken=torch.tensor([True, False]))
    if name in TRAINED:
        model.loss(terms).backward()
    model.eval()
    assert_distribution(model.reconstruct(volumes), volumes.shape)
    if name in GENERATIVE:
        assert_distribution(model.sample(2).detach(), volumes.shape)
    latents = model.encode(volumes)
    assert [z[0].numel() for z in latents] == model.latent_sizes
    assert model.edit(volumes, 0, torch.ones_like(latents[0])).shape == volumes.shape


def test_what_cannot_be_built_is_said_in_one_line():
    message = f"unknown model 'gan'; available: {available_models()}"
    with pytest.raises(ValueError, match=re.escape(message)):
        build_model("gan", {})


def assert_refused(name, settings, message):
    with pytest.raises(ValueError, match=f"settings of model '{name}': .*{message}") as caught:
        build_model(name, settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(TINY))
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent_dims": 3}, "latent_dims: unknown parameter"),
        ({"spatial_dims": 4}, "spatial_dims: .*, got 4"),
    ],
)
def test_wrong_settings_are_named_with_their_model(name, settings, message):
    assert_refused(name, settings, message)


@pytest.mark.parametrize("name", sorted(set(TINY) - SOLVED))
def test_a_size_that_a_network_cannot_halve_is_refused(name):
    assert_refused(name, {"image_size": 90}, "image_size 90 is not divisible by 16")


@pytest.mark.parametrize("name", WEIGHED)
def test_beta_is_positive(name):
    assert_refused(name, {"beta": 0}, "beta: .*, got 0")
