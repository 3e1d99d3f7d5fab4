import numpy as np
import pytest

from cardiac_vae.densities.rejection import reject


def are_hearts(masks):
    """Call masks hearts whose first pixel is below 3."""
    return masks[:, 0, 0] < 3


def drawer(rng, values=10):
    """Return draws of masks (N, 1, 1), their pixel uniform below ``values``."""
    return lambda number, attempt: rng.integers(values, size=(number, 1, 1)).astype(np.uint8)


def test_what_is_accepted_is_the_proposal_given_that_it_is_a_heart(rng):
    draw = drawer(rng)
    accepted = reject(draw(30_000, 0), draw, are_hearts, max_tries=200)
    assert accepted.is_heart.all()
    shares = np.bincount(accepted.masks.ravel(), minlength=10) / 30_000
    np.testing.assert_allclose(shares, [1 / 3] * 3 + [0] * 7, atol=0.01)
    # the tries of each are geometric: mean 1 / P, variance (1 - P) / P^2
    assert accepted.tries_per_heart == pytest.approx(1 / 0.3, rel=0.03)
    assert accepted.num_tries.var() == pytest.approx(0.7 / 0.3**2, rel=0.06)


def test_tries_end_and_what_was_in_vain_counts(rng):
    first = np.array([0, 9, 9], np.uint8)[:, None, None]
    asked = []

    def draw(number, attempt):
        asked.append((number, attempt))
        return np.array([[9, 8], [1, 7], [7]][attempt - 1], np.uint8)[:, None, None]

    accepted = reject(first, draw, are_hearts, max_tries=4)
    assert asked == [(2, 1), (2, 2), (1, 3)]
    assert accepted.masks.ravel().tolist() == [0, 1, 7]
    assert accepted.is_heart.tolist() == [True, True, False]
    assert accepted.num_tries.tolist() == [1, 3, 4]
    assert accepted.tries_per_heart == 4.0
    assert first.ravel().tolist() == [0, 9, 9]


def test_hearts_alone_are_not_drawn_again():
    first = np.zeros((4, 1, 1), np.uint8)
    accepted = reject(first, lambda number, attempt: pytest.fail("drawn"), are_hearts, 9)
    assert accepted.tries_per_heart == 1.0


def test_without_any_heart_there_is_no_number_of_tries(rng):
    never = np.full((2, 1, 1), 9, np.uint8)
    accepted = reject(never, lambda number, attempt: never[:number], are_hearts, 3)
    assert accepted.num_tries.tolist() == [3, 3]
    assert accepted.tries_per_heart == float("inf")
