import numpy as np
import pytest

from cardiac_vae.metrics.disentanglement import (
    dci,
    dci_of_importance,
    mutual_information_gap,
    separated_attribute_predictability,
    total_correlation,
)

NUM = 400
PATIENTS = [str(index // 10) for index in range(NUM)]


@pytest.fixture
def factors(rng) -> np.ndarray:
    return rng.uniform(size=(NUM, 3))


def rotated(factors: np.ndarray) -> np.ndarray:
    """Return every factor spread evenly over all codes."""
    third, rest = 2 / 3, 1 / 3
    return (factors - 0.5) @ (np.full((3, 3), third) - np.eye(3) * (third + rest))


def scores(codes: np.ndarray, factors: np.ndarray, rng) -> dict[str, float]:
    trees = dci(codes, factors, PATIENTS, rng)
    return {
        "mig": mutual_information_gap(codes, factors).mean(),
        "sap": separated_attribute_predictability(codes, factors).mean(),
        "disentanglement": trees.disentanglement,
        "completeness": trees.completeness,
        "informativeness": trees.informativeness,
    }


def test_codes_that_are_the_factors_stand_above_mixtures_and_these_above_noise(factors, rng):
    noise = rng.standard_normal((NUM, 3))
    own = np.column_stack([-3 * factors[:, 1], factors[:, 2] ** 3, factors[:, 0] + 2, noise])
    found = [scores(codes, factors, rng) for codes in (own, rotated(factors), noise)]
    perfect, mixed, nothing = found
    assert min(perfect.values()) > 0.85
    assert all(mixed[name] < 0.5 for name in ("mig", "sap", "disentanglement", "completeness"))
    assert max(nothing["mig"], nothing["sap"]) < 0.05
    assert nothing["informativeness"] == 0
    assert mixed["informativeness"] > 0.6


def test_a_rotation_takes_the_gap():
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 7)] * 3), axis=-1).reshape(-1, 3)
    sap = separated_attribute_predictability(rotated(grid), grid)
    # Of each factor's variance two codes explain 4/9 each, and one 1/9.
    np.testing.assert_allclose(sap, 0, atol=1e-12)
    np.testing.assert_allclose(
        separated_attribute_predictability(rotated(grid)[:, :2], grid),
        [1 / 3, 1 / 3, 0],
        atol=1e-12,
    )
    assert mutual_information_gap(rotated(grid), grid).max() < 0.01


def test_mig_of_discrete_codes_by_hand():
    factor = np.repeat([0, 1], 8)
    exact = factor * 7.5
    noisy = np.tile([0, 0, 0, 1], 4)
    noisy[8:] = 1 - noisy[8:]  # agrees with the factor in 3 of 4 cases
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    codes = np.column_stack([noisy, exact])
    expected = (np.log(2) - (np.log(2) - entropy)) / np.log(2)
    np.testing.assert_allclose(mutual_information_gap(codes, factor[:, None]), [expected])
    np.testing.assert_allclose(mutual_information_gap(codes[:, 1:], factor[:, None]), [1])
    np.testing.assert_allclose(
        mutual_information_gap(codes[:, [0, 0]], factor[:, None]), [0], atol=1e-12
    )


def test_mig_of_a_factor_with_more_values_than_its_code_tells():
    factor = np.repeat([0, 1, 2, 3], 5)
    half, constant = factor // 2, np.zeros(20)
    codes = np.column_stack([half, constant])
    np.testing.assert_allclose(mutual_information_gap(codes, factor[:, None]), [0.5])


def test_mig_does_not_mind_monotone_scales(factors):
    codes = np.column_stack([factors[:, 0], factors.sum(axis=1)])
    bent = np.column_stack([np.exp(9 * codes[:, 0]), codes[:, 1] ** 3])
    np.testing.assert_allclose(
        mutual_information_gap(bent, factors), mutual_information_gap(codes, factors)
    )


def test_sap_is_the_gap_between_squared_correlations(factors, rng):
    codes = factors[:, [0, 1]] + 0.3 * rng.standard_normal((NUM, 2))
    codes = np.column_stack([codes, np.full(NUM, 4.0)])  # one that says nothing
    explained = np.corrcoef(codes[:, :2].T, factors.T)[:2, 2:] ** 2
    expected = np.abs(explained[0] - explained[1])
    expected[2] = np.ptp(explained[:, 2])
    np.testing.assert_allclose(separated_attribute_predictability(codes, factors), expected)


def test_dci_of_importance_by_hand():
    assert dci_of_importance(np.eye(3)) == pytest.approx((1, 1))
    assert dci_of_importance(np.ones((3, 3))) == pytest.approx((0, 0), abs=1e-12)
    assert dci_of_importance(np.zeros((3, 3))) == (0, 0)
    # Two codes serve one factor each, and one factor alone is served by both of the first two.
    importance = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    disentanglement, completeness = dci_of_importance(importance)
    assert disentanglement == pytest.approx(1)
    assert completeness == pytest.approx(1 - 0.5 * np.log(2) / np.log(3))
    # An idle code counts for nothing; the busy one is torn between two factors.
    assert dci_of_importance(np.array([[1.0, 1.0], [0.0, 0.0]]))[0] == pytest.approx(0)


def test_informativeness_is_of_patients_that_were_held_out(rng):
    """A code that names the patient predicts what is the patient's own, but not for others."""
    names = np.repeat(np.arange(12), 20)
    factors = np.column_stack([names % 2, (names + 1) % 2]).astype(float)
    codes = np.column_stack([names, rng.standard_normal(240)])
    assert dci(codes, factors, [str(name) for name in names], rng).informativeness == 0
    assert dci(codes, factors, [str(index) for index in range(240)], rng).informativeness > 0.5
    with pytest.raises(ValueError, match="expected two or more"):
        dci(codes, factors, ["a"] * 240, rng)


def test_total_correlation_of_normals(rng):
    covariance = np.array([[2.0, 0.9, 0.0], [0.9, 1.0, 0.3], [0.0, 0.3, 4.0]])
    codes = rng.standard_normal((30, 3))
    codes -= codes.mean(axis=0)
    whitening = np.linalg.cholesky(np.linalg.inv(np.cov(codes, rowvar=False)))
    codes = codes @ whitening @ np.linalg.cholesky(covariance).T
    expected = 0.5 * (np.log(np.diag(covariance)).sum() - np.log(np.linalg.det(covariance)))
    assert total_correlation(codes) == pytest.approx(expected)
    assert total_correlation(codes[:, :2]) == pytest.approx(-0.5 * np.log(1 - 0.9**2 / 2))
    assert total_correlation(codes[:, [0, 2]]) == pytest.approx(0)
    idle = np.column_stack([codes, np.ones(30)])
    assert total_correlation(idle) == pytest.approx(expected)
    assert total_correlation(codes[:, :1]) == 0


def test_total_correlation_of_dependent_codes_is_infinite(rng):
    codes = rng.standard_normal((20, 2))
    assert total_correlation(np.column_stack([codes, codes[:, 0]])) > 10  # up to rounding
    assert total_correlation(rng.standard_normal((5, 8))) == np.inf


def test_bad_input_is_refused(factors):
    with pytest.raises(ValueError, match="of the same cases"):
        mutual_information_gap(factors[:5], factors)
    with pytest.raises(ValueError, match=r"constant columns \[1\]"):
        separated_attribute_predictability(factors, factors * [1, 0, 1])
    with pytest.raises(ValueError, match="two codes or more"):
        dci_of_importance(np.ones((1, 3)))
