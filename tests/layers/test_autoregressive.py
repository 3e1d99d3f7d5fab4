import math
from itertools import product

import pytest
import torch
from torch import nn

from cardiac_vae.layers.autoregressive import AutoregressivePrior, CausalBlock, PriorConfig

K, N = 3, 4
TINY = PriorConfig(width=8, num_layers=2, num_heads=2)
ALL = torch.tensor(list(product(range(K), repeat=N)))  # every sequence, in lexicographic order


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def prior():
    """Return a prior in eval mode that is far from uniform."""
    prior = AutoregressivePrior(K, N, TINY)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
    return prior.eval()


def conditionals(prior, prefix):
    """Return log p(k | prefix) (B, K), each from a pass over a whole sequence."""
    after = torch.zeros(len(prefix), N - 1 - prefix.shape[1], dtype=torch.int64)
    columns = [torch.full((len(prefix), 1), k) for k in range(K)]
    return torch.stack(
        [
            prior.log_prob(torch.cat([prefix, column, after], dim=1))[:, prefix.shape[1]]
            for column in columns
        ],
        dim=1,
    )


def test_a_block_is_the_transformer_layer_of_torch():
    block = CausalBlock(PriorConfig(width=8, num_heads=2, dropout=0.0))
    layer = nn.TransformerEncoderLayer(
        8, 2, dim_feedforward=32, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    norm, widen, _, narrow, _ = block.mlp
    pairs = [
        (layer.norm1, block.attention_norm),
        (layer.norm2, norm),
        (layer.linear1, widen),
        (layer.linear2, narrow),
        (layer.self_attn.out_proj, block.out_projection),
    ]
    with torch.no_grad():
        for parameter in block.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
        for theirs, ours in pairs:
            theirs.load_state_dict(ours.state_dict())
        layer.self_attn.in_proj_weight.copy_(block.in_projection.weight)
        layer.self_attn.in_proj_bias.copy_(block.in_projection.bias)
    x = torch.randn(3, 6, 8)
    ahead = torch.ones(6, 6).triu(1).bool()
    torch.testing.assert_close(block(x)[0], layer(x, src_mask=ahead))


def test_before_the_first_step_every_sequence_is_as_likely():
    log_prob = AutoregressivePrior(K, N, TINY).log_prob(ALL)
    torch.testing.assert_close(log_prob, torch.full((K**N, N), -math.log(K)))


def test_the_probabilities_of_all_sequences_sum_to_one(prior):
    log_prob = prior.log_prob(ALL).double().sum(dim=1)
    assert log_prob.exp().sum().item() == pytest.approx(1, abs=1e-5)
    assert log_prob.exp().max() > 3 / K**N


def test_an_index_does_not_depend_on_those_after_it(prior):
    drawn = torch.randint(K, (6, N))
    before = prior.log_prob(drawn)
    for changed in range(N):
        other = drawn.clone()
        other[:, changed] = (other[:, changed] + 1) % K
        after = prior.log_prob(other)
        torch.testing.assert_close(after[:, :changed], before[:, :changed])
        moved = (after - before).abs().amin(dim=0)
        assert (moved[changed:] > 1e-5).all()  # but on itself and on all before it


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_sequences_are_drawn_as_often_as_they_are_likely(prior, temperature):
    """With temperature t the next index has probability p^(1/t), normalized."""
    expected = torch.ones(len(ALL)).double()
    for position in range(N):
        tempered = (conditionals(prior, ALL[:, :position]).double() / temperature).softmax(dim=1)
        expected *= tempered.gather(1, ALL[:, position : position + 1])[:, 0]
    assert expected.sum().item() == pytest.approx(1, abs=1e-5)
    num_samples = 20_000
    drawn = prior.sample(num_samples, temperature)
    place = (drawn * torch.tensor([K**power for power in range(N)[::-1]])).sum(dim=1)
    share = place.bincount(minlength=K**N) / num_samples
    spread = (expected * (1 - expected) / num_samples).sqrt()
    assert ((share - expected).abs() < 5 * spread + 1e-4).all()


def test_what_is_kept_of_earlier_positions_changes_no_draw(prior):
    torch.manual_seed(5)
    drawn = prior.sample(64)
    torch.manual_seed(5)
    prefix = torch.zeros(64, 0, dtype=torch.int64)
    for _ in range(N):
        probabilities = conditionals(prior, prefix).softmax(dim=1)
        prefix = torch.cat([prefix, torch.multinomial(probabilities, 1)], dim=1)
    assert torch.equal(drawn, prefix)


def test_at_temperature_zero_each_index_is_the_likeliest(prior):
    cold = prior.sample(2, temperature=0.0)
    assert torch.equal(cold[0], cold[1])
    for position in range(N):
        best = conditionals(prior, cold[:, :position]).argmax(dim=1)
        assert torch.equal(best, cold[:, position])


def test_dropout_acts_in_training_only(prior):
    assert torch.equal(prior.log_prob(ALL), prior.log_prob(ALL))
    prior.train()
    assert not torch.equal(prior.log_prob(ALL), prior.log_prob(ALL))


def test_heads_must_share_the_width():
    with pytest.raises(ValueError, match="width 10 is not divisible by num_heads 4"):
        PriorConfig(width=10)
