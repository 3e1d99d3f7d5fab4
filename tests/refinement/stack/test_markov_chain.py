from itertools import product

import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from cardiac_vae.refinement.stack.markov_chain import (
    MarkovChain,
    forward_backward,
    most_probable_path,
)


def random_chain(rng, length, num_states):
    return MarkovChain(
        log_softmax(rng.normal(size=num_states)),
        log_softmax(rng.normal(0, 2, (length - 1, num_states, num_states)), axis=2),
    )


def all_paths(chain, log_likelihood):
    """Return every sequence of states (N, D) with its log p(s, y) (N,), one by one."""
    paths = np.array(list(product(range(len(chain.log_initial)), repeat=len(chain))))
    scores = []
    for path in paths:
        score = chain.log_initial[path[0]] + log_likelihood[0, path[0]]
        for i in range(1, len(path)):
            score += chain.log_transitions[i - 1, path[i - 1], path[i]]
            score += log_likelihood[i, path[i]]
        scores.append(score)
    return paths, np.array(scores)


@pytest.mark.parametrize(("length", "num_states"), [(1, 3), (2, 4), (6, 3), (4, 5)])
def test_marginals_and_evidence_are_those_of_all_sequences(rng, length, num_states):
    chain = random_chain(rng, length, num_states)
    log_likelihood = rng.normal(0, 3, (length, num_states))
    paths, scores = all_paths(chain, log_likelihood)
    posterior = forward_backward(chain, log_likelihood)
    assert posterior.log_evidence == pytest.approx(logsumexp(scores))
    for i, state in product(range(length), range(num_states)):
        expected = logsumexp(scores[paths[:, i] == state]) - logsumexp(scores)
        assert posterior.log_probability[i, state] == pytest.approx(expected)


@pytest.mark.parametrize(("length", "num_states"), [(1, 3), (2, 4), (6, 3), (4, 5)])
def test_the_most_probable_path_is_that_of_all_sequences(rng, length, num_states):
    chain = random_chain(rng, length, num_states)
    log_likelihood = rng.normal(0, 3, (length, num_states))
    paths, scores = all_paths(chain, log_likelihood)
    path, score = most_probable_path(chain, log_likelihood)
    np.testing.assert_array_equal(path, paths[scores.argmax()])
    assert score == pytest.approx(scores.max())


def test_without_evidence_the_marginals_are_the_chain_run_forward(rng):
    chain = random_chain(rng, 5, 3)
    expected = [np.exp(chain.log_initial)]
    for step in chain.log_transitions:
        expected.append(expected[-1] @ np.exp(step))
    posterior = forward_backward(chain, np.zeros((5, 3)))
    np.testing.assert_allclose(np.exp(posterior.log_probability), expected)
    assert posterior.log_evidence == pytest.approx(0, abs=1e-12)


def test_sequences_are_inferred_side_by_side(rng):
    chain = random_chain(rng, 4, 3)
    log_likelihood = rng.normal(size=(2, 5, 4, 3))
    together = forward_backward(chain, log_likelihood)
    assert together.log_evidence.shape == (2, 5)
    for index in np.ndindex(2, 5):
        alone = forward_backward(chain, log_likelihood[index])
        np.testing.assert_allclose(together.log_probability[index], alone.log_probability)
        assert together.log_evidence[index] == pytest.approx(alone.log_evidence)


def test_impossible_states_and_long_chains_stay_finite(rng):
    with np.errstate(divide="ignore"):
        steps = np.log(np.tile([[0.5, 0.5], [0.0, 1.0]], (499, 1, 1)))
        chain = MarkovChain(np.log([1.0, 0.0]), steps)
    posterior = forward_backward(chain, rng.normal(-500, 1, (500, 2)))
    assert np.isfinite(posterior.log_evidence)
    np.testing.assert_allclose(np.exp(posterior.log_probability).sum(axis=1), 1)
    assert posterior.log_probability[0, 1] == -np.inf


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"every step, \(1, 2, 2\), got shape \(1, 3, 3\)"):
        MarkovChain(np.zeros(2), np.zeros((1, 3, 3)))
    chain = MarkovChain(np.zeros(2), np.zeros((1, 2, 2)))
    with pytest.raises(ValueError, match=r"step and state, \(2, 2\), got shape \(3, 2\)"):
        forward_backward(chain, np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"step and state, \(2, 2\), got shape \(3, 2\)"):
        most_probable_path(chain, np.zeros((3, 2)))
