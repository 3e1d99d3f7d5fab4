import numpy as np
import pytest

from cardiac_vae.labels import Structure
from cardiac_vae.refinement.stack.consistency import is_gap
from cardiac_vae.refinement.stack.decisions import (
    DecisionConfig,
    decide,
    presence_term,
    redrawn,
)

RV, LV = Structure.RV, Structure.LV
SURE = DecisionConfig(remove_nats=1.0, draw_nats=2.0)


def rv_alone(*values):
    """Return a (D, 3) array whose first column is the RV's."""
    column = np.array(values)
    return np.stack([column, 0 * column, 0 * column], axis=1)


def what(decisions):
    return [(decision.index, decision.structure, decision.is_removal) for decision in decisions]


def test_only_strong_evidence_acts_and_the_strongest_comes_first():
    present = rv_alone(1, 1, 1, 0).astype(bool)
    log_odds = rv_alone(-1.5, 5.0, 5.0, 2.5)
    decisions = decide(present, log_odds, SURE)
    assert what(decisions) == [(3, RV, False), (0, RV, True)]
    assert [decision.evidence for decision in decisions] == [2.5, 1.5]
    assert str(decisions[0]) == "slice 3: RV is missing (2.5 nats)"
    assert str(decisions[1]) == "slice 0: RV is drawn and should not be (1.5 nats)"
    assert decide(present, rv_alone(-0.9, 5.0, 5.0, 1.9), SURE) == []


def test_no_gap_is_made_in_the_middle_of_a_stack():
    present = rv_alone(1, 1, 1, 1).astype(bool)
    assert decide(present, rv_alone(5.0, -9.0, 5.0, 5.0), SURE) == []


def test_a_slice_waits_for_its_neighbor_at_the_end():
    """The second slice has the stronger evidence, but must not go before the first has gone."""
    present = rv_alone(1, 1, 1, 1).astype(bool)
    decisions = decide(present, rv_alone(-2.0, -9.0, 5.0, 5.0), SURE)
    assert what(decisions) == [(1, RV, True), (0, RV, True)]


def test_a_gap_is_closed_from_either_side():
    present = rv_alone(1, 0, 1, 1).astype(bool)
    assert what(decide(present, rv_alone(1.0, 3.0, 5.0, 5.0), SURE)) == [(1, RV, False)]
    assert what(decide(present, rv_alone(-3.0, 1.0, 5.0, 5.0), SURE)) == [(0, RV, True)]


def test_gaps_never_rise_whatever_the_evidence(rng):
    for _ in range(200):
        present, log_odds = rng.random((9, 3)) < 0.7, rng.normal(0, 4, (9, 3))
        changed = present.copy()
        for decision in decide(present, log_odds):
            changed[decision.index, decision.structure - 1] ^= True
        assert (is_gap(changed).sum(axis=0) <= is_gap(present).sum(axis=0)).all()


def test_the_term_exchanges_the_probability_of_presence():
    present = np.array([[True, True, True], [True, True, False]])
    log_odds = np.array([[-3.0, 5.0, 5.0], [5.0, 5.0, np.log(4.0)]])
    peak = np.full((2, 3), 0.2)
    term = presence_term(decide(present, log_odds, DecisionConfig()), peak, log_odds)
    assert term[0].tolist() == [0, -np.inf, 0, 0]
    np.testing.assert_allclose(term[1], [0, 0, 0, np.log(16)])
    odds = 0.2 / 0.8 * np.exp(term[1, LV])
    assert odds / (1 + odds) == pytest.approx(0.8)  # a pixel of 0.2 is one of 0.8 now


def test_slices_are_redrawn_where_the_term_says_so():
    mask = np.array([[[1, 3]], [[1, 0]]], np.uint8)
    probabilities = np.zeros((2, 4, 1, 2))
    probabilities[0, :, 0, 0], probabilities[0, :, 0, 1] = [0.1, 0.6, 0.3, 0], [0.1, 0, 0.2, 0.7]
    probabilities[1, :, 0, 0], probabilities[1, :, 0, 1] = [0.1, 0.9, 0, 0], [0.8, 0, 0, 0.2]
    term = np.zeros((2, 4))
    np.testing.assert_array_equal(redrawn(mask, probabilities, term), mask)
    term[0, RV] = -np.inf
    assert redrawn(mask, probabilities, term).tolist() == [[[2, 3]], [[1, 0]]]
    term[1, LV] = np.log(5)
    assert redrawn(mask, probabilities, term).tolist() == [[[2, 3]], [[1, 3]]]
    assert mask.tolist() == [[[1, 3]], [[1, 0]]]


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"one shape \(D, 3\), got \(2, 3\) and \(3, 3\)"):
        decide(np.zeros((2, 3), bool), np.zeros((3, 3)))
