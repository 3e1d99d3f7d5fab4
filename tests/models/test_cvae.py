import math

import pytest
import torch
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from cardiac_vae.data.conditions import ACDC_GROUPS, Condition, encode_conditions
from cardiac_vae.data.transforms import one_hot
from cardiac_vae.models.cvae import Config, Model

TINY = {"image_size": 16, "channels": (8, 8), "latent_dim": 3}
CONDITION = encode_conditions(
    [
        Condition("HCM", "es", 0.5),
        Condition("DCM", "ed", 0.1),
        Condition(phase="es"),
        Condition(),
        Condition("RV", position=1.0),
    ]
)


def build(**changes):
    model = Model(Config(**(TINY | changes)))
    torch.nn.init.normal_(model.prior_head.weight, std=0.5)  # or every prior is N(0, I)
    torch.nn.init.normal_(model.prior_head.bias, std=0.5)
    return model


def as_torch(parameters):
    mu, log_sigma = parameters.chunk(2, dim=1)
    return Independent(Normal(mu, (5 * torch.tanh(log_sigma / 5)).exp()), 1)


def test_the_bound_is_that_of_torch_distributions(masks):
    """E_q[log p(x | z, c)] - KL(q(z | x, c) || p(z | c)), with a prior that moves with c."""
    model = build().eval()
    torch.manual_seed(7)
    logits, terms = model(masks, condition=CONDITION)
    embedded = model.embedding(CONDITION)
    features = model.encoder(torch.cat([masks, torch.zeros(5, 1, 16, 16)], dim=1))
    p = as_torch(model.prior_head(embedded))
    q = as_torch(model.posterior_head(torch.cat([features, embedded], dim=1)))
    assert p.mean.std(dim=0).min() > 0.01
    torch.testing.assert_close(terms.kl, kl_divergence(q, p))
    torch.manual_seed(7)
    z = q.mean + q.stddev * torch.randn(5, 3)
    decoded = model.decoder(model.features_of(torch.cat([z, embedded], dim=1)))
    torch.testing.assert_close(logits, decoded)
    pixels = Independent(Categorical(logits=decoded.movedim(1, -1)), 2)
    torch.testing.assert_close(terms.reconstruction, -pixels.log_prob(masks.argmax(dim=1)))
    torch.testing.assert_close(terms.log_ratio, q.log_prob(z) - p.log_prob(z))


def test_samples_are_decoded_draws_of_the_conditions_prior():
    model = build().eval()
    torch.manual_seed(3)
    samples = model.sample(5, temperature=0.5, condition=CONDITION)
    torch.manual_seed(3)
    p = as_torch(model.prior_head(model.embedding(CONDITION)))
    z = p.mean + 0.5 * p.stddev * torch.randn(5, 3)
    torch.testing.assert_close(samples, model.decode([z], condition=CONDITION).softmax(dim=1))
    assert not torch.allclose(samples, model.decode([z]).softmax(dim=1))


def test_one_condition_serves_all_samples():
    model = build().eval()
    torch.manual_seed(3)
    shared = model.sample(4, condition=CONDITION[:1])
    torch.manual_seed(3)
    torch.testing.assert_close(shared, model.sample(4, condition=CONDITION[:1].repeat(4, 1)))


def test_before_the_first_step_the_prior_is_standard_whatever_the_condition():
    prior = Model(Config(**TINY)).prior(CONDITION)
    assert not prior.mu.any()
    assert not prior.log_sigma.any()


def test_what_is_missing_is_zero_and_none_is_all_missing(masks):
    model = build().eval()
    unknown = encode_conditions([Condition()] * 5)
    torch.manual_seed(0)
    terms = model(masks, condition=unknown)[1]
    torch.manual_seed(0)
    assert torch.equal(model(masks)[1].negative_elbo, terms.negative_elbo)
    assert torch.equal(model.encode(masks)[0], model.encode(masks, condition=unknown)[0])


def test_a_case_does_not_see_the_conditions_of_the_others(masks):
    model = build().eval()
    other = CONDITION.roll(1, dims=0)
    other[2] = CONDITION[2]
    outcomes = []
    for condition in (CONDITION, other):
        torch.manual_seed(0)
        logits, terms = model(masks, condition=condition)
        drawn = model.sample(5, condition=condition)
        outcomes.append((logits, terms.negative_elbo, model.prior(condition).mu, drawn))
    for before, after in zip(*outcomes, strict=True):
        assert torch.equal(before[2], after[2])
        assert all(not torch.equal(before[case], after[case]) for case in (0, 1, 3, 4))


def seen_conditions(model, masks, condition):
    """Return the conditions that a training step's prior and posterior saw."""
    seen = []
    hook = model.embedding.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(masks, condition=condition)
    hook.remove()
    assert len(seen) == 3
    assert all(torch.equal(other, seen[0]) for other in seen[1:])  # prior, encoder, decoder agree
    return seen[0]


def test_parts_are_hidden_whole_each_by_chance_and_at_times_all():
    model = build(channels=(4,), condition_dropout=0.3).train()
    number = 4000
    masks = one_hot(torch.zeros(number, 16, 16))
    condition = encode_conditions([Condition("HCM", "es", 0.3)]).expand(number, -1)
    seen = seen_conditions(model, masks, condition)
    parts = zip(seen.split(model.part_sizes, 1), condition.split(model.part_sizes, 1), strict=True)
    kept = torch.stack([(part == whole).all(dim=1) for part, whole in parts], dim=1)
    gone = torch.stack([~part.any(dim=1) for part in seen.split(model.part_sizes, 1)], dim=1)
    assert torch.equal(kept, ~gone)
    spread = 5 * 0.5 / number**0.5
    for share, expected in (
        (kept[:, 0], 0.7**2),
        (kept[:, 1], 0.7**2),
        (kept[:, 2], 0.7**2),
        (kept.all(dim=1), 0.7**4),
        (gone.all(dim=1), 0.3 + 0.7 * 0.3**3),
    ):
        assert abs(share.float().mean() - expected) < spread


def test_nothing_is_hidden_in_eval_mode_nor_at_chance_zero(masks):
    assert torch.equal(seen_conditions(build().eval(), masks, CONDITION), CONDITION)
    never = build(condition_dropout=0).train()
    assert torch.equal(seen_conditions(never, masks, CONDITION), CONDITION)


def fitted_terms(masks, condition):
    """Fit a model to masks and return its mean KL and reconstruction at the end."""
    torch.manual_seed(0)
    model = Model(Config(image_size=8, channels=(16,), latent_dim=2, condition_dropout=0))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    history = []
    for _ in range(100):
        optimizer.zero_grad()
        terms = model(masks, condition=condition)[1]
        model.loss(terms).backward()
        optimizer.step()
        history.append((terms.kl.mean().item(), terms.reconstruction.mean().item()))
    return torch.tensor(history[-10:]).mean(dim=0).tolist()


def test_a_condition_that_says_all_leaves_the_code_nothing_to_say():
    """Five masks, one per group. Untold, no model has a bound below their entropy, log 5 nats."""
    masks = one_hot(torch.randint(4, (5, 8, 8)))
    condition = encode_conditions([Condition(group) for group in ACDC_GROUPS])
    told_rate, told_cost = fitted_terms(masks, condition)
    untold_rate, untold_cost = fitted_terms(masks, None)
    assert told_rate < 0.1 < math.log(5) < untold_rate
    assert told_rate + told_cost < math.log(5) < untold_rate + untold_cost


def test_a_condition_of_another_shape_is_refused(masks):
    model = build().eval()
    for wrong in (CONDITION[:3], CONDITION[:, :4], CONDITION[0]):
        with pytest.raises(ValueError, match=r"condition: expected shape \(5, 12\) or \(1, 12\)"):
            model(masks, condition=wrong)


def test_groups_are_a_setting_of_the_model(masks):
    model = build(groups=("athlete", "amyloid", "NOR")).eval()
    assert model.condition_groups == ("athlete", "amyloid", "NOR")
    known = encode_conditions([Condition("amyloid")], model.condition_groups)
    assert model.sample(2, condition=known).shape == (2, 4, 16, 16)
    for wrong in (("NOR", "NOR"), ("NOR", "")):
        with pytest.raises(ValueError, match="expected different names, none empty"):
            Config(groups=wrong)
