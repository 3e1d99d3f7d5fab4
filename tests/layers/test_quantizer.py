import pytest
import torch
from torch import nn
from torch.distributions import Categorical

from cardiac_vae.layers import quantizer as quantizer_file
from cardiac_vae.layers.quantizer import Quantizer, QuantizerConfig, perplexity

SHAPES = [(4, 3, 5, 2), (2, 3, 2, 4, 3)]  # (B, D, H, W) and (B, D, D, H, W)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def build(**changes):
    return Quantizer(QuantizerConfig(**({"num_embeddings": 7, "embedding_dim": 3} | changes)))


def rows(z):
    return z.movedim(1, -1).reshape(-1, z.shape[1])


def state(quantizer):
    return {name: value.clone() for name, value in quantizer.state_dict().items()}


@pytest.mark.parametrize("shape", SHAPES)
def test_each_vector_becomes_the_code_that_brute_force_finds_nearest(shape):
    quantizer = build()
    z = torch.randn(shape)
    distances = (rows(z).double()[:, None] - quantizer.codebook.double()).norm(dim=2)
    quantized = quantizer.eval()(z)
    assert quantized.indices.shape == (shape[0], *shape[2:])
    assert torch.equal(quantized.indices.flatten(), distances.argmin(dim=1))
    assert torch.equal(rows(quantized.values), quantizer.codebook[distances.argmin(dim=1)])
    squared = distances.min(dim=1).values.square().reshape(shape[0], -1).sum(dim=1)
    torch.testing.assert_close(quantized.commitment.double(), squared)
    torch.testing.assert_close(quantized.codebook.double(), squared)
    assert torch.equal(quantizer.nearest(quantized.values), quantized.indices)


def test_the_search_is_exact_under_autocast():
    quantizer = build(num_embeddings=512).eval()
    z = torch.randn(4, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        quantized = quantizer(z)
    assert torch.equal(quantized.indices, quantizer.nearest(z.double()))
    assert quantized.values.dtype == torch.float32


def test_the_gradient_at_the_vectors_is_the_decoders_at_the_codes():
    quantizer = build()
    decoder = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 1, 1))
    z = torch.randn(2, 3, 5, 5, requires_grad=True)
    quantized = quantizer(z)
    decoder(quantized.values).square().sum().backward()
    code = quantized.values.detach().requires_grad_()
    decoder(code).square().sum().backward()
    assert code.grad.any()
    torch.testing.assert_close(z.grad, code.grad)


def test_commitment_moves_the_vectors_alone_and_the_codebook_loss_the_codes_alone():
    quantizer = build(updates="gradient").eval()
    z = torch.randn(4, 3, 5, 2, requires_grad=True)
    quantized = quantizer(z)
    quantized.commitment.sum().backward()
    assert quantizer.codebook.grad is None
    torch.testing.assert_close(z.grad, 2 * (z - quantized.values).detach())
    z.grad = None
    quantized.codebook.sum().backward()
    assert z.grad is None
    taken = quantized.indices.flatten()
    pulls = 2 * (quantizer.codebook.detach()[taken] - rows(z.detach()))
    expected = torch.zeros(7, 3).index_add(0, taken, pulls)
    torch.testing.assert_close(quantizer.codebook.grad, expected)


def test_codes_are_the_moving_averages_of_what_took_them():
    """e = m / N with N = (1 - g) sum_t g^(T - t) n_t and m likewise, of all that came so far."""
    quantizer = build(decay=0.8, revive_after=None)
    start, history = quantizer.codebook.clone(), []
    for _ in range(6):
        z = torch.randn(2, 3, 3, 2)
        history.append((quantizer(z).indices.flatten(), rows(z).double()))
    ages = range(len(history) - 1, -1, -1)
    counts, sums = torch.zeros(7).double(), torch.zeros(7, 3).double()
    for age, (taken, vectors) in zip(ages, history, strict=True):
        counts += 0.2 * 0.8**age * taken.bincount(minlength=7)
        sums.index_add_(0, taken, 0.2 * 0.8**age * vectors)
    torch.testing.assert_close(quantizer.usage.double(), counts)
    used = counts > 0
    expected = torch.where(used[:, None], sums / counts[:, None], start.double())
    torch.testing.assert_close(quantizer.codebook.double(), expected)


def test_a_code_that_nothing_takes_stands_still():
    quantizer = build(revive_after=None)
    with torch.no_grad():
        quantizer.codebook[3] = 50.0
    for _ in range(5):
        quantizer(torch.randn(2, 3, 3, 2))
    assert torch.equal(quantizer.codebook[3], torch.full((3,), 50.0))
    assert (quantizer.usage[3], quantizer.idle[3]) == (0, 5)


@pytest.mark.parametrize("updates", ["ema", "gradient"])
def test_the_codebook_is_frozen_in_eval_and_in_passes_without_gradient(updates):
    quantizer = build(updates=updates)
    before = state(quantizer)
    z = torch.randn(2, 3, 3, 2)
    quantizer.eval()(z)
    with torch.no_grad():
        quantizer(z)
        quantizer.train()(z)
    assert all(torch.equal(value, before[name]) for name, value in state(quantizer).items())
    quantizer(z)
    assert not torch.equal(quantizer.usage, before["usage"])
    assert torch.equal(quantizer.codebook, before["codebook"]) == (updates == "gradient")


@pytest.mark.parametrize("updates", ["ema", "gradient"])
def test_codes_left_unused_are_put_where_vectors_are(updates):
    quantizer = build(updates=updates, revive_after=3)
    with torch.no_grad():
        quantizer.codebook.copy_(100 + torch.arange(7.0)[:, None].expand(7, 3))
    start, dead = quantizer.codebook.detach().clone(), slice(1, 7)
    for _ in range(2):
        quantizer(torch.randn(2, 3, 3, 2))
        assert torch.equal(quantizer.codebook[dead], start[dead])
    z = torch.randn(2, 3, 3, 2)
    quantizer(z)
    seeds = (quantizer.codebook[dead, None] == rows(z)).all(dim=2)
    assert seeds.sum(dim=1).tolist() == [1] * 6  # each is a vector of the batch,
    assert seeds.sum(dim=0).max() == 1  # and no two are the same
    assert quantizer.usage[dead].tolist() == quantizer.idle[dead].tolist() == [0] * 6
    assert quantizer.usage[0] > 0
    revived = quantizer(z).indices
    assert len(revived.unique()) >= 6


def test_codes_are_not_revived_if_that_is_not_wanted():
    quantizer = build(revive_after=None)
    with torch.no_grad():
        quantizer.codebook[1:] += 100
    start = quantizer.codebook.clone()
    for _ in range(60):
        quantizer(torch.randn(1, 3, 2, 2))
    assert torch.equal(quantizer.codebook[1:], start[1:])


def test_more_dead_codes_than_vectors_share_them():
    quantizer = build(revive_after=1)
    with torch.no_grad():
        quantizer.codebook[1:] += 100
    z = torch.randn(1, 3, 2, 1)
    quantizer(z)
    assert (quantizer.codebook[1:, None] == rows(z)).all(dim=2).any(dim=1).all()


def test_what_is_learnt_is_a_function_of_the_seed():
    def learnt(seed):
        torch.manual_seed(seed)
        quantizer = build(revive_after=2)
        for _ in range(4):
            quantizer(torch.randn(2, 3, 3, 2))
        return quantizer.codebook

    assert torch.equal(learnt(1), learnt(1))
    assert not torch.equal(learnt(1), learnt(2))


def test_processes_learn_from_all_vectors_and_revive_alike(monkeypatch):
    """Half of a batch, with the totals of the other half added, teaches what the whole does."""
    batch = torch.randn(4, 3, 3, 2)
    whole, other, half = (build(revive_after=None) for _ in range(3))
    for quantizer in (whole, other):
        quantizer.load_state_dict(half.state_dict())
    whole(batch)
    totals = []
    monkeypatch.setattr(quantizer_file, "_is_distributed", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda total: totals.append(total.clone()))
    other(batch[2:])
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda total: total.add_(totals.pop(0)))
    half(batch[:2])
    torch.testing.assert_close(half.codebook, whole.codebook)
    torch.testing.assert_close(half.usage, whole.usage)

    dying = build(revive_after=1)
    with torch.no_grad():
        dying.codebook[1:] += 100
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda total: total)
    monkeypatch.setattr(torch.distributed, "broadcast", lambda seeds, source: seeds.fill_(source))
    dying(batch)
    assert torch.equal(dying.codebook[1:], torch.zeros(6, 3))  # those of process 0


def test_perplexity_counts_the_codes_in_use():
    assert perplexity(torch.tensor([0.0, 9.0, 0.0])) == 1
    assert perplexity(torch.full((7,), 0.3)).item() == pytest.approx(7)
    assert perplexity(torch.tensor([4.0, 0.0, 4.0])).item() == pytest.approx(2)
    counts = torch.rand(7)
    expected = Categorical(probs=counts.double()).entropy().exp().item()
    assert perplexity(counts).item() == pytest.approx(expected)
    assert 1 < expected < 7


def test_the_running_perplexity_is_that_of_the_batches_seen():
    quantizer = build()
    indices = quantizer(torch.randn(2, 3, 3, 2)).indices
    counts = indices.flatten().bincount(minlength=7).float()
    assert quantizer.perplexity == pytest.approx(perplexity(counts).item())
