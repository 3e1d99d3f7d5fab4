import numpy as np
import pytest
from scipy.special import logsumexp

from cardiac_vae.labels import Phase
from cardiac_vae.refinement.stack.markov_chain import forward_backward
from cardiac_vae.refinement.stack.presence_prior import STATES, PresencePrior, states_of


def test_a_state_is_a_set_of_structures_and_back():
    np.testing.assert_array_equal(states_of(STATES.astype(bool)), np.arange(8))
    assert states_of(np.array([[True, False, True]])).tolist() == [5]  # RV and LV


@pytest.mark.parametrize("build", [PresencePrior.chain, PresencePrior.independent_slices])
def test_both_priors_are_distributions(presence, build):
    chain = build(presence, 9, Phase.ED)
    assert len(chain) == 9
    np.testing.assert_allclose(logsumexp(chain.log_initial), 0, atol=1e-12)
    np.testing.assert_allclose(logsumexp(chain.log_transitions, axis=2), 0, atol=1e-12)


def test_transitions_are_counts_weighted_by_place():
    """One stack of four slices, a wide kernel: what remains are plain counts."""
    present = STATES[[7, 7, 6, 6]].astype(bool)
    prior = PresencePrior.learn([(Phase.ED, present)])
    prior = prior.model_copy(update={"bandwidth": 1e6, "backoff": 1.0})
    step = np.exp(prior.chain(4).log_transitions)
    anywhere = (1 + 0.02) / (2 + 8 * 0.02)  # one of two steps from state 7 leads to 7, one to 6
    np.testing.assert_allclose(step[:, 7, 7], (1 + anywhere) / 3)
    np.testing.assert_allclose(step[:, 7, 6], (1 + anywhere) / 3)
    np.testing.assert_allclose(step[:, 0], 1 / 8)  # never seen: every state is as probable


def test_a_narrow_kernel_asks_the_slices_of_the_same_place(presence):
    chain = presence.chain(10, Phase.ED)
    first, last = np.exp(chain.log_transitions[[0, -1]])
    assert first[7, 7] > 0.99
    assert last[7, 7] < 0.3


def test_the_control_forgets_the_slice_before(presence):
    chain = presence.independent_slices(6, Phase.ED)
    np.testing.assert_array_equal(
        chain.log_transitions, chain.log_transitions[:, :1] + 0 * chain.log_transitions
    )
    seen = np.zeros((6, 8))
    seen[2, 7] = 5.0
    told, untold = forward_backward(chain, seen), forward_backward(chain, np.zeros((6, 8)))
    others = [0, 1, 3, 4, 5]
    np.testing.assert_allclose(told.log_probability[others], untold.log_probability[others])


def test_an_unnamed_phase_takes_all_stacks(stacks):
    both = PresencePrior.learn([(Phase.ED, stacks[0]), (Phase.ES, stacks[1])])
    one = PresencePrior.learn([(Phase.ED, stacks[0]), (Phase.ED, stacks[1])])
    np.testing.assert_allclose(
        both.chain(7).log_transitions, one.chain(7, Phase.ED).log_transitions
    )
    assert not np.allclose(
        both.chain(7, Phase.ES).log_transitions, one.chain(7, Phase.ED).log_transitions
    )


def test_nothing_to_learn_from_is_refused():
    with pytest.raises(ValueError, match="expected the structures of one stack at least, got none"):
        PresencePrior.learn([])
