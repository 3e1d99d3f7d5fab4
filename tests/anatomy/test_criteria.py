"""Each criterion: a heart that keeps all 16, and one wrong pixel that breaks that one alone."""

import numpy as np
import pytest

from cardiac_vae.anatomy.criteria import CRITERIA, check_volume, is_valid, violations
from cardiac_vae.labels import Structure

BACKGROUND, RV, MYO, LV = Structure.BACKGROUND, Structure.RV, Structure.MYO, Structure.LV
PIXEL_MM = (1.5, 1.5)


def heart() -> np.ndarray:
    """Return a square LV of 16 pixels in a wall of 6, an RV to its left, all convex."""
    mask = np.zeros((96, 96), np.uint8)
    mask[36:60, 22:38] = RV
    mask[34:62, 38:66] = MYO
    mask[40:56, 44:60] = LV
    return mask


def thin_walled_heart() -> np.ndarray:
    mask = heart()
    mask[35:61, 39:65] = LV
    return mask


def heart_with_trabecula() -> np.ndarray:
    mask = heart()
    mask[55, 59] = (
        MYO  # a corner of the cavity, so that (54, 58) has a myocardial diagonal neighbor
    )
    return mask


def heart_with_spiked_lv() -> np.ndarray:
    mask = heart()
    mask[48, 60] = LV
    return mask


def heart_with_distant_rv() -> np.ndarray:
    mask = heart()
    mask[:, 34:38] = BACKGROUND
    mask[48, 34:38] = RV
    return mask


def heart_with_slit_lv() -> np.ndarray:
    mask = heart()
    mask[48, 57:60] = MYO  # 0, 1.5 and 3 mm deep
    return mask


def heart_with_slit_rv() -> np.ndarray:
    mask = heart()
    mask[36:43, 29] = BACKGROUND  # 0 to 30 mm deep with pixels of 5 mm
    return mask


def heart_with_notch() -> np.ndarray:
    mask = heart()
    mask[48, 64:66] = BACKGROUND  # 0 and 1.5 mm deep
    return mask


def heart_with_thread_lv() -> np.ndarray:
    mask = heart()
    mask[40:56, 44:60] = MYO
    mask[48, 44:58] = LV
    return mask


def thread_of_myocardium() -> np.ndarray:
    mask = np.zeros((96, 96), np.uint8)
    mask[40:56, 28:44] = RV
    mask[48, 44:58] = MYO
    return mask


# 4 pi A / P^2 of a line of 15 pixels: by marching squares a rectangle of 14 x 1 between two tips.
THREAD = 4 * np.pi * 14.5 / (28 + 4 * np.sqrt(0.5)) ** 2

ONE_WRONG_PIXEL = {  # criterion: heart, its pixel size, the wrong pixel, the excess over the limit
    "holes_in_lv": (heart_with_trabecula(), PIXEL_MM, (54, 58), MYO, 1),
    "holes_in_rv": (heart(), PIXEL_MM, (48, 30), BACKGROUND, 1),
    "holes_in_myo": (heart(), PIXEL_MM, (48, 63), BACKGROUND, 1),
    "detached_lv": (heart(), PIXEL_MM, (48, 63), LV, 1),
    "detached_rv": (heart(), PIXEL_MM, (48, 19), RV, 1),
    "detached_myo": (heart(), PIXEL_MM, (48, 68), MYO, 1),
    "holes_between_lv_and_myo": (heart_with_spiked_lv(), PIXEL_MM, (48, 61), BACKGROUND, 0.4375),
    "holes_between_rv_and_myo": (heart(), PIXEL_MM, (48, 37), BACKGROUND, 0.4375),
    "gap_between_rv_and_myo": (heart_with_distant_rv(), PIXEL_MM, (48, 37), BACKGROUND, 1.5),
    "lv_touches_rv": (thin_walled_heart(), PIXEL_MM, (48, 38), LV, 1),
    "lv_touches_background": (thin_walled_heart(), PIXEL_MM, (48, 65), LV, 1),
    "lv_concavity": (heart_with_slit_lv(), PIXEL_MM, (48, 56), MYO, 0.5),
    "rv_concavity": (heart_with_slit_rv(), (5.0, 5.0), (43, 29), BACKGROUND, 5),
    "myo_concavity": (heart_with_notch(), PIXEL_MM, (48, 63), BACKGROUND, 3 - 1.5 * np.sqrt(2)),
    "lv_circularity": (heart_with_thread_lv(), PIXEL_MM, (48, 58), LV, 0.2 - THREAD),
    "myo_circularity": (thread_of_myocardium(), PIXEL_MM, (48, 58), MYO, 0.2 - THREAD),
}


@pytest.mark.parametrize("name", CRITERIA)
def test_one_wrong_pixel_breaks_exactly_its_criterion(name):
    mask, pixel_mm, pixel, value, excess = ONE_WRONG_PIXEL[name]
    assert not any(violations(mask, pixel_mm).values())
    assert is_valid(mask, pixel_mm)

    broken = mask.copy()
    broken[pixel] = value
    assert (broken != mask).sum() == 1
    found = violations(broken, pixel_mm)
    assert {key: beyond for key, beyond in found.items() if beyond} == {name: pytest.approx(excess)}
    assert not is_valid(broken, pixel_mm)


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_verdict_does_not_depend_on_the_hearts_orientation(name, turns):
    mask, pixel_mm, pixel, value, _ = ONE_WRONG_PIXEL[name]
    mask = mask.copy()
    mask[pixel] = value
    turned = np.rot90(mask, turns)
    assert violations(turned, pixel_mm) == pytest.approx(violations(mask, pixel_mm))
    assert violations(turned.T, pixel_mm) == pytest.approx(violations(mask, pixel_mm))


def test_there_are_sixteen_criteria_in_one_order():
    found = violations(heart(), PIXEL_MM)
    assert len(CRITERIA) == 16
    assert list(found) == list(CRITERIA)
    assert list(violations(np.zeros((8, 8), np.uint8), PIXEL_MM)) == list(CRITERIA)


@pytest.mark.parametrize("absent", [{RV}, {LV}, {RV, LV}, {RV, MYO, LV}])
def test_absent_structure_breaks_nothing(absent):
    mask = heart()
    if LV in absent:
        mask[mask == LV] = MYO
    for structure in absent - {LV}:
        mask[mask == structure] = BACKGROUND
    assert is_valid(mask, PIXEL_MM)


def test_rv_alone_is_accepted():
    mask = heart()
    mask[mask != RV] = BACKGROUND
    assert is_valid(mask, PIXEL_MM)


def test_lv_without_myocardium_only_touches_background():
    mask = heart()
    mask[mask == MYO] = BACKGROUND
    mask[mask == RV] = BACKGROUND
    broken = [name for name, beyond in violations(mask, PIXEL_MM).items() if beyond]
    assert broken == ["lv_touches_background"]


def test_single_touching_pixel_is_tolerated_and_a_second_one_is_not():
    mask = heart()
    mask[40:56, 44:64] = LV
    mask[48, 64], mask[48, 65] = LV, BACKGROUND  # a wall of 2 pixels, breached in one place
    assert is_valid(mask, PIXEL_MM)
    mask[49, 65] = BACKGROUND
    assert violations(mask, PIXEL_MM)["lv_touches_background"] == 1


@pytest.mark.parametrize("num_pixels", [3, 4])
def test_small_gap_is_ignored_up_to_its_share_of_the_slice(num_pixels):
    mask = np.zeros((256, 224), np.uint8)  # 256 * 224 / 2^14 = 3.5
    mask[:96, :96] = heart()
    mask[48 : 48 + num_pixels, 37] = BACKGROUND
    assert violations(mask, PIXEL_MM)["holes_between_rv_and_myo"] == max(0, num_pixels - 3.5)


def test_hole_counts_every_enclosed_pixel():
    mask = heart()
    mask[45:50, 28:31] = BACKGROUND
    assert violations(mask, PIXEL_MM)["holes_in_rv"] == 15


def test_detached_part_is_measured_once_however_far_it_lies():
    mask = heart()
    mask[92:94, 92:95] = RV
    found = {name: beyond for name, beyond in violations(mask, PIXEL_MM).items() if beyond}
    assert found == {"detached_rv": 6}


def test_millimeters_follow_each_axis():
    mask = heart_with_distant_rv()
    mask[48, 37] = BACKGROUND
    assert violations(mask, (4.0, 1.25))["gap_between_rv_and_myo"] == 1.25
    assert violations(mask.T, (4.0, 1.25))["gap_between_rv_and_myo"] == 4.0

    mask = heart()
    mask[48, 54:60] = MYO  # 5 pixels deep along the columns
    assert violations(mask, (1.0, 0.8))["lv_concavity"] == 0
    assert violations(mask, (1.0, 0.9))["lv_concavity"] == pytest.approx(0.5)
    assert violations(mask.T, (1.0, 0.9))["lv_concavity"] == pytest.approx(1.0)


def test_heart_cut_by_the_edge_of_the_field_of_view_is_not_blamed_for_it():
    for edge in (heart()[:, :50], heart()[50:], heart()[:, 26:], heart()[:50]):
        assert is_valid(edge, PIXEL_MM)


@pytest.mark.parametrize("name", CRITERIA)
def test_background_around_the_heart_changes_nothing(name):
    mask, pixel_mm, pixel, value, _ = ONE_WRONG_PIXEL[name]
    wrong = mask.copy()
    wrong[pixel] = value
    limit_change = wrong.size / 2**14 - 119 * 106 / 2**14  # of the gaps, which grows with the slice
    expected = violations(wrong, pixel_mm)
    if name.startswith("holes_between"):
        expected[name] += limit_change
    assert violations(np.pad(wrong, ((20, 3), (1, 9))), pixel_mm) == pytest.approx(expected)


def test_short_cut_agrees_with_the_full_list_on_noise(rng):
    for _ in range(40):
        mask = np.kron(rng.integers(0, 4, (5, 5)), np.ones((6, 6))).astype(np.uint8)
        assert is_valid(mask, PIXEL_MM) == (not any(violations(mask, PIXEL_MM).values()))


def test_input_is_not_changed_and_type_does_not_matter():
    mask = heart()
    before = mask.copy()
    expected = violations(mask, PIXEL_MM)
    assert violations(mask.astype(np.int64), PIXEL_MM) == expected
    assert violations(np.asfortranarray(mask), PIXEL_MM) == expected
    np.testing.assert_array_equal(mask, before)


def test_volume_is_as_valid_as_its_slices():
    empty = np.zeros((96, 96), np.uint8)
    broken = heart()
    broken[48, 30] = BACKGROUND
    verdict = check_volume(np.stack([empty, heart(), broken, heart()]), (8.0, *PIXEL_MM))
    assert (verdict.is_valid, verdict.num_valid_slices, verdict.num_empty_slices) == (False, 3, 1)
    assert verdict.slices[2] == violations(broken, PIXEL_MM)
    assert verdict.broken == dict.fromkeys(CRITERIA, 0) | {"holes_in_rv": 1}
    assert check_volume(np.stack([empty, heart()]), (8.0, *PIXEL_MM)).is_valid


@pytest.mark.parametrize(
    ("mask", "pixel_mm", "message"),
    [
        (np.zeros((2, 4, 4), np.uint8), PIXEL_MM, r"mask: expected .* got shape \(2, 4, 4\)"),
        (np.full((4, 4), 4, np.uint8), PIXEL_MM, r"mask: expected .* values \[4\]"),
        (np.full((4, 4), -1), PIXEL_MM, r"mask: expected .* values \[-1\]"),
        (np.full((4, 4), 0.5), PIXEL_MM, "mask: expected an integer label map .* float64"),
        (np.zeros((4, 4), np.uint8), (1.5, 0.0), r"pixel_mm: expected .* \(1.5, 0.0\)"),
        (np.zeros((4, 4), np.uint8), (1.5, np.nan), "pixel_mm: expected"),
        (np.zeros((4, 4), np.uint8), (8.0, 1.5, 1.5), "pixel_mm: expected two"),
    ],
)
def test_bad_slice_is_refused(mask, pixel_mm, message):
    for check in (violations, is_valid):
        with pytest.raises(ValueError, match=message):
            check(mask, pixel_mm)


def test_bad_volume_is_refused():
    with pytest.raises(ValueError, match=r"mask: expected a label map \(D, H, W\)"):
        check_volume(heart(), (8.0, *PIXEL_MM))
