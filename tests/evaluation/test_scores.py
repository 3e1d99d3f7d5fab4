"""Scores worked out by hand on a slab heart; missed and spurious structures are never dropped."""

import math

import numpy as np
import pytest

from cardiac_vae.data.case import CardiacCase
from cardiac_vae.evaluation.scores import score_case
from cardiac_vae.labels import Phase, Structure

SPACING = (10.0, 2.0, 1.0)


def disc_heart(num_slices: int = 2) -> np.ndarray:
    """Return a valid heart: LV disc in a ring of myocardium, with a crescent of RV beside it."""
    rows, columns = np.mgrid[:48, :64]
    # Twice the row size: the heart is round in mm, not in pixels.
    distance = np.hypot(2 * (rows - 24), columns - 36)
    plane = np.zeros((48, 64), np.uint8)
    plane[np.hypot(2 * (rows - 24), columns - 22) < 16] = Structure.RV
    plane[distance < 18] = Structure.MYO
    plane[distance < 10] = Structure.LV
    return np.stack([plane] * num_slices)


@pytest.fixture
def case() -> CardiacCase:
    return CardiacCase("patient001", Phase.ED, disc_heart(), SPACING, group="NOR")


def test_the_expert_itself_is_perfect(case: CardiacCase) -> None:
    scores = score_case(case, case.mask)
    for structure in scores.structures.values():
        assert (structure.dice, structure.hd95_mm, structure.assd_mm) == (1, 0, 0)
        assert structure.volume_ml == structure.reference_volume_ml > 0
    assert scores.is_valid_volume
    assert scores.num_valid_slices == scores.num_slices == 2
    assert scores.mean_dice == 1
    assert (scores.case_id, scores.group) == ("patient001_ed", "NOR")


def test_half_of_a_structure_by_hand(case: CardiacCase) -> None:
    predicted = case.mask.copy()
    predicted[1][predicted[1] == Structure.RV] = 0
    rv = score_case(case, predicted).structures[Structure.RV]
    assert rv.dice == pytest.approx(2 / 3)  # half the voxels: 2 * 1 / (1 + 2)
    assert rv.hd95_mm == 10  # every voxel of the other slice is one slice away
    assert rv.assd_mm == pytest.approx(10 / 3)  # one of three equal surfaces lies 10 mm off
    num_voxels = np.count_nonzero(case.mask == Structure.RV)
    assert rv.reference_volume_ml == pytest.approx(num_voxels * 20 / 1000)
    assert rv.volume_ml == pytest.approx(num_voxels * 10 / 1000)


def test_a_missed_structure_is_a_miss(case: CardiacCase) -> None:
    predicted = np.where(case.mask == Structure.RV, 0, case.mask).astype(np.uint8)
    scores = score_case(case, predicted)
    rv = scores.structures[Structure.RV]
    assert rv.is_missed
    assert not rv.is_spurious
    assert rv.dice == 0
    assert math.isinf(rv.hd95_mm)
    assert math.isinf(rv.assd_mm)
    assert scores.mean_dice == pytest.approx(2 / 3)
    assert scores.diagonal_mm == pytest.approx(math.sqrt(20**2 + 96**2 + 64**2))


def test_a_spurious_structure_is_flagged_and_an_absent_one_is_not(case: CardiacCase) -> None:
    without = np.where(case.mask == Structure.RV, 0, case.mask).astype(np.uint8)
    expert = CardiacCase("patient001", Phase.ED, without, SPACING)
    spurious = score_case(expert, case.mask).structures[Structure.RV]
    assert spurious.is_spurious
    assert not spurious.is_missed
    assert spurious.dice == 0
    assert math.isinf(spurious.hd95_mm)
    absent = score_case(expert, without).structures[Structure.RV]
    assert not absent.is_spurious
    assert not absent.is_missed
    assert math.isnan(absent.dice)
    assert math.isnan(absent.hd95_mm)
    assert score_case(expert, without).mean_dice == 1


def test_slices_are_counted_three_ways(case: CardiacCase) -> None:
    predicted = np.concatenate([case.mask, case.mask[:2] * 0])
    predicted[0, 0, 0] = Structure.LV
    expert = CardiacCase("patient001", Phase.ES, disc_heart(4), SPACING)
    scores = score_case(expert, predicted)
    assert (scores.num_slices, scores.num_empty_slices, scores.num_valid_slices) == (4, 2, 3)
    assert not scores.is_valid_volume
    assert scores.broken["detached_lv"] == 1
    assert scores.broken["detached_rv"] == 0


def test_structures_are_spurious_or_missed_slice_by_slice() -> None:
    expert, predicted = disc_heart(4), disc_heart(4)
    expert[0] = 0
    predicted[2][predicted[2] == Structure.RV] = 0
    predicted[3] = 0
    scores = score_case(CardiacCase("patient001", Phase.ED, expert, SPACING), predicted)
    counts = {
        structure: (found.num_spurious_slices, found.num_missed_slices)
        for structure, found in scores.structures.items()
    }
    assert counts == {Structure.RV: (1, 2), Structure.MYO: (1, 1), Structure.LV: (1, 1)}
    assert not any(found.is_spurious or found.is_missed for found in scores.structures.values())


def test_another_grid_is_refused(case: CardiacCase) -> None:
    with pytest.raises(
        ValueError, match=r"patient001_ed: expected a predicted mask .*\(1, 48, 64\)"
    ):
        score_case(case, case.mask[:1])
