"""Which structures a slice holds, given where it lies: the prior, learnt from experts' masks.

The state of a slice is the set of structures in it, one of 2^3. Two priors over the states of a
stack are compared, both from the same stacks of states s_1..D, from base to apex, of each phase:

- a Markov chain, p(s_i+1 | s_i) for every step of the stack (``PresencePrior.chain``);
- slices that know their place but not each other, p(s_i) (``PresencePrior.independent_slices``).

Both are counts, weighted by a Gaussian kernel of how far along its stack the counted slice lay
from the slice in question (Nadaraya 1964; Watson 1964), on top of a few counts of what holds
anywhere in a stack.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from pydantic import PositiveFloat

from cardiac_vae.config import StrictConfig
from cardiac_vae.labels import HEART, Phase
from cardiac_vae.refinement.stack.markov_chain import MarkovChain

NUM_STATES = 2 ** len(HEART)
STATES = (np.arange(NUM_STATES)[:, None] >> np.arange(len(HEART))) & 1
"""(S, 3): which structures, in the order of ``HEART``, each state holds."""

_RARE = 0.02  # counts of every transition before one was seen: none is ruled out


def states_of(present: np.ndarray) -> np.ndarray:
    """Return the state (D,) of each slice from its structures (D, 3) bool."""
    return np.asarray(present @ (1 << np.arange(len(HEART))))


class PresencePrior(StrictConfig):
    """The states of the stacks that were learnt from, and how they are counted.

    Attributes:
        stacks: Of each phase, the states of every stack from base to apex.
        bandwidth: Standard deviation of the kernel, as a share of a stack's length.
        backoff: How many counts the transitions of the whole stack are worth at any place.
    """

    stacks: dict[Phase, tuple[tuple[int, ...], ...]]
    bandwidth: PositiveFloat = 0.08
    backoff: PositiveFloat = 1.0

    @classmethod
    def learn(cls, stacks: Sequence[tuple[Phase, np.ndarray]]) -> "PresencePrior":
        """Learn from the structures present (D, 3) bool in stacks of a phase, base first.

        Raises:
            ValueError: if there is no stack.
        """
        if not stacks:
            raise ValueError("stacks: expected the structures of one stack at least, got none")
        states: dict[Phase, list[tuple[int, ...]]] = {}
        for phase, present in stacks:
            states.setdefault(phase, []).append(tuple(states_of(present).tolist()))
        return cls(stacks={phase: tuple(found) for phase, found in states.items()})

    def chain(self, num_slices: int, phase: Phase | None = None) -> MarkovChain:
        """Return the Markov chain of a stack from base to apex; of both phases if none is named."""
        before, after, place = self._transitions(phase)
        anywhere = np.full((NUM_STATES, NUM_STATES), _RARE)
        np.add.at(anywhere, (before, after), 1.0)
        anywhere /= anywhere.sum(axis=1, keepdims=True)
        steps = np.empty((num_slices - 1, NUM_STATES, NUM_STATES))
        for i, step in enumerate(steps):
            step[:] = self.backoff * anywhere
            np.add.at(step, (before, after), self._kernel(place, (i + 1) / num_slices))
        first = np.array([stack[0] for stack in self._stacks(phase)])
        counts = np.bincount(first, minlength=NUM_STATES) + _RARE
        return MarkovChain(
            np.log(counts / counts.sum()), np.log(steps / steps.sum(axis=2, keepdims=True))
        )

    def independent_slices(self, num_slices: int, phase: Phase | None = None) -> MarkovChain:
        """Return the control: a chain in which a state depends on its place and on nothing else."""
        stacks = self._stacks(phase)
        states = np.concatenate([np.array(stack) for stack in stacks])
        place = np.concatenate([(np.arange(len(stack)) + 0.5) / len(stack) for stack in stacks])
        anywhere = np.bincount(states, minlength=NUM_STATES) + _RARE
        counts = np.stack(
            [
                np.bincount(states, self._kernel(place, at), NUM_STATES)
                + self.backoff * anywhere / anywhere.sum()
                for at in (np.arange(num_slices) + 0.5) / num_slices
            ]
        )
        log_share = np.log(counts / counts.sum(axis=1, keepdims=True))
        return MarkovChain(log_share[0], np.repeat(log_share[1:, None], NUM_STATES, axis=1))

    def _stacks(self, phase: Phase | None) -> list[tuple[int, ...]]:
        if phase is not None and phase in self.stacks:
            return list(self.stacks[phase])
        return [stack for stacks in self.stacks.values() for stack in stacks]

    def _transitions(self, phase: Phase | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return all transitions: from (N,), to (N,), and where in their stack, in (0, 1)."""
        rows = [
            (before, after, (i + 1) / len(stack))
            for stack in self._stacks(phase)
            for i, (before, after) in enumerate(pairwise(stack))
        ]
        before, after, place = np.array(rows).reshape(-1, 3).T
        return before.astype(int), after.astype(int), place

    def _kernel(self, place: np.ndarray, at: float) -> np.ndarray:
        return np.asarray(np.exp(-0.5 * ((place - at) / self.bandwidth) ** 2))
