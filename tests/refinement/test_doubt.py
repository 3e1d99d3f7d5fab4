import numpy as np
import pytest

from cardiac_vae.anatomy.criteria import check_volume
from cardiac_vae.labels import HEART, NUM_CLASSES, Structure
from cardiac_vae.refinement.doubt import Doubt, limited, loose_voxels
from cardiac_vae.refinement.stack.decisions import PresenceDecision

SPACING_MM = (8.0, 1.5, 1.5)
RV, LV = HEART.index(Structure.RV), HEART.index(Structure.LV)


@pytest.fixture
def volume(heart):
    return np.stack([heart(), heart(), heart(), heart(lv_mm=14.0)])


def doubt_about(mask, decisions=(), gain=None):
    gain = np.zeros((len(mask), NUM_CLASSES)) if gain is None else gain
    return Doubt.of(mask, SPACING_MM, check_volume(mask, SPACING_MM), decisions, gain)


def test_of_a_whole_volume_there_is_no_doubt(volume):
    doubt = doubt_about(volume)
    assert not doubt.is_chosen.any()
    assert not doubt.is_wrong.any()
    assert doubt.expected.all()
    assert not doubt.gain.any()


def test_a_broken_slice_is_chosen_and_keeps_its_structures(volume):
    volume[1, 50, 50:75] = Structure.LV
    doubt = doubt_about(volume)
    assert doubt.is_chosen.tolist() == [False, True, False, False]
    assert doubt.expected.all()


def test_what_the_stack_removes_is_wrong_and_not_expected(volume):
    gain = np.zeros((4, NUM_CLASSES))
    gain[3, Structure.RV] = -np.inf
    doubt = doubt_about(volume, [PresenceDecision(3, Structure.RV, True, 2.0)], gain)
    assert doubt.is_chosen.tolist() == [False, False, False, True]
    np.testing.assert_array_equal(doubt.is_wrong[3], volume[3] == Structure.RV)
    assert np.argwhere(~doubt.expected).tolist() == [[3, RV]]


def test_a_gap_is_expected_to_be_filled_whatever_was_said_against_it(volume):
    gain = np.zeros((4, NUM_CLASSES))
    gain[1, Structure.RV] = -np.inf
    doubt = doubt_about(volume, [PresenceDecision(1, Structure.RV, True, 2.0)], gain)
    assert doubt.expected.all()
    assert doubt.gain[1, Structure.RV] == 0
    assert doubt.is_chosen.tolist() == [False, True, False, False]


def test_a_second_look_takes_what_lies_apart_and_asks_for_what_is_missing(volume):
    doubt = doubt_about(volume)
    refined = volume[[0, 1, 2, 0]]
    refined[2][refined[2] == Structure.LV] = Structure.MYO
    refined[3][refined[3] == Structure.RV] = Structure.BACKGROUND
    refined[3, 5:7, 5:7] = Structure.RV
    closer = doubt.about(refined, SPACING_MM)
    assert closer.is_chosen.tolist() == [False, False, True, True]
    assert np.argwhere(np.isneginf(closer.gain)).tolist() == [[3, Structure.RV]]
    assert np.argwhere(~closer.expected).tolist() == [[3, RV]]
    assert closer.expected[2, LV]
    assert not closer.is_as(doubt)
    assert closer.about(refined, SPACING_MM).is_as(closer)  # once said, it is said


def test_too_much_to_be_given_up_is_kept(volume):
    """Half of the heart elsewhere is a fault of the stack, not a speck."""
    speck = volume.copy()
    speck[0, 5:7, 5:7] = Structure.RV
    assert loose_voxels(speck, SPACING_MM).sum() == 4
    halves = np.concatenate([volume, np.roll(volume, 45, axis=2)])
    assert not loose_voxels(halves, SPACING_MM).any()


def test_what_the_stack_adds_is_no_larger_than_beside_it(volume):
    volume[1][volume[1] == Structure.RV] = Structure.BACKGROUND
    volume[0][volume[0] == Structure.RV] = Structure.BACKGROUND
    added = [PresenceDecision(index, Structure.RV, False, 2.0) for index in (0, 1)]
    doubt = doubt_about(volume, added)
    beside = np.count_nonzero(volume[2] == Structure.RV)
    assert doubt.largest[:, RV].tolist() == [0, beside, np.inf, np.inf]
    assert np.isinf(np.delete(doubt.largest, RV, axis=1)).all()


def test_a_structure_that_is_too_large_keeps_its_surest_pixels(rng):
    score = rng.normal(size=(NUM_CLASSES, 8, 9))
    lead = score[Structure.RV] - np.delete(score, Structure.RV, axis=0).max(axis=0)
    assert np.count_nonzero(lead > 0) > 5
    drawn = limited(score, np.array([5, np.inf, np.inf])).argmax(axis=0)
    surest = np.argsort(-lead, axis=None)[:5]
    assert set(np.flatnonzero(drawn == Structure.RV)) == set(surest)
    others = drawn != Structure.RV
    np.testing.assert_array_equal(
        drawn[others & (lead < 0)], score.argmax(axis=0)[others & (lead < 0)]
    )
    assert not (limited(score, np.zeros(3)).argmax(axis=0) > 0).any()
    np.testing.assert_array_equal(limited(score, np.full(3, np.inf)), score)
