"""What is known of a slice besides its mask (group, phase, position), and how models read it.

Each of the three may be missing. A model reads them as one row of three parts, each of which sums
to 1 where it is known and is zero where it is not:

    group     one-hot over the groups that the model knows
    phase     one-hot over end-diastole and end-systole
    position  b_k(t) = binom(n, k) t^k (1 - t)^(n - k) for k = 0 ... n, with n = 4

The last are Bernstein's polynomials: smooth in the position t, and sum_k (k / n) b_k(t) = t.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import comb
from typing import Self

import numpy as np
import torch
from torch import Tensor

from cardiac_vae.labels import Phase

ACDC_GROUPS = ("NOR", "DCM", "HCM", "MINF", "RV")
"""The diagnoses of ACDC: normal, dilated, hypertrophic, infarcted, abnormal right ventricle."""

_DEGREE = 4
_PHASES = tuple(Phase)
_PHASE_WORDS = {"ed": Phase.ED, "es": Phase.ES, "end-diastole": Phase.ED, "end-systole": Phase.ES}
_POSITION_WORDS = {"base": 0.0, "mid-ventricle": 0.5, "apex": 1.0}


@dataclass(frozen=True, slots=True)
class Condition:
    """What is known of a slice; what is left out is not known.

    Attributes:
        group: Diagnosis, or "".
        phase: "ed", "es", or "".
        position: Where the slice lies along the heart, from 0 (base) to 1 (apex), or None.
    """

    group: str = ""
    phase: str = ""
    position: float | None = None

    def __post_init__(self) -> None:
        if self.phase and self.phase not in _PHASES:
            raise ValueError(
                f"phase: expected one of {[*map(str, Phase)]}, or '' for unknown, "
                f"got {self.phase!r}"
            )
        if self.position is not None and not 0 <= self.position <= 1:
            raise ValueError(
                "position: expected a number from 0 (base) to 1 (apex), or None for unknown, "
                f"got {self.position}"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what a person writes: "HCM, es, 0.5" or "end-systole, mid-ventricle", in any order.

        Raises:
            ValueError: if a thing is said twice, or a position is not in [0, 1].
        """
        said: dict[str, str] = {}
        for word in filter(None, (part.strip() for part in text.split(","))):
            name = _what_it_says(word)
            if name in said:
                raise ValueError(
                    f"condition {text!r}: expected one {name}, got {said[name]!r} and {word!r}"
                )
            said[name] = word
        return cls(
            group=said.get("group", ""),
            phase=_PHASE_WORDS[said["phase"].lower()] if "phase" in said else "",
            position=_as_position(said["position"]) if "position" in said else None,
        )

    def within(self, groups: Sequence[str]) -> Self:
        """Return the condition without its group where that is none of ``groups``."""
        return self if self.group in groups else replace(self, group="")


def _what_it_says(word: str) -> str:
    if word.lower() in _PHASE_WORDS:
        return "phase"
    return "group" if _as_position(word) is None else "position"


def _as_position(word: str) -> float | None:
    """Return the position that a word names; None if it names none."""
    if word.lower() in _POSITION_WORDS:
        return _POSITION_WORDS[word.lower()]
    try:
        return float(word)
    except ValueError:
        return None


def part_sizes(groups: Sequence[str]) -> tuple[int, int, int]:
    """Return how many numbers the group, the phase and the position take; K is their sum."""
    return len(groups), len(_PHASES), _DEGREE + 1


def encode_conditions(
    conditions: Sequence[Condition], groups: Sequence[str] = ACDC_GROUPS
) -> Tensor:
    """Return conditions as a model reads them that knows ``groups``, (B, K) float32.

    Raises:
        ValueError: if a condition names another group.
    """
    return torch.tensor([_row(condition, groups) for condition in conditions]).reshape(
        len(conditions), sum(part_sizes(groups))
    )


def _row(condition: Condition, groups: Sequence[str]) -> list[float]:
    if condition.group and condition.group not in groups:
        raise ValueError(
            f"group: expected one of {list(groups)}, or '' for unknown, got {condition.group!r}"
        )
    t = condition.position
    return [
        *(float(condition.group == group) for group in groups),
        *(float(condition.phase == phase) for phase in _PHASES),
        *(0.0 if t is None else _bernstein(k, t) for k in range(_DEGREE + 1)),
    ]


def _bernstein(k: int, t: float) -> float:
    return comb(_DEGREE, k) * t**k * (1 - t) ** (_DEGREE - k)


def slice_positions(mask: np.ndarray) -> np.ndarray:
    """Return where each slice of a (D, H, W) mask lies along its heart, (D,) from 0 to 1.

    0 is the most basal slice that shows a heart, 1 the most apical one; NaN beyond them, and
    everywhere if only one slice shows a heart. No reader orders the slices, so the heart says
    which end is which: it tapers, and more of it lies towards its base.
    """
    area = (mask > 0).sum(axis=(1, 2))
    shown = np.flatnonzero(area)
    positions = np.full(len(mask), np.nan)
    if len(shown) > 1:
        along = slice(shown[0], shown[-1] + 1)
        from_first = np.linspace(0, 1, shown[-1] - shown[0] + 1)
        is_apex_first = area[along] @ (from_first - 0.5) > 0
        positions[along] = from_first[::-1] if is_apex_first else from_first
    return positions


def slice_conditions(group: str, phase: str, mask: np.ndarray) -> list[Condition]:
    """Return what is known of each slice of a (D, H, W) mask, in the order of the stack."""
    return [
        Condition(group, phase, None if np.isnan(position) else float(position))
        for position in slice_positions(mask)
    ]
