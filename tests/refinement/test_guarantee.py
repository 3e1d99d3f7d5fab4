import numpy as np
import pytest

from cardiac_vae.anatomy.criteria import is_valid
from cardiac_vae.refinement.guarantee import (
    Candidate,
    most_probable_valid,
    partial_hearts,
    total,
    whole_hearts,
)


def keeps_the_criteria(mask):
    return is_valid(mask, (1.5, 1.5))


def scores(rng, mask):
    return rng.normal(size=(4, *mask.shape)) + 2.0 * (np.arange(4)[:, None, None] == mask)


def test_the_total_adds_what_each_pixel_gains(rng):
    mask = rng.integers(0, 4, (4, 5)).astype(np.uint8)
    log_score = rng.normal(size=(4, 4, 5))
    expected = sum(log_score[mask[place]][place] for place in np.ndindex(4, 5))
    assert total(mask, log_score) == pytest.approx(expected)


def test_the_best_valid_candidate_is_that_of_brute_force(heart, rng):
    whole = [heart(lv_mm=size) for size in (10.0, 14.0, 18.0)]
    broken = [np.where(rng.random(mask.shape) < 0.02, 3, mask).astype(np.uint8) for mask in whole]
    candidates = [Candidate(str(number), mask) for number, mask in enumerate([*whole, *broken])]
    for reference in [*whole, *broken]:
        log_score = scores(rng, reference)
        valid = [candidate for candidate in candidates if keeps_the_criteria(candidate.mask)]
        assert len(valid) == 3
        expected = max(valid, key=lambda candidate: total(candidate.mask, log_score))
        chosen = most_probable_valid(candidates, log_score, keeps_the_criteria)
        assert chosen is expected


def test_without_a_valid_candidate_there_is_none(heart, rng):
    mask = heart()
    mask[50, 50:80] = 3
    assert (
        most_probable_valid([Candidate("broken", mask)], scores(rng, mask), keeps_the_criteria)
        is None
    )
    assert most_probable_valid([], scores(rng, mask), keeps_the_criteria) is None


def test_lots_go_from_the_most_probable_mask_to_the_model_alone(heart, rng):
    drawn = heart()
    log_model = scores(rng, heart(lv_mm=14.0))
    log_score = log_model + scores(rng, drawn)
    lots = list(whole_hearts(drawn, log_score, log_model))
    (product,) = lots[0]
    np.testing.assert_array_equal(product.mask, log_score.argmax(axis=0))
    candidates = [candidate for lot in lots for candidate in lot]
    assert all(
        total(product.mask, log_score) >= total(candidate.mask, log_score)
        for candidate in candidates
    )
    np.testing.assert_array_equal(lots[-1][0].mask, log_model.argmax(axis=0))
    assert all(candidate.mask.dtype == np.uint8 for candidate in candidates)
    assert all(candidate.mask.shape == drawn.shape for candidate in candidates)
    assert len({candidate.route for candidate in candidates}) == len(candidates)


def test_partial_hearts_give_structures_up_and_one_of_them_is_valid_always(heart, rng):
    drawn = np.where(rng.random((100, 90)) < 0.3, rng.integers(0, 4, (100, 90)), heart())
    before = drawn.copy()
    candidates = partial_hearts(drawn.astype(np.uint8), scores(rng, drawn))
    routes = [candidate.route for candidate in candidates]
    assert routes[0] == "emptied"
    assert not candidates[0].mask.any()
    for route, mask in candidates:
        if "without RV" in route:
            assert not (mask == 1).any()
    assert most_probable_valid(candidates, scores(rng, drawn), keeps_the_criteria) is not None
    np.testing.assert_array_equal(drawn, before)
