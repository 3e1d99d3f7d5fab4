import numpy as np
import pytest

from cardiac_vae.anatomy.outline import area_and_perimeter, circularity
from cardiac_vae.anatomy.shape_features import SHAPE_FEATURES, shape_features
from cardiac_vae.labels import Structure

PIXEL_MM = (1.5, 1.5)


def square_heart() -> np.ndarray:
    """Return an LV of 10 x 10 pixels in a wall 4 thick, and an RV of 12 x 6 to its left."""
    mask = np.zeros((48, 48), np.uint8)
    mask[16:34, 20:38] = Structure.MYO
    mask[20:30, 24:34] = Structure.LV
    mask[22:34, 12:18] = Structure.RV
    return mask


def named(mask: np.ndarray) -> dict[str, float]:
    (row,) = shape_features(mask[None], PIXEL_MM)
    return dict(zip(SHAPE_FEATURES, row.tolist(), strict=True))


def test_area_and_perimeter_are_those_of_the_polygon_half_way():
    square = np.ones((10, 10), bool)
    area, perimeter = area_and_perimeter(square, (1.0, 2.0))
    assert area == pytest.approx(200 - 4 * 0.25)  # each corner loses an eighth of a pixel
    assert perimeter == pytest.approx(2 * 9 + 2 * 18 + 4 * np.hypot(0.5, 1.0))
    assert circularity(square, (1.0, 2.0)) == pytest.approx(4 * np.pi * area / perimeter**2)
    assert area_and_perimeter(~square, (1.0, 2.0)) == (0.0, 0.0)


def test_features_of_squares():
    found = named(square_heart())
    area = (100 - 0.5) * 1.5**2
    assert found["lv_diameter_mm"] == pytest.approx(np.sqrt(4 * area / np.pi))
    assert found["epicardium_perimeter_mm"] == pytest.approx(
        1.5 * (4 * 17 + 4 * np.sqrt(0.5)), rel=1e-6
    )
    for name in ("wall_p10_mm", "wall_p50_mm", "wall_p90_mm"):
        assert found[name] == pytest.approx(4 * 1.5)
    assert found["rv_below_lv_mm"] == pytest.approx((27.5 - 24.5) * 1.5)
    assert found["rv_right_of_lv_mm"] == pytest.approx((14.5 - 28.5) * 1.5)


def test_features_follow_the_heart_and_its_size_and_not_its_place(rng):
    mask = square_heart()
    expected = shape_features(mask[None], PIXEL_MM)
    moved = np.roll(mask, (-9, 8), axis=(0, 1))
    np.testing.assert_allclose(shape_features(moved[None], PIXEL_MM), expected)
    np.testing.assert_allclose(shape_features(mask[None], (3.0, 3.0)), 2 * expected)
    mirrored = shape_features(mask[None, :, ::-1], PIXEL_MM)
    sign = np.array([-1 if name == "rv_right_of_lv_mm" else 1 for name in SHAPE_FEATURES])
    np.testing.assert_allclose(mirrored, sign * expected, atol=1e-9)


def test_a_breached_wall_has_no_thickness_there():
    mask = square_heart()
    mask[22:28, 34:38] = Structure.BACKGROUND
    found = named(mask)
    assert found["wall_p10_mm"] == 0
    assert found["wall_p90_mm"] == pytest.approx(4 * 1.5)


def test_what_is_absent_has_length_zero():
    mask = square_heart()
    mask[mask == Structure.RV] = Structure.BACKGROUND
    found = named(mask)
    assert {name: value for name, value in found.items() if value == 0} == {
        name: 0 for name in SHAPE_FEATURES if name.startswith("rv_")
    }
    no_cavity = np.where(mask == Structure.LV, Structure.MYO, mask)
    assert named(no_cavity)["wall_p50_mm"] == 0
    assert named(no_cavity)["epicardium_diameter_mm"] == found["epicardium_diameter_mm"]
    assert not any(named(mask * 0).values())
    assert shape_features(mask[None][:0], PIXEL_MM).shape == (0, len(SHAPE_FEATURES))


def test_a_single_mask_is_refused():
    with pytest.raises(ValueError, match=r"label maps \(N, H, W\), got shape \(48, 48\)"):
        shape_features(square_heart(), PIXEL_MM)
