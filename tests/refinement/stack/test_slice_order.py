import json

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from cardiac_vae.data.phantom_anatomy import HeartShape, PolarPlane
from cardiac_vae.data.phantom_diagnosis import GROUPS, draw_heart
from cardiac_vae.labels import Phase
from cardiac_vae.refinement.stack.slice_order import (
    MEASURES,
    SliceOrder,
    Smoothness,
    fault_evidence,
    fit_slice_order,
    log_evidence,
    measures,
)

SMOOTH = Smoothness(amplitude_mm=2.0, length_mm=30.0, noise_mm=0.5)


SPACING_MM = (8.0, 2.0, 2.0)


@pytest.fixture(scope="module")
def phantoms():
    """Return the end-diastolic masks and spacings of a few phantom hearts, each slice breathing."""
    rng = np.random.default_rng(5)
    found = []
    for index in range(10):
        heart = draw_heart(GROUPS[index % len(GROUPS)], rng)
        shape = HeartShape(heart, Phase.ED)
        planes = []
        for depth in np.arange(2.0, heart.length_mm, SPACING_MM[0]):
            down, right = np.arange(-70, 70, 2.0) + rng.normal(0, 1, (2, 1))
            planes.append(shape.mask(float(depth), PolarPlane(down, right)))
        found.append((np.stack(planes), SPACING_MM))
    return found


@pytest.fixture(scope="module")
def order(phantoms):
    return fit_slice_order(phantoms[:6], false_alarms=0.0)


def test_measures_of_a_hand_drawn_stack():
    mask = np.zeros((3, 10, 12), np.uint8)
    mask[0, 2:6, 3:9] = 2
    mask[0, 3:5, 4:8] = 3
    mask[1, 0, :4] = 1
    values = measures(mask, (8.0, 2.0, 1.5))
    assert values.shape == (3, len(MEASURES))
    area = 2.0 * 1.5
    expected = [np.sqrt(24 * area / np.pi), np.sqrt(8 * area / np.pi), np.nan, 3.5 * 2.0, 5.5 * 1.5]
    np.testing.assert_allclose(values[0], expected)
    np.testing.assert_allclose(values[1, 2], np.sqrt(4 * area / np.pi))
    assert np.isnan(values[2]).all()


def test_the_evidence_is_that_of_a_multivariate_normal(rng):
    """Matern 5/2 by its own formula, a quadratic with a vague prior, and noise."""
    depth, values = np.arange(6) * 8.0, rng.normal(30, 4, 6)
    distance = np.abs(depth[:, None] - depth) / 30.0
    matern = (1 + 5**0.5 * distance + 5 / 3 * distance**2) * np.exp(-(5**0.5) * distance)
    unit = (depth - depth.mean()) / 40
    covariance = (
        4.0 * matern + 0.25 * np.eye(6) + 1e4 * sum(np.outer(unit**q, unit**q) for q in range(3))
    )
    extra = np.array([0, 0, 9.0, 0, 0, 0])
    reference = multivariate_normal(np.zeros(6), covariance + np.diag(extra))
    assert log_evidence(depth, values, SMOOTH, 2, extra) == pytest.approx(
        reference.logpdf(values - values.mean())
    )


def test_slices_without_the_measure_are_left_out(rng):
    depth, values = np.arange(6) * 8.0, rng.normal(size=6)
    holed = values.copy()
    holed[3] = np.nan
    keep = np.arange(6) != 3
    assert log_evidence(depth, holed, SMOOTH, 1, np.zeros(6)) == pytest.approx(
        log_evidence(depth[keep], values[keep], SMOOTH, 1, np.zeros(5))
    )
    assert log_evidence(depth, np.full(6, np.nan), SMOOTH, 1, np.zeros(6)) == 0


def test_swapping_back_undoes_the_evidence(phantoms, order):
    mask, spacing_mm = phantoms[6]
    values = measures(mask, spacing_mm)
    swapped = values[[0, 1, 2, 4, 3, *range(5, len(values))]]
    there = fault_evidence(values, spacing_mm[0], order.smoothness)["swapped"][3]
    back = fault_evidence(swapped, spacing_mm[0], order.smoothness)["swapped"][3]
    assert there == pytest.approx(-back)
    assert back > 0


@pytest.mark.parametrize("which", [6, 7, 8, 9])
def test_faults_of_phantoms_are_found_where_they_are(phantoms, order, which):
    mask, spacing_mm = phantoms[which]
    middle = len(mask) // 2
    swapped = mask.copy()
    swapped[[middle, middle + 1]] = mask[[middle + 1, middle]]
    first = order.misplaced(swapped, spacing_mm)[0]
    assert (first.fault, first.index) == ("swapped", middle)
    assert f"slices {middle} and {middle + 1} look swapped" in str(first)

    shifted = mask.copy()
    shifted[middle] = np.roll(mask[middle], round(25 / spacing_mm[1]), axis=0)
    first = order.misplaced(shifted, spacing_mm)[0]
    assert (first.fault, first.index) == ("shifted", middle)
    told = order.misplaced(shifted, spacing_mm, ("swapped",))
    assert all(misplacement.fault == "swapped" for misplacement in told)


def test_sound_stacks_it_was_fitted_to_raise_no_alarm(phantoms, order):
    assert [order.misplaced(*stack) for stack in phantoms[:6]] == [[]] * 6


def test_stacks_too_short_for_an_order_have_none(order):
    mask = np.full((3, 8, 8), 2, np.uint8)
    assert order.misplaced(mask, (8.0, 1.5, 1.5)) == []
    assert order.misplaced(np.zeros((9, 8, 8), np.uint8), (8.0, 1.5, 1.5)) == []


def test_it_goes_through_json(phantoms, order):
    again = SliceOrder.parse(json.loads(json.dumps(order.model_dump(mode="json"))), "order.json")
    assert again == order


def test_what_cannot_be_fitted_is_refused(phantoms):
    with pytest.raises(ValueError, match="one stack at least and false_alarms in"):
        fit_slice_order([])
    with pytest.raises(ValueError, match=r"got 1 stacks and 1\.0"):
        fit_slice_order(phantoms[:1], false_alarms=1.0)
