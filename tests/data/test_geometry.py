from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cardiac_vae.data.acdc import case_paths
from cardiac_vae.data.geometry import (
    PlaneGrid,
    covering_grid,
    heart_centre_mm,
    lost_parts,
    prepared_grid,
    resample_image,
    resample_mask,
    resample_probabilities,
)
from cardiac_vae.data.nifti import read_mask
from cardiac_vae.labels import HEART, Structure

SIDE_MM = 84.0  # a field of view with room for the whole of a small window
SIZE = 32
DIVIDING = (1.5, 0.75, 0.5, 0.375, 0.3, 0.25, float(np.float32(0.3)))
CENTRES = st.tuples(st.floats(30, 50), st.floats(30, 50))


def native_grid(*pixel_mm):
    return PlaneGrid(tuple(int(np.ceil(SIDE_MM / size)) for size in pixel_mm), pixel_mm)


def heart(shape=(96, 96), centre=(48, 48), wall=4.0, cavity=12.0, slices=2):
    """Return a ring around a disc, beside it a crescent."""
    rows, columns = np.indices(shape)
    radius = np.hypot(rows - centre[0], columns - centre[1])
    beside = np.hypot(rows - centre[0], columns - centre[1] + cavity + wall)
    plane = np.where(beside < 0.9 * cavity, Structure.RV, Structure.BACKGROUND)
    plane[radius < cavity + wall] = Structure.MYO
    plane[radius < cavity] = Structure.LV
    return np.repeat(plane[np.newaxis], slices, axis=0).astype(np.uint8)


def round_trip(mask, first, second):
    return resample_mask(resample_mask(mask, first, second), second, first)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(DIVIDING), st.sampled_from(DIVIDING), CENTRES, st.integers(0, 99))
@example(0.75, 0.5, (30.0, 30.0), 28)  # a pixel whose corners it shares by halves with others
def test_prepared_native_prepared_is_exact_where_the_spacing_divides(row, column, centre, seed):
    native = native_grid(row, column)
    prepared = prepared_grid(native, centre, SIZE)
    noise = np.random.default_rng(seed).integers(0, 4, (2, SIZE, SIZE)).astype(np.uint8)
    assert np.array_equal(round_trip(noise, prepared, native), noise)


@settings(deadline=None, max_examples=20)
@given(st.sampled_from((1.5, 3.0)), CENTRES, st.integers(0, 99))
def test_native_prepared_native_is_exact_where_the_prepared_pixel_divides(pixel, centre, seed):
    native = native_grid(pixel, pixel)
    prepared = prepared_grid(native, centre, SIZE)
    mask = np.random.default_rng(seed).integers(0, 4, (2, *native.shape)).astype(np.uint8)
    first = [round(origin / pixel) for origin in prepared.origin_mm]
    size = round(SIZE * 1.5 / pixel)
    window = (slice(None), *(slice(start, start + size) for start in first))
    expected = np.zeros_like(mask)
    expected[window] = mask[window]
    assert np.array_equal(round_trip(mask, native, prepared), expected)


@settings(deadline=None, max_examples=60)
@given(
    pixel_mm=st.tuples(st.floats(0.5, 3), st.floats(0.5, 3)),
    centre=CENTRES,
    wall=st.floats(0.8, 3),
    cavity=st.floats(1.5, 8),
    seed=st.integers(0, 999),
)
def test_no_part_of_any_structure_is_lost_either_way(pixel_mm, centre, wall, cavity, seed):
    """Thin walls and single pixels, far enough apart that the coarser grid can hold them all."""
    native = native_grid(*pixel_mm)
    prepared = prepared_grid(native, centre, SIZE)
    rng = np.random.default_rng(seed)
    for source, target in ((prepared, native), (native, prepared)):
        per_mm = 1 / np.mean(source.pixel_mm)
        middle = [
            (target_middle - start) / size
            for target_middle, start, size in zip(
                np.add(prepared.origin_mm, 24), source.origin_mm, source.pixel_mm, strict=True
            )
        ]
        mask = heart(source.shape, middle, wall * per_mm, cavity * per_mm)
        for row, column in product((4.0, 44.0), np.arange(4.0, 48, 10)):
            at = np.add(prepared.origin_mm, (row, column)) - source.origin_mm
            mask[0][tuple((at / source.pixel_mm).astype(int))] = rng.integers(1, 4)
        resampled = resample_mask(mask, source, target)
        assert_every_part_is_near(mask, resampled, source, target)


def assert_every_part_is_near(mask, resampled, source, target):
    reach = 2 * np.hypot(*np.maximum(source.pixel_mm, target.pixel_mm))
    for structure, (before, after) in product(HEART, zip(mask, resampled, strict=True)):
        parts, num_parts = ndimage.label(before == structure, np.ones((3, 3)))
        there = (np.argwhere(after == structure) + 0.5) * target.pixel_mm + target.origin_mm
        for part in range(1, num_parts + 1):
            here = (np.argwhere(parts == part) + 0.5) * source.pixel_mm + source.origin_mm
            gaps = np.linalg.norm(here[:, np.newaxis] - there, axis=2)
            assert gaps.size, f"{structure!r} vanished"
            assert gaps.min() <= reach, f"part {part} of {structure!r} vanished"


def test_a_coarser_pixel_takes_the_class_of_most_of_its_area():
    fine, coarse = PlaneGrid((9, 3), (0.5, 0.5)), PlaneGrid((3, 1), (1.5, 1.5))
    mask = np.zeros((1, 9, 3), np.uint8)
    mask[0, :4] = Structure.LV
    mask[0, 4:, 0] = Structure.LV  # 9 of 9, then 5 and not the middle, then 3
    assert resample_mask(mask, fine, coarse)[0, :, 0].tolist() == [3, 3, 0]


def test_a_finer_pixel_takes_the_class_that_is_nearer():
    coarse, fine = PlaneGrid((1, 2), (1.5, 1.5)), PlaneGrid((1, 5), (1.5, 0.6))
    mask = np.array([[[Structure.RV, Structure.LV]]], np.uint8)
    assert resample_mask(mask, coarse, fine)[0, 0, [0, 1, 3, 4]].tolist() == [1, 1, 3, 3]


def test_a_lost_pixel_is_found_and_put_back():
    fine, coarse = PlaneGrid((9, 9), (0.5, 0.5)), PlaneGrid((3, 3), (1.5, 1.5))
    mask = np.zeros((1, 9, 9), np.uint8)
    mask[0, 3:6, 3:6] = Structure.LV
    mask[0, 7, 1] = Structure.RV
    resampled = resample_mask(mask, fine, coarse)
    assert resampled[0].tolist() == [[0, 0, 0], [0, Structure.LV, 0], [Structure.RV, 0, 0]]
    assert lost_parts(mask, resampled, fine, coarse) == []
    resampled[0, 2, 0] = 0
    ((structure, pixels),) = lost_parts(mask, resampled, fine, coarse)
    assert structure == Structure.RV
    assert pixels.tolist() == [[0, 7, 1]]


def test_parts_that_meet_in_one_pixel_all_stay():
    fine, coarse = PlaneGrid((9, 9), (0.5, 0.5)), PlaneGrid((3, 3), (1.5, 1.5))
    mask = np.zeros((1, 9, 9), np.uint8)
    mask[0, 3, 3], mask[0, 3, 5], mask[0, 5, 3], mask[0, 5, 5] = 1, 2, 3, 1
    resampled = resample_mask(mask, fine, coarse)
    assert sorted(resampled[resampled > 0].tolist()) == [1, 1, 2, 3]


def test_parts_outside_the_window_are_no_loss():
    native = native_grid(1.0, 1.0)
    mask = heart(native.shape, (44, 44), cavity=8)
    mask[0, 2, 2] = Structure.RV
    prepared = prepared_grid(native, (44, 44), SIZE)
    resampled = resample_mask(mask, native, prepared)
    assert lost_parts(mask, resampled, native, prepared) == []
    assert resample_mask(resampled, prepared, native)[0, 2, 2] == Structure.BACKGROUND


def test_resampling_leaves_its_input_alone_and_refuses_another_grid():
    native = native_grid(1.3, 1.3)
    mask = heart(native.shape, (40, 40))
    before = mask.copy()
    resample_mask(mask, native, prepared_grid(native, (44, 44)))
    assert np.array_equal(mask, before)
    for function, array in (
        (resample_mask, mask),
        (resample_image, mask.astype(np.float32)),
        (resample_probabilities, np.zeros((2, 4, 5, 5), np.float32)),
    ):
        with pytest.raises(ValueError, match="slices on the source grid"):
            function(array, PlaneGrid((7, 7), (1, 1)), native)


def test_the_prepared_corner_lies_on_the_nearest_native_edge():
    grid = prepared_grid(PlaneGrid((200, 200), (0.7, 1.1)), (100.0, 90.0))
    assert grid.shape == (96, 96)
    assert grid.origin_mm == pytest.approx((40 * 0.7, 16 * 1.1))  # 28 and 18 mm asked for
    assert covering_grid(PlaneGrid((201, 100), (0.75, 1.5))).shape == (101, 100)


def test_the_centre_of_a_box_is_known():
    mask = np.zeros((3, 100, 80), np.uint8)
    mask[:, 10:20, 30:50] = Structure.MYO
    assert heart_centre_mm(mask, PlaneGrid((100, 80), (2.0, 0.5))) == pytest.approx((30, 20))
    assert heart_centre_mm(mask, PlaneGrid((100, 80), (2.0, 0.5), (5, -7))) == pytest.approx(
        (35, 13)
    )


@settings(deadline=None, max_examples=30)
@given(st.integers(-30, 30), st.integers(-30, 30), st.integers(0, 99))
def test_the_centre_moves_with_the_heart_and_not_with_specks(down, right, seed):
    grid = PlaneGrid((200, 200), (1.5, 1.25))
    mask = heart(grid.shape, (100, 100), slices=5)
    centre = heart_centre_mm(mask, grid)
    moved = np.roll(mask, (down, right), axis=(1, 2))
    expected = (centre[0] + 1.5 * down, centre[1] + 1.25 * right)
    assert heart_centre_mm(moved, grid) == pytest.approx(expected)
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(0, 30, (2, 20))
    moved[rng.integers(0, 5, 20), rows, columns] = rng.integers(1, 4, 20)
    assert heart_centre_mm(moved, grid) == pytest.approx(expected)


def test_a_missing_slice_moves_the_centre_little():
    grid = PlaneGrid((200, 200), (1.5, 1.5))
    mask = np.concatenate([heart(grid.shape, (100 + i, 100 - i), slices=1) for i in range(10)])
    centre = heart_centre_mm(mask, grid)
    mask[4] = 0
    assert np.linalg.norm(np.subtract(heart_centre_mm(mask, grid), centre)) < 1.0


@settings(deadline=None, max_examples=50)
@given(
    box=st.tuples(st.integers(2, 139), st.integers(2, 139)),
    pixel=st.floats(0.7, 1.0),
    share=st.floats(0.02, 0.98),
)
def test_a_heart_that_fits_the_window_lies_in_it_however_lopsided(box, pixel, share):
    grid = PlaneGrid((320, 330), (pixel, pixel))
    mask = np.zeros((2, *grid.shape), np.uint8)
    mask[0, 90 : 90 + box[0], 95 : 95 + box[1]] = Structure.LV
    mask[1, 90 : 90 + max(1, int(share * box[0])), 95 : 95 + max(1, int(share * box[1]))] = 1
    prepared = prepared_grid(grid, heart_centre_mm(mask, grid))
    for first, size, origin in zip((90, 95), box, prepared.origin_mm, strict=True):
        assert origin <= first * pixel + 1e-6
        assert origin + 144 >= (first + size) * pixel - 1e-6


def test_a_mask_without_a_heart_has_no_centre():
    with pytest.raises(ValueError, match="got background only"):
        heart_centre_mm(np.zeros((2, 8, 8), np.uint8), PlaneGrid((8, 8), (1, 1)))


@pytest.mark.parametrize("pixel", [0.6, 1.0, 1.5, 2.7])
def test_an_image_keeps_constants_ramps_and_its_edge_values(pixel):
    native, target = PlaneGrid((60, 70), (pixel, pixel)), PlaneGrid((40, 40), (1.5, 1.5), (9, 6))
    constant = np.full((2, 60, 70), 7, np.float32)
    np.testing.assert_allclose(resample_image(constant, native, target), 7, rtol=1e-6)
    ramp = np.tile((np.arange(70) + 0.5) * pixel, (2, 60, 1)).astype(np.float32)
    expected = 6 + (np.arange(40) + 0.5) * 1.5
    is_inside = expected < 70 * pixel - 2 * max(pixel, 1.5)
    got = resample_image(ramp, native, target)[0, 5]
    # A triangle of a width that is no whole number of pixels is off by a few hundredths of one.
    tolerance = 1e-4 if pixel >= 1.5 else 0.03
    np.testing.assert_allclose(got[is_inside], expected[is_inside], atol=tolerance)
    outside = PlaneGrid((4, 4), (1.5, 1.5), (0, 70 * pixel + 3))
    np.testing.assert_allclose(resample_image(ramp, native, outside), ramp.max(), rtol=1e-6)


def test_an_image_going_coarser_is_averaged_and_on_its_own_grid_is_itself(rng):
    fine = PlaneGrid((80, 80), (0.5, 0.5))
    noise = rng.normal(size=(1, 80, 80)).astype(np.float32)
    np.testing.assert_array_equal(resample_image(noise, fine, fine), noise)
    board = (np.indices((80, 80)).sum(axis=0) % 2).astype(np.float32)[np.newaxis]
    coarse = resample_image(board, fine, PlaneGrid((18, 18), (2.0, 2.0), (1.25, 1.25)))
    assert np.abs(coarse - 0.5).max() < 0.01


@settings(deadline=None, max_examples=25)
@given(st.tuples(st.floats(0.5, 3), st.floats(0.5, 3)), st.integers(0, 99))
def test_probabilities_stay_a_distribution_and_are_background_outside(pixel_mm, seed):
    native = native_grid(*pixel_mm)
    prepared = prepared_grid(native, (42, 40), SIZE)
    raw = np.random.default_rng(seed).exponential(size=(2, 4, SIZE, SIZE)).astype(np.float32)
    raw /= raw.sum(axis=1, keepdims=True)
    there = resample_probabilities(raw, prepared, native)
    assert there.dtype == np.float32
    assert there.min() >= 0
    np.testing.assert_allclose(there.sum(axis=1), 1, atol=1e-5)
    assert np.array_equal(there[:, :, 0, 0], [[1, 0, 0, 0]] * 2)
    np.testing.assert_allclose(resample_probabilities(raw, prepared, prepared), raw, atol=1e-5)


def test_the_round_trip_of_every_real_mask(acdc_root):
    dice, beyond = [], {}
    for paths in case_paths(acdc_root):
        volume = read_mask(paths.mask)
        mask, native = volume.volume, PlaneGrid(volume.volume.shape[1:], volume.spacing_mm[1:])
        prepared = prepared_grid(native, heart_centre_mm(mask, native))
        small = resample_mask(mask, native, prepared)
        back = resample_mask(small, prepared, native)
        assert lost_parts(mask, small, native, prepared) == []
        assert lost_parts(small, back, prepared, native) == []
        counts = np.bincount((4 * mask + back).ravel(), minlength=16).reshape(4, 4)
        both, each = counts.diagonal(), counts.sum(axis=0) + counts.sum(axis=1)
        dice.append(np.mean((2 * both / each)[1:]))
        rows, columns = (
            (index + 0.5) * size - origin
            for index, size, origin in zip(
                np.nonzero(mask)[1:], native.pixel_mm, prepared.origin_mm, strict=True
            )
        )
        num_outside = np.count_nonzero(
            (np.minimum(rows, columns) < 0) | (rows > 144) | (columns > 144)
        )
        if num_outside:
            beyond[paths.case_id] = num_outside / np.count_nonzero(mask)
    assert len(dice) == 200
    assert np.mean(dice) > 0.996
    assert min(dice) > 0.978
    # One dilated heart is 150 mm wide; the window is 144 mm.
    assert set(beyond) == {"patient014_ed", "patient014_es"}
    assert max(beyond.values()) < 0.005
