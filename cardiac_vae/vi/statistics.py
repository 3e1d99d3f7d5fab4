"""What an update of the mixture has to know of codes, collected in bounded memory.

    N_k = sum_n r_nk,   N_k xbar_k = sum_n r_nk x_n,   N_k S_k = sum_n r_nk (x_n - xbar_k)(...)^T

(Bishop 2006, eq. 10.51-10.53), and the entropy -sum_nk r_nk log r_nk of the responsibilities.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from torch import Tensor

Codes = Tensor | np.ndarray
"""(N, Z) values of a latent, one row per case; a memory-mapped array is read in chunks."""

Weighted = tuple[Tensor, Tensor, Tensor]
"""Of each component a weight (K,), a mean (K, Z) and a scatter about it (K, Z, Z)."""

_CHUNK = 2**17  # numbers of a (K, rows, Z) block: 1 MiB, which a processor keeps near
_TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True)
class SufficientStatistics:
    """All that an update has to know of codes and their local factor; those of chunks add up.

    Attributes:
        counts: (K,) N_k, the sum of the responsibilities.
        means: (K, Z) xbar_k, of the codes of each component; 0 where there are none.
        scatter: (K, Z, Z) N_k S_k, the sum of squares about those means.
        entropy: Scalar, that of all local factors, in nats.
    """

    counts: Tensor
    means: Tensor
    scatter: Tensor
    entropy: Tensor

    def __add__(self, other: SufficientStatistics) -> SufficientStatistics:
        """Return the statistics of both sets of codes."""
        merged_moments = merged(
            (self.counts, self.means, self.scatter), (other.counts, other.means, other.scatter)
        )
        return SufficientStatistics(*merged_moments, self.entropy + other.entropy)

    def scaled(self, factor: float) -> SufficientStatistics:
        """Return the statistics of codes that each count ``factor`` times."""
        return SufficientStatistics(
            factor * self.counts, self.means, factor * self.scatter, factor * self.entropy
        )


def statistics(codes: Codes, responsibilities: Tensor) -> SufficientStatistics:
    """Return the statistics of codes (N, Z) with responsibilities (N, K).

    Raises:
        ValueError: if there is not one row of responsibilities per code.
    """
    if responsibilities.ndim != 2 or len(responsibilities) != len(codes):
        raise ValueError(
            f"responsibilities: expected ({len(codes)}, K), one row per code, "
            f"got shape {tuple(responsibilities.shape)}"
        )
    rows = list(chunks(codes, responsibilities.shape[1]))
    parts = torch.split(responsibilities.double(), [len(chunk) for chunk in rows])
    return reduce(SufficientStatistics.__add__, map(_statistics, rows, parts))


def total_statistics(codes: Codes) -> SufficientStatistics:
    """Return the statistics of codes (N, Z) that are all of one component."""
    of_chunks = (_statistics(rows, rows.new_ones(len(rows), 1)) for rows in chunks(codes, 1))
    return reduce(SufficientStatistics.__add__, of_chunks)


def chunks(codes: Codes, num_components: int, size: int | None = None) -> Iterator[Tensor]:
    """Yield codes (N, Z) as float64 tensors of so many rows that (K, rows, Z) stays small.

    Raises:
        ValueError: if there are none, they are not (N, Z) or not finite.
    """
    _require_rows(codes, size)
    step = max(1, _CHUNK // (num_components * codes.shape[1]))
    for start in range(0, len(codes), step):
        yield _in_memory(codes[start : start + step], range(start, len(codes)))


def taken(codes: Codes, rows: Tensor) -> Tensor:
    """Return the codes (B, Z) of row numbers (B,), as a float64 tensor in memory.

    Raises:
        ValueError: as ``chunks``.
    """
    _require_rows(codes)
    index = rows if isinstance(codes, Tensor) else rows.numpy()
    return _in_memory(codes[index], rows)


def merged(first: Weighted, second: Weighted) -> Weighted:
    """Return weight, mean and scatter of two sets taken together.

    The same as adding weights, weighted means and second moments about the origin, but without
    losing digits where the means are far from it.
    """
    weight = first[0] + second[0]
    share = second[0] / weight.clamp(min=_TINY)
    shift = second[1] - first[1]
    between = outer(first[0] * share, shift)
    return weight, first[1] + share[:, None] * shift, first[2] + second[2] + between


def outer(weight: Tensor, vector: Tensor) -> Tensor:
    """Return w v v^T (K, Z, Z) of weights (K,) and vectors (K, Z)."""
    return weight[:, None, None] * vector[:, :, None] * vector[:, None, :]


def _statistics(codes: Tensor, responsibilities: Tensor) -> SufficientStatistics:
    counts = responsibilities.sum(dim=0)
    means = responsibilities.T @ codes / counts.clamp(min=_TINY)[:, None]
    offsets = codes - means[:, None]
    scatter = (responsibilities.T[..., None] * offsets).mT @ offsets
    # log of a clamped value: 0 log 0 is 0, and its gradient is finite
    entropy = -(responsibilities * responsibilities.clamp(min=_TINY).log()).sum()
    return SufficientStatistics(counts, means, scatter, entropy)


def _require_rows(codes: Codes, size: int | None = None) -> None:
    if codes.ndim != 2 or 0 in codes.shape or (size is not None and codes.shape[1] != size):
        width = "Z" if size is None else size
        raise ValueError(f"codes: expected (N, {width}), N > 0, got shape {tuple(codes.shape)}")


def _in_memory(codes: Codes, numbers: Sequence[int] | Tensor) -> Tensor:
    """Return rows (B, Z) as a float64 tensor; ``numbers`` are theirs among all codes."""
    rows = codes if isinstance(codes, Tensor) else torch.from_numpy(np.array(codes))
    rows = rows.double()
    is_finite = rows.isfinite().all(dim=1)
    if not bool(is_finite.all()):
        number = int(numbers[int(is_finite.logical_not().nonzero()[0])])
        raise ValueError(f"codes: expected finite values, got NaN or infinity in row {number}")
    return rows
