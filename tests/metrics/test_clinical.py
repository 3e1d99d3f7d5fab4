import numpy as np
import pytest

from cardiac_vae.metrics.clinical import agreement


def test_agreement_of_hand_computed_values():
    found = agreement(np.array([50.0, 60.0, 70.0]), np.array([52.0, 60.0, 67.0]))
    # Differences 2, 0, -3: mean -1/3, sum of squares 38/3 about it.
    assert found.n == 3
    assert found.bias == pytest.approx(-1 / 3)
    assert found.sd == pytest.approx(np.sqrt(38 / 3 / 2))
    assert found.lower == pytest.approx(found.bias - 1.96 * found.sd)
    assert found.upper == pytest.approx(found.bias + 1.96 * found.sd)
    assert found.mean_absolute_error == pytest.approx(5 / 3)


def test_agreement_equals_numpy(rng):
    reference = rng.normal(55, 10, 40)
    predicted = reference + rng.normal(-1, 4, 40)
    found = agreement(reference, predicted)
    assert found.bias == pytest.approx(np.mean(predicted) - np.mean(reference))
    assert found.sd == pytest.approx(np.std(predicted - reference, ddof=1))
    assert found.correlation == pytest.approx(np.corrcoef(reference, predicted)[0, 1])
    assert found.mean_absolute_error == pytest.approx(np.mean(np.abs(predicted - reference)))


def test_unknown_values_are_left_out_and_counted():
    found = agreement(np.array([50.0, np.nan, 60.0]), np.array([51.0, 40.0, 61.0]))
    assert (found.n, found.bias, found.sd) == (2, 1.0, 0.0)


def test_what_cannot_be_known_is_nan():
    one = agreement(np.array([50.0]), np.array([51.0]))
    assert one.bias == 1
    assert np.isnan([one.sd, one.lower, one.upper, one.correlation]).all()
    assert np.isnan(agreement(np.array([50.0, 50.0]), np.array([51.0, 53.0])).correlation)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"one length, got shapes \(2,\) and \(3,\)"):
        agreement(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="expected at least one pair"):
        agreement(np.array([np.nan]), np.array([1.0]))
