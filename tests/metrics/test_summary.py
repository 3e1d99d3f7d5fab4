import numpy as np
import pytest

from cardiac_vae.metrics.summary import (
    Interval,
    bootstrap_mean,
    paired_difference,
    relative_change,
    share_interval,
    summarize_distances,
)


def patients_of(num_cases: int, cases_each: int = 2) -> list[str]:
    return [f"patient{case // cases_each:03d}" for case in range(num_cases)]


def test_mean_lies_in_its_interval_and_the_seed_decides(rng):
    values = rng.normal(0.9, 0.05, 60)
    found = bootstrap_mean(values, patients_of(60), seed=3)
    assert found.mean == pytest.approx(values.mean())
    assert found.low < found.mean < found.high
    assert found.n == 60
    assert bootstrap_mean(values, patients_of(60), seed=3) == found
    assert bootstrap_mean(values, patients_of(60), seed=4).low != found.low


def test_interval_of_independent_patients_has_the_width_of_theory(rng):
    values = rng.normal(0, 1, 400)
    found = bootstrap_mean(values, patients_of(400, cases_each=1), seed=0)
    half_width = 1.96 * values.std() / np.sqrt(400)
    assert (found.high - found.low) / 2 == pytest.approx(half_width, rel=0.1)


def test_repeating_a_patients_cases_adds_no_certainty(rng):
    values = rng.normal(0, 1, 50)
    once = bootstrap_mean(values, patients_of(50, 1), seed=0)
    often = bootstrap_mean(np.repeat(values, 8), patients_of(400, 8), seed=0)
    assert (often.mean, often.low, often.high) == pytest.approx((once.mean, once.low, once.high))


def test_order_of_cases_does_not_matter(rng):
    values, patients = rng.normal(0, 1, 30), np.array(patients_of(30, 3))
    order = rng.permutation(30)
    expected = bootstrap_mean(values, patients, seed=0)
    shuffled = bootstrap_mean(values[order], patients[order], seed=0)
    assert (shuffled.low, shuffled.high) == pytest.approx((expected.low, expected.high))


def test_one_patient_has_no_spread():
    found = bootstrap_mean([0.8, 0.9], ["patient001"] * 2, seed=0)
    assert (found.mean, found.low, found.high) == pytest.approx((0.85, 0.85, 0.85))


def test_unknown_values_are_left_out():
    found = bootstrap_mean([0.8, np.nan, 0.8], ["a", "b", "c"], seed=0)
    assert found == Interval(0.8, pytest.approx(0.8), pytest.approx(0.8), 2)
    nothing = bootstrap_mean([np.nan], ["a"], seed=0)
    assert nothing.n == 0
    assert np.isnan([nothing.mean, nothing.low, nothing.high]).all()


def test_paired_difference_sees_what_two_intervals_hide(rng):
    before = rng.normal(0.85, 0.1, 40)
    after = before + 0.01
    found = paired_difference(after, before, patients_of(40), seed=0)
    assert (found.mean, found.low, found.high) == pytest.approx((0.01, 0.01, 0.01))
    assert paired_difference(before, after, patients_of(40), seed=0).mean == pytest.approx(-0.01)


def test_missed_structures_get_the_penalty_and_are_counted():
    values, num_missed = summarize_distances([2.0, np.inf, np.nan, np.inf], 150.0)
    np.testing.assert_array_equal(values, [2.0, 150.0, np.nan, 150.0])
    assert num_missed == 2
    values, _ = summarize_distances([np.inf, 1.0, np.inf], [100.0, 110.0, 120.0])
    np.testing.assert_array_equal(values, [100.0, 1.0, 120.0])


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"one patient per value, got shapes \(1,\) and \(2,\)"):
        bootstrap_mean([1.0, 2.0], ["a"], seed=0)
    with pytest.raises(ValueError, match="got 1 infinite ones"):
        bootstrap_mean([1.0, np.inf], ["a", "b"], seed=0)
    with pytest.raises(ValueError, match="after: expected finite values"):
        paired_difference([np.inf, 1.0], [np.inf, 1.0], ["a", "b"], seed=0)
    with pytest.raises(ValueError, match="expected pairs"):
        paired_difference([1.0], [1.0, 2.0], ["a", "b"], seed=0)
    with pytest.raises(ValueError, match="penalty_mm: expected positive"):
        summarize_distances([1.0, np.inf], np.inf)


@pytest.mark.parametrize(("count", "total"), [(0, 10), (3, 10), (10, 10), (166, 256)])
def test_the_ends_of_a_share_are_where_the_score_test_turns(count, total):
    found = share_interval(count, total)
    assert (found.mean, found.n) == (count / total, total)
    assert 0 <= found.low <= found.mean <= found.high <= 1
    for end in {found.low, found.high} - {0.0, 1.0}:
        deviation = abs(found.mean - end) / np.sqrt(end * (1 - end) / total)
        assert deviation == pytest.approx(1.96, abs=1e-3)
    assert found.high - found.low > 0.05


@pytest.mark.parametrize(("count", "total"), [(0, 0), (-1, 5), (6, 5)])
def test_a_share_of_nothing_is_refused(count, total):
    with pytest.raises(ValueError, match="expected 0 <= count <= total"):
        share_interval(count, total)


def test_a_relative_change_is_one_of_means_of_the_same_patients():
    before = [4.0, 4.0, 8.0]
    after = [2.0, 4.0, 8.0]
    found = relative_change(after, before, ["a", "a", "b"], seed=0)
    assert found.mean == pytest.approx(14 / 16 - 1)
    # A quarter of the draws takes the first patient twice, another the second twice.
    assert (found.low, found.high, found.n) == (pytest.approx(-0.25), pytest.approx(0), 3)
    halved = relative_change(np.array(before) / 2, before, ["a", "b", "c"], seed=0)
    assert (halved.mean, halved.low, halved.high) == (-0.5, -0.5, -0.5)


def test_a_relative_change_from_nothing_is_not_known():
    assert np.isnan(relative_change([1.0, 2.0], [0.0, 0.0], ["a", "b"], seed=0).mean)
    found = relative_change([1.0, 2.0, np.nan], [0.0, 4.0, 1.0], ["a", "b", "c"], seed=0)
    assert (found.mean, found.n) == (pytest.approx(-0.25), 2)
    assert np.isnan([found.low, found.high]).all()
    with pytest.raises(ValueError, match="values of at least 0"):
        relative_change([1.0], [-1.0], ["a"], seed=0)
    with pytest.raises(ValueError, match="penalty in the place of missed structures"):
        relative_change([np.inf], [1.0], ["a"], seed=0)
