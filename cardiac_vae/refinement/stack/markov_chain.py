"""Inference in a Markov chain of hidden states: forward-backward and Viterbi.

    p(s_1..D, y) = p(s_1) p(y_1 | s_1) prod_i p(s_i | s_i-1) p(y_i | s_i)

Rabiner: A Tutorial on Hidden Markov Models, Proc. IEEE 77(2), 1989 (equations in brackets). All in
nats: sums of logarithms cannot underflow however long the chain is.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

_log_sum = np.logaddexp.reduce  # scipy's logsumexp takes longer to check a few numbers than to add


@dataclass(frozen=True)
class MarkovChain:
    """The prior of a sequence of D states out of S, with transitions of its own for every step.

    Attributes:
        log_initial: (S,) log p(s_1).
        log_transitions: (D - 1, S, S) log p(s_i+1 | s_i), from the row's state to the column's.
    """

    log_initial: np.ndarray
    log_transitions: np.ndarray

    def __post_init__(self) -> None:
        num_states = len(self.log_initial)
        expected = (len(self.log_transitions), num_states, num_states)
        if self.log_transitions.shape != expected:
            raise ValueError(
                f"log_transitions: expected a matrix for every step, {expected}, "
                f"got shape {self.log_transitions.shape}"
            )

    def __len__(self) -> int:
        """Return the number of states in a sequence."""
        return len(self.log_transitions) + 1


class Marginals(NamedTuple):
    """What is known of the hidden states once sequences were seen.

    Attributes:
        log_probability: (..., D, S) log p(s_i | y).
        log_evidence: (...) log p(y), nats of each whole sequence.
    """

    log_probability: np.ndarray
    log_evidence: np.ndarray


def forward_backward(chain: MarkovChain, log_likelihood: np.ndarray) -> Marginals:
    """Return the posterior of every state given log p(y_i | s_i), (..., D, S) (Rabiner, 19-27).

    Axes before the last two are sequences of their own, all with this prior.

    Raises:
        ValueError: if the likelihood is not (..., D, S).
    """
    _require_fit(chain, log_likelihood)
    seen = np.moveaxis(log_likelihood, -2, 0)
    forward, backward = np.empty_like(seen), np.zeros_like(seen)
    forward[0] = chain.log_initial + seen[0]
    for i, step in enumerate(chain.log_transitions):
        forward[i + 1] = _log_sum(forward[i][..., None] + step, axis=-2) + seen[i + 1]
    for i in reversed(range(len(chain) - 1)):
        ahead = (seen[i + 1] + backward[i + 1])[..., None, :]
        backward[i] = _log_sum(chain.log_transitions[i] + ahead, axis=-1)
    log_evidence = np.asarray(_log_sum(forward[-1], axis=-1))
    posterior = forward + backward - log_evidence[..., None]
    return Marginals(np.moveaxis(posterior, 0, -2), log_evidence)


def most_probable_path(chain: MarkovChain, log_likelihood: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the sequence of states (D,) that maximizes log p(s, y), and that maximum in nats.

    The algorithm of Viterbi (Rabiner, 32-35), for one sequence (D, S).

    Raises:
        ValueError: if the likelihood is not (D, S).
    """
    _require_fit(chain, log_likelihood)
    best = chain.log_initial + log_likelihood[0]
    came_from = []
    for step, seen in zip(chain.log_transitions, log_likelihood[1:], strict=True):
        scores = best[:, None] + step
        came_from.append(scores.argmax(axis=0))
        best = scores.max(axis=0) + seen
    path = [int(best.argmax())]
    for previous in reversed(came_from):
        path.append(int(previous[path[-1]]))
    return np.array(path[::-1]), float(best.max())


def _require_fit(chain: MarkovChain, log_likelihood: np.ndarray) -> None:
    expected = (len(chain), len(chain.log_initial))
    if log_likelihood.shape[-2:] != expected:
        raise ValueError(
            f"log_likelihood: expected one value per step and state, {expected}, "
            f"got shape {log_likelihood.shape}"
        )
