"""What every model says of the cost of a mask: terms, bound, loss, and their weights."""

from dataclasses import replace

import pytest
import torch
from tiny_models import (
    TINY,
    VARIATIONAL,
    WEIGHED,
    WITH_ESTIMATED_KL,
    WITHOUT_BOUND,
    WITHOUT_SPREAD,
    perturbed,
    settled,
)


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
    assert (settled(name)(masks)[1].regularization >= 0).all()


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
    terms = settled(name)(masks[:1].expand(1000, -1, -1, -1))[1]
    assert terms.log_ratio.shape == (1000,)
    spread = terms.log_ratio.std() / 1000**0.5
    assert spread > 0
    assert abs(terms.log_ratio.mean() - terms.kl.mean()) < 5 * spread
    assert terms.kl.mean() > -5 * spread


@pytest.mark.parametrize("name", sorted(WITHOUT_SPREAD))
def test_the_log_ratio_of_a_point_is_its_kl(name, masks):
    terms = settled(name)(masks)[1]
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


@pytest.mark.parametrize("name", sorted(TINY))
def test_the_loss_is_the_mean_bound_and_the_warm_up_weighs_only_the_kl(name, masks):
    model = settled(name)
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
