"""What the naive hierarchy and the ladder share: a chain of groups, and a bound on its evidence.

With one position and one channel a group is one number, and all integrals are sums over a grid.
"""

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from cardiac_vae.data.transforms import one_hot
from cardiac_vae.layers.hierarchy import NormalHead
from cardiac_vae.models import hvae, lvae
from cardiac_vae.shape_model import with_broken_plane
from cardiac_vae.training.fit import FitConfig

TINY = {
    "image_size": 16,
    "channels": (8, 8),
    "groups": (2, 1),
    "latent_channels": 2,
    "group_width": 4,
}
SCALARS = TINY | {"image_size": 4, "channels": (8,), "groups": (3,), "latent_channels": 1}
GRID = torch.linspace(-12, 12, 601)
LOG_STEP = math.log(24 / 600)
DRAWS = 20_000


def build(module, perturbation=0.0, **settings):
    model = module.Model(module.Config(**(TINY | settings)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += perturbation * torch.randn_like(parameter)
    return model


@pytest.fixture(params=[hvae, lvae], ids=["hvae", "lvae"])
def module(request):
    return request.param


@pytest.fixture
def chain(module):
    """Return a model of three groups of one number each, of all of which the mask says much."""
    torch.manual_seed(1)
    model = build(module, 0.15, **SCALARS).eval()
    for head in model.modules():
        if isinstance(head, NormalHead):
            head.log_sigma = 0.0
    return model


@pytest.fixture
def mask():
    return one_hot(torch.randint(4, (1, 4, 4)))


def log_density(normals):
    """Return (N, grid): the log-density of each of N normals of one number on the grid."""
    mu, log_sigma = normals.mu.double().reshape(-1, 1), normals.log_sigma.double().reshape(-1, 1)
    return Normal(mu, log_sigma.exp()).log_prob(GRID.double())


def log_integral(log_values, dim=0):
    return torch.logsumexp(log_values, dim) + LOG_STEP


def priors(model):
    """Return log p(z_l | z_l-1) on the grid, (above, here), top first; the rows of the top are one.

    Only the last of the groups above is looked at.
    """
    z = GRID.reshape(-1, 1, 1, 1)
    return [log_density(model.generator.prior([z] * above, len(z))) for above in range(3)]


def log_likelihood(model, mask):
    logits = model.decode([GRID.reshape(-1, 1, 1, 1)] * 3)
    return (logits.log_softmax(dim=1) * mask).sum(dim=(1, 2, 3)).double()


def log_evidence(model, mask):
    """Return log p(x), the groups integrated out one by one, top first."""
    top, *links = priors(model)
    marginal = top[0]
    for link in links:
        marginal = log_integral(marginal[:, None] + link)
    return log_integral(marginal + log_likelihood(model, mask))


def naive_columns(model, mask, prior):
    """Return E_q[log q(z_l | z_l+1) - log p(z_l | z_l-1)] of each group, top first, and q(z_L)."""
    q = [log_density(model.links[0](with_broken_plane(mask, None)))]
    q += [log_density(link(GRID.reshape(-1, 1, 1, 1))) for link in model.links[1:]]  # bottom first
    last = marginal = q[0][0]
    entropies, crosses = [(marginal.exp() * marginal).sum()], []
    for log_q, log_p in zip(q[1:], prior[:0:-1], strict=True):  # log_p[above, below]
        joint = marginal[:, None] + log_q  # (below, above)
        entropies.append((joint.exp() * log_q).sum() * math.exp(LOG_STEP))
        crosses.append((joint.exp() * log_p.T).sum() * math.exp(LOG_STEP))
        marginal = log_integral(joint)
    crosses.append((marginal.exp() * prior[0][0]).sum())
    columns = torch.stack(entropies) - torch.stack(crosses)
    return columns.flip(0) * math.exp(LOG_STEP), last


def ladder_columns(model, mask, prior):
    """Return E_q[KL(q(z_l | z_l-1, x) || p(z_l | z_l-1))] of each group, top first, and q(z_L)."""
    likelihoods = model.likelihoods(mask)
    marginal, columns = log_density(likelihoods[0])[0], []
    columns.append((marginal.exp() * (marginal - prior[0][0])).sum())
    for group in (1, 2):
        z = GRID.reshape(-1, 1, 1, 1)
        above = model.generator.prior([z] * group, len(z))
        log_q = log_density(above.precision_weighted(likelihoods[group]))
        kl = (log_q.exp() * (log_q - prior[group])).sum(dim=1) * math.exp(LOG_STEP)
        columns.append((marginal.exp() * kl).sum())
        marginal = log_integral(marginal[:, None] + log_q)
    return torch.stack(columns) * math.exp(LOG_STEP), marginal


@torch.no_grad()
def test_every_term_of_the_bound_is_its_integral_and_the_bound_is_below_the_evidence(chain, mask):
    columns_of = naive_columns if isinstance(chain, hvae.Model) else ladder_columns
    columns, last = columns_of(chain, mask, priors(chain))
    assert abs(log_integral(last)) < 1e-6  # the grid holds it all
    cost = -(last.exp() * log_likelihood(chain, mask)).sum() * math.exp(LOG_STEP)
    terms = chain(mask.expand(DRAWS, -1, -1, -1))[1]
    for found, expected in ((terms.regularization.T, columns), (terms.reconstruction[None], cost)):
        spread = found.double().std(dim=1) / DRAWS**0.5
        assert ((found.double().mean(dim=1) - expected).abs() < 4 * spread + 1e-4).all()
    assert (columns.abs() > 0.005).all()
    evidence = log_evidence(chain, mask)
    assert -(cost + columns.sum()) < evidence - 0.05
    assert columns.sum() > 0


@torch.no_grad()
def test_importance_weights_are_unbiased_and_more_of_them_bound_the_evidence_better(chain, mask):
    """E[exp(log_w)] = p(x), and E[log mean of K weights] rises with K (Burda et al. 2016)."""
    evidence = log_evidence(chain, mask)
    terms = chain(mask.expand(DRAWS, -1, -1, -1))[1]
    log_weights = -(terms.reconstruction + terms.log_ratio).double()
    weights = (log_weights - evidence).exp()
    spread = weights.std() / DRAWS**0.5
    assert spread < 0.02
    assert abs(weights.mean() - 1) < 4 * spread
    bounds = [
        (torch.logsumexp(log_weights.reshape(-1, k), dim=1) - math.log(k)).mean()
        for k in (1, 10, 100)
    ]
    assert bounds[0] + 0.02 < bounds[1] < bounds[2] < evidence + 0.01
    assert evidence - bounds[2] < 0.05


def test_one_group_is_a_vae_of_one_latent(module, masks):
    """Its bound by hand: E_q[log p(x | z)] - KL(q(z | x) || N(0, I))."""
    model = build(module, 0.2, groups=(1,), channels=(8,)).eval()
    step, head = model.links[0] if module is hvae else (model.steps[0], model.heads[0])
    features = step(with_broken_plane(masks, None))
    mu, log_sigma = (5 * torch.tanh(v / 5) for v in head.network(features).chunk(2, dim=1))
    q = Independent(Normal(mu, log_sigma.exp()), 3)
    p = Independent(Normal(torch.zeros_like(mu), torch.ones_like(mu)), 3)
    torch.manual_seed(2)
    z = mu + log_sigma.exp() * torch.randn_like(mu)
    logits = model.decode([z])
    nll = -(masks * logits.log_softmax(dim=1)).sum(dim=(1, 2, 3))
    torch.manual_seed(2)
    _, terms = model(masks)
    torch.testing.assert_close(terms.regularization, kl_divergence(q, p)[:, None])
    torch.testing.assert_close(terms.reconstruction, nll)
    torch.testing.assert_close(terms.log_ratio, q.log_prob(z) - p.log_prob(z))


def test_before_the_first_step_the_groups_cost_next_to_nothing(module, masks):
    model = build(module)
    _, terms = model(masks)
    per_scalar = terms.regularization.abs() / torch.tensor(model.latent_sizes)
    assert 0 < per_scalar.max() < 0.1
    assert terms.kl.max() < 0.01 * 16 * 16 * math.log(4)


def test_the_kl_neither_explodes_nor_is_nan_at_the_start(module):
    """At the full learning rate and the full weight of the KL, harsher than any fit begins."""
    model = build(module)
    optimizer = torch.optim.Adamax(model.parameters(), lr=FitConfig().learning_rate)
    knowing_nothing = 16 * 16 * math.log(4)
    losses = []
    for _ in range(30):
        masks = one_hot(torch.randint(4, (4, 16, 16)))
        _, terms = model(masks, is_broken=torch.rand(4) < 0.5)
        assert terms.kl.max() < 0.1 * knowing_nothing
        loss = model.loss(terms)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert max(losses) < 1.5 * knowing_nothing
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values())


def test_a_case_does_not_see_its_batch_once_the_statistics_are_learnt(module):
    model = build(module, 0.1)
    masks = one_hot(torch.randint(4, (6, 16, 16)))
    for _ in range(3):
        model(masks)
    together = model.encode(masks)
    alone = [model.encode(mask[None]) for mask in masks]
    assert not any(
        torch.allclose(torch.cat(parts), z, atol=1e-3)
        for *parts, z in zip(*alone, together, strict=True)
    )  # in training it does
    model.eval()
    together = model.encode(masks)
    alone = [model.encode(mask[None]) for mask in masks]
    for *parts, z in zip(*alone, together, strict=True):
        torch.testing.assert_close(torch.cat(parts), z)


def test_only_the_last_code_given_counts_and_what_lies_below_is_drawn_at_the_temperature(
    module, masks
):
    model = build(module, 0.2).eval()
    latents = model.encode(masks)
    others = [z + 1 for z in latents]
    for given in (1, 2, 3):
        decoded = model.decode(latents[:given])
        assert torch.equal(decoded, model.decode([*others[: given - 1], latents[given - 1]]))
        assert not torch.allclose(decoded, model.decode(others[:given]))
    assert torch.equal(model.decode(latents, temperature=1.0), model.decode(latents))
    assert not torch.allclose(model.decode(latents[:2], temperature=1.0), model.decode(latents[:2]))
