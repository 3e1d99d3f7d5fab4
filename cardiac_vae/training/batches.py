"""Batches counted in steps, each a function of the seed and its number: a run can resume."""

from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any, Protocol

import torch
from torch import Tensor

Batch = dict[str, Tensor]


class Rows(Protocol):
    """What batches are made of: cases along the first axis, taken by their numbers."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Tensor, /) -> Tensor: ...


def digest(tensors: Iterable[Tensor]) -> str:
    """Return what tells these tensors from others: of what a fit learns from."""
    return sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors)).hexdigest()


class StepBatches:
    """``num_steps`` batches drawn without replacement from tensors held in memory.

    Batch ``n`` depends on the seed and ``n`` alone. In distributed training each process takes
    its own share of every global batch.
    """

    def __init__(
        self, tensors: Mapping[str, Rows], batch_size: int, num_steps: int, seed: int
    ) -> None:
        """Take tensors, or what is taken from like tensors, that share their first axis."""
        sizes = {len(tensor) for tensor in tensors.values()}
        if len(sizes) != 1 or not min(sizes):
            raise ValueError(f"expected tensors with one common number of cases, got {sizes}")
        self.tensors = tensors
        self.batch_size = batch_size
        self.num_steps = num_steps
        self.seed = seed
        self._next_step = 0
        self._num_cases = sizes.pop()
        self._orders: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return self.num_steps

    def __iter__(self) -> Iterator[Batch]:
        while self._next_step < self.num_steps:
            self._next_step += 1
            yield self.batch(self._next_step - 1)
        self._next_step = 0

    def batch(self, step: int) -> Batch:
        """Return batch number ``step`` of this process."""
        rank, world = _rank_and_world()
        first = (step * world + rank) * self.batch_size
        places = (divmod(place, self._num_cases) for place in range(first, first + self.batch_size))
        rows = torch.stack([self._order(epoch)[row] for epoch, row in places])
        return {name: tensor[rows] for name, tensor in self.tensors.items()}

    def _order(self, epoch: int) -> Tensor:
        """Return the order of the cases in one pass, shuffled anew for each."""
        if epoch not in self._orders:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            recent = {key: order for key, order in self._orders.items() if key >= epoch - 1}
            self._orders = recent | {epoch: torch.randperm(self._num_cases, generator=generator)}
        return self._orders[epoch]

    def state_dict(self) -> dict[str, Any]:
        """Return where the run is; Lightning saves it with the checkpoint."""
        return {"next_step": self._next_step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved place."""
        self._next_step = state["next_step"]


def _rank_and_world() -> tuple[int, int]:
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
