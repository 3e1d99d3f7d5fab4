import numpy as np
import pytest
import torch

from cardiac_vae.vi import statistics as module
from cardiac_vae.vi.statistics import chunks, statistics, taken, total_statistics


@pytest.fixture
def codes(rng) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal((50, 3)) * 2 + 5)


@pytest.fixture
def responsibilities(rng) -> torch.Tensor:
    """Return (50, 4), of which the last component has no codes."""
    dealt = torch.from_numpy(rng.dirichlet([0.3, 0.3, 0.3], 50))
    return torch.cat([dealt, torch.zeros(50, 1).double()], dim=1)


def test_statistics_are_sums_over_codes(codes, responsibilities):
    found = statistics(codes, responsibilities)
    counts = responsibilities.sum(dim=0)
    torch.testing.assert_close(found.counts, counts)
    for k in range(3):
        weights = responsibilities[:, k]
        mean = (weights[:, None] * codes).sum(dim=0) / counts[k]
        torch.testing.assert_close(found.means[k], mean)
        scatter = sum(
            w * torch.outer(x - mean, x - mean) for w, x in zip(weights, codes, strict=True)
        )
        torch.testing.assert_close(found.scatter[k], scatter)
    entropy = torch.distributions.Categorical(responsibilities).entropy().sum()
    torch.testing.assert_close(found.entropy, entropy)
    assert not found.means[3].any()
    assert not found.scatter[3].any()


def test_statistics_of_parts_add_up(codes, responsibilities):
    whole = statistics(codes, responsibilities)
    parts = [
        statistics(codes[rows], responsibilities[rows]) for rows in (slice(0, 7), slice(7, 50))
    ]
    torch.testing.assert_close(vars(parts[0] + parts[1]), vars(whole))
    torch.testing.assert_close(vars(whole + whole), vars(whole.scaled(2)))


def test_chunks_change_nothing(codes, responsibilities, monkeypatch):
    whole = statistics(codes, responsibilities)
    monkeypatch.setattr(module, "_CHUNK", 100)
    assert [len(rows) for rows in chunks(codes, 4)] == [8] * 6 + [2]
    torch.testing.assert_close(vars(statistics(codes, responsibilities)), vars(whole))


def test_an_array_that_cannot_be_written_is_read(tmp_path, codes, responsibilities):
    np.save(tmp_path / "codes.npy", codes.float().numpy())
    mapped = np.load(tmp_path / "codes.npy", mmap_mode="r")
    rows = torch.tensor([3, 40])
    torch.testing.assert_close(taken(mapped, rows), codes.float().double()[rows])
    found = statistics(mapped, responsibilities)
    assert found.scatter.dtype == torch.float64
    expected = statistics(codes.float(), responsibilities)
    torch.testing.assert_close(vars(found), vars(expected))


def test_codes_far_from_the_origin_lose_no_digits(codes, responsibilities):
    near, far = (statistics(codes + shift, responsibilities) for shift in (0, 2**24))
    torch.testing.assert_close(far.scatter, near.scatter, rtol=1e-6, atol=1e-6)
    halves = statistics(codes[:9] + 2**24, responsibilities[:9])
    halves = halves + statistics(codes[9:] + 2**24, responsibilities[9:])
    torch.testing.assert_close(halves.scatter, near.scatter, rtol=1e-6, atol=1e-6)


def test_the_total_is_the_covariance(codes):
    found = total_statistics(codes)
    torch.testing.assert_close(found.scatter[0] / 49, torch.cov(codes.T))
    assert float(found.entropy) == 0


def test_gradients_of_certain_responsibilities_are_finite(codes):
    certain = torch.eye(2).double()[torch.arange(50) % 2].requires_grad_()
    found = statistics(codes, certain)
    (found.entropy + found.scatter.sum()).backward()
    assert certain.grad is not None
    assert certain.grad.isfinite().all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_named(codes, value):
    codes[7, 1] = value
    with pytest.raises(ValueError, match=r"codes: expected finite values.* row 7"):
        total_statistics(codes)
    with pytest.raises(ValueError, match=r"codes: expected finite values.* row 7"):
        taken(codes, torch.tensor([2, 7]))


def test_shapes_that_do_not_fit_are_named(codes):
    with pytest.raises(ValueError, match=r"codes: expected \(N, Z\), N > 0, got shape \(0, 3\)"):
        total_statistics(codes[:0])
    with pytest.raises(ValueError, match=r"codes: expected \(N, 2\), N > 0, got shape \(50, 3\)"):
        list(chunks(codes, 1, 2))
    with pytest.raises(ValueError, match=r"responsibilities: expected \(50, K\)"):
        statistics(codes, torch.ones(49, 2).double())
