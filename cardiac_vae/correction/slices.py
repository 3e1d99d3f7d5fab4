"""Drawn slices beside the expert's, each with its neighbors in the stack."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class DrawnStack:
    """One volume on the shape models' grid.

    Attributes:
        given: (D, C, S, S) float, the probabilities that the shape model is shown.
        expert: (D, S, S) uint8, values of ``Structure``.
    """

    given: np.ndarray
    expert: np.ndarray


@dataclass(frozen=True)
class DrawnSlices:
    """The slices of many stacks in memory.

    Attributes:
        given: (N, C, S, S) float16.
        expert: (N, S, S) uint8.
        beside: (N, 2) int64, the rows of the slices before and after, as ``neighbors``.
    """

    given: Tensor
    expert: Tensor
    beside: Tensor

    @classmethod
    def of(cls, stacks: Sequence[DrawnStack]) -> Self:
        """Join stacks.

        Raises:
            ValueError: if there is none.
        """
        if not stacks:
            raise ValueError("expected stacks with a heart to learn from, got none; add patients")
        beside, first = [], 0
        for stack in stacks:
            own = neighbors(torch.from_numpy(stack.given))
            beside.append(torch.where(own < 0, own, own + first))
            first += len(own)
        return cls(
            torch.from_numpy(np.concatenate([stack.given.astype(np.float16) for stack in stacks])),
            torch.from_numpy(np.concatenate([stack.expert for stack in stacks])),
            torch.cat(beside),
        )


def neighbors(given: Tensor) -> Tensor:
    """Return (D, 2) int64, the slices before and after each of a stack (D, C, S, S).

    -1 where there is none, or nothing is drawn in it: an end that the segmenter drew is no end that
    can be relied on.
    """
    depth = len(given)
    is_drawn = torch.zeros(depth + 2, dtype=torch.bool)
    is_drawn[1:-1] = given.argmax(dim=1).flatten(start_dim=1).any(dim=1)
    index = torch.arange(depth)
    before = torch.where(is_drawn[:-2], index - 1, -1)
    after = torch.where(is_drawn[2:], index + 1, -1)
    return torch.stack([before, after], dim=1)


def views(given: Tensor, beside: Tensor, rows: Tensor) -> Tensor:
    """Return (B, V * C, S, S) float32: the slice of each row, the one before, the one after.

    ``given`` is (N, C, S, S) and ``beside`` (N, 2), as in ``DrawnSlices``. A neighbor that is not
    there is zero in all its planes.
    """
    pair = beside[rows]
    others = given[pair.clamp(min=0)].float()  # (B, 2, C, S, S)
    others *= (pair >= 0)[:, :, None, None, None]
    return torch.cat([given[rows].float(), others.flatten(1, 2)], dim=1)
