"""From what a stack says of its slices to what is done: remove, draw, or leave as drawn.

A decision reaches the pixels as a term of their log-score, one number per slice and class. What
the segmenter says of a pixel is P(k in slice) p(x = k | k in slice), with a P of its own. Where the
stack knows better, that factor is exchanged (Jeffrey: The Logic of Decision, 1965). Of the pixels
where the segmenter is surest of k, those that make its P, the odds become those of the stack:

    logit p'(x = k) = logit p(x = k) + logit P(k in slice | stack) - logit P_segmenter(k in slice)
"""

from dataclasses import dataclass

import numpy as np
from pydantic import NonNegativeFloat

from cardiac_vae.config import StrictConfig
from cardiac_vae.labels import HEART, NUM_CLASSES, Structure
from cardiac_vae.refinement.stack.consistency import is_gap


class DecisionConfig(StrictConfig):
    """How strong evidence must be before a slice is touched, as log-odds in nats.

    Attributes:
        remove_nats: Against a structure that is drawn.
        draw_nats: For a structure that is not.
    """

    remove_nats: NonNegativeFloat = 0.5
    draw_nats: NonNegativeFloat = 0.5


@dataclass(frozen=True)
class PresenceDecision:
    """One structure to be drawn in, or removed from, one slice.

    Attributes:
        index: Which slice.
        structure: Which structure.
        is_removal: Whether it goes; otherwise it is to be drawn.
        evidence: Log-odds of the decision, nats.
    """

    index: int
    structure: Structure
    is_removal: bool
    evidence: float

    def __str__(self) -> str:
        """Say it in a line."""
        there = "is drawn and should not be" if self.is_removal else "is missing"
        return f"slice {self.index}: {self.structure.name} {there} ({self.evidence:.1f} nats)"


def decide(
    present: np.ndarray, log_odds: np.ndarray, config: DecisionConfig | None = None
) -> list[PresenceDecision]:
    """Return what to change, strongest evidence first.

    ``present`` (D, 3) bool is what is drawn, ``log_odds`` (D, 3) what the stack says. No change may
    leave a structure with more gaps than it had; one that waits for another is asked again.

    Raises:
        ValueError: if the two are not (D, 3).
    """
    if present.shape != log_odds.shape or present.shape[1:] != (len(HEART),):
        raise ValueError(
            f"expected present and log_odds of one shape (D, {len(HEART)}), "
            f"got {present.shape} and {log_odds.shape}"
        )
    config = config or DecisionConfig()
    evidence = np.where(present, -log_odds - config.remove_nats, log_odds - config.draw_nats)
    waiting = sorted(np.argwhere(evidence > 0).tolist(), key=lambda at: -abs(log_odds[tuple(at)]))
    now, decisions = present.copy(), []
    while (accepted := _first_without_gap(now, waiting)) is not None:
        waiting.remove(accepted)
        index, column = accepted
        now[index, column] ^= True
        evidence_nats = float(abs(log_odds[index, column]))
        decisions.append(
            PresenceDecision(index, HEART[column], bool(present[index, column]), evidence_nats)
        )
    return sorted(decisions, key=lambda decision: -decision.evidence)


def presence_term(
    decisions: list[PresenceDecision], peak: np.ndarray, log_odds: np.ndarray
) -> np.ndarray:
    """Return what each class gains in each slice (D, C), nats, to be added to the log-score.

    0 for what stays; -inf for what is removed; for what is to be drawn the log-odds of the stack
    less those of the segmenter, whose ``peak`` (D, 3) of ``evidence.peaks`` is its P(k in slice).
    What the segmenter hardly saw stays undrawn, for the term says that a structure is there, not
    where.
    """
    term = np.zeros((len(peak), NUM_CLASSES))
    for decision in decisions:
        column = HEART.index(decision.structure)
        at = decision.index, column
        of_segmenter = np.log(peak[at]) - np.log1p(-peak[at])
        gain = -np.inf if decision.is_removal else log_odds[at] - of_segmenter
        term[decision.index, decision.structure] = gain
    return term


def redrawn(mask: np.ndarray, probabilities: np.ndarray, term: np.ndarray) -> np.ndarray:
    """Return a mask (D, H, W) with the slices of a term (D, C) drawn anew, without a shape model.

    Each pixel takes the class with the largest log-probability (D, C, H, W) plus term. Slices whose
    term is 0 stay as they are, to the bit.
    """
    result = mask.copy()
    for index in np.flatnonzero(term.any(axis=1)):
        gain = np.exp(term[index])[:, None, None]
        result[index] = (probabilities[index] * gain).argmax(axis=0)
    return result


def _first_without_gap(present: np.ndarray, waiting: list[list[int]]) -> list[int] | None:
    gaps_now = is_gap(present).sum(axis=0)
    for at in waiting:
        changed = present.copy()
        changed[tuple(at)] ^= True
        if is_gap(changed)[:, at[1]].sum() <= gaps_now[at[1]]:
            return at
    return None
