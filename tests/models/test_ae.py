import pytest
import torch
from torch.distributions import Categorical, Independent

from cardiac_vae.data.transforms import one_hot
from cardiac_vae.models import vae
from cardiac_vae.models.ae import Config, Model, with_noise

TINY = {"image_size": 16, "channels": (8, 8), "latent_dim": 3}


def test_its_loss_is_the_categorical_nll_and_it_has_no_bound(masks):
    model = Model(Config(**TINY))
    logits, terms = model(masks)
    pixels = Independent(Categorical(logits=logits.movedim(1, -1)), 2)
    expected = -pixels.log_prob(masks.argmax(dim=1))
    torch.testing.assert_close(terms.reconstruction, expected)
    torch.testing.assert_close(model.loss(terms, warmup=0.3), expected.mean())
    assert terms.regularization.shape == (5, 0)
    assert terms.log_ratio is None
    assert not terms.has_bound


def test_there_is_nothing_to_sample_from():
    model = Model(Config(**TINY))
    assert not model.has_prior
    with pytest.raises(ValueError, match="expected a model with a prior, got "):
        model.sample(2)


def test_it_is_the_vae_with_half_a_head():
    """What it has fewer is the log-sigma: a row of weights and a bias for each latent scalar."""
    ae, reference = Model(Config(**TINY)), vae.Model(vae.Config(**TINY))
    sizes = [
        {name: value.numel() for name, value in model.state_dict().items()}
        for model in (ae, reference)
    ]
    assert sizes[0].keys() == sizes[1].keys()
    different = {name: (sizes[0][name], sizes[1][name]) for name in sizes[0]}
    different = {name: pair for name, pair in different.items() if pair[0] != pair[1]}
    assert different == {"encoder.7.weight": (96, 192), "encoder.7.bias": (3, 6)}


@pytest.mark.parametrize("share", [0.1, 0.25, 1.0])
def test_noise_replaces_the_asked_share_of_the_pixels_by_any_class(share):
    masks = one_hot(torch.randint(4, (8, 64, 64)))
    before = masks.clone()
    noisy = with_noise(masks, share)
    assert torch.equal(masks, before)
    assert torch.equal(noisy.sum(dim=1), torch.ones(8, 64, 64))
    assert set(noisy.unique().tolist()) == {0.0, 1.0}
    changed = (noisy != masks).any(dim=1)
    expected, number = 0.75 * share, changed.numel()  # a quarter draws the class that it had
    spread = (expected * (1 - expected) / number) ** 0.5
    assert abs(changed.float().mean() - expected) < 5 * spread
    classes = noisy.argmax(dim=1)[changed].bincount(minlength=4) / changed.sum()
    assert (classes - 0.25).abs().max() < 5 * (0.19 / changed.sum()) ** 0.5


def test_no_noise_draws_no_random_number(masks):
    state = torch.get_rng_state()
    assert with_noise(masks, 0.0) is masks
    assert torch.equal(torch.get_rng_state(), state)


def test_soft_masks_and_volumes_get_whole_pixels_of_noise():
    soft = torch.rand(2, 4, 6, 7, 8).softmax(dim=1)
    noisy = with_noise(soft, 0.5)
    replaced = (noisy != soft).all(dim=1)
    kept = (noisy == soft).all(dim=1)
    assert (replaced | kept).all()
    assert 0.4 < replaced.float().mean() < 0.6
    assert (noisy.amax(dim=1)[replaced] == 1).all()


def seen_by(model, *arguments):
    """Return what reaches the encoder, without the broken plane, and what forward returns."""
    seen = []
    hook = model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:, :4]))
    result = model(*arguments)
    hook.remove()
    return seen[0], *result


def test_the_noise_is_on_the_input_in_training_alone_and_never_on_the_target(masks):
    model = Model(Config(**TINY, noise=0.5))
    before = masks.clone()
    seen, logits, terms = seen_by(model.train(), masks)
    assert torch.equal(masks, before)
    assert 0.2 < (seen != masks).any(dim=1).float().mean() < 0.55
    expected = -(masks * logits.log_softmax(dim=1)).sum(dim=(1, 2, 3))
    torch.testing.assert_close(terms.reconstruction, expected)
    assert torch.equal(seen_by(model.eval(), masks)[0], masks)
    assert torch.equal(seen_by(Model(Config(**TINY)).train(), masks)[0], masks)


def test_a_broken_input_gets_noise_too_and_its_own_target(masks):
    model = Model(Config(**TINY, noise=0.5)).train()
    target, is_broken = masks.roll(1, dims=0), torch.ones(5, dtype=torch.bool)
    seen, logits, terms = seen_by(model, masks, target, is_broken)
    assert (seen != masks).any()
    expected = -(target * logits.log_softmax(dim=1)).sum(dim=(1, 2, 3))
    torch.testing.assert_close(terms.reconstruction, expected)


@pytest.mark.parametrize("noise", [-0.1, 1.1])
def test_a_share_is_between_none_and_all(noise):
    with pytest.raises(ValueError, match="noise"):
        Config(noise=noise)
