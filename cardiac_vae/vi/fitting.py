"""One loop for all ways to fit the mixture: start, step, watch the bound, stop on it."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from statistics import fmean
from typing import Protocol, TypeVar

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from cardiac_vae.config import StrictConfig
from cardiac_vae.vi.mixture import MixturePosterior
from cardiac_vae.vi.statistics import Codes, taken


class State(Protocol):
    """Where a method is: the posterior, and whatever else its next step has to know."""

    @property
    def posterior(self) -> MixturePosterior:
        """The factors of q over weights, means and precisions."""
        ...


S = TypeVar("S", bound=State)


class Method(Protocol[S]):
    """A way to fit the mixture. It changes no state, it returns the next one."""

    def init(self, codes: Codes, generator: torch.Generator) -> S:
        """Return where to start. ``codes`` are all of them, or the first batch of a stream."""
        ...

    def step(self, state: S, codes: Codes) -> S:
        """Return the state after one step on all codes, or on a batch of them."""
        ...

    def elbo(self, state: S, codes: Codes) -> float:
        """Return the bound of all codes in nats; from a batch an unbiased estimate of it."""
        ...


class FitConfig(StrictConfig):
    """When to stop, and how many codes a step sees.

    Attributes:
        max_steps: Budget.
        tolerance: A bound that rises by this or less, in nats per step, has converged.
        batch_size: Codes of a step, dealt anew in each pass; None for all of them.
        window: Steps over which the bound is averaged before it is judged; None for those of one
            pass over the codes, which is 1 without batches.
    """

    max_steps: PositiveInt = 1000
    tolerance: NonNegativeFloat = 1e-3
    batch_size: PositiveInt | None = None
    window: PositiveInt | None = None


@dataclass(frozen=True)
class Fit:
    """What a fit came to.

    Attributes:
        posterior: After the last step.
        bounds: In nats, before each step and, unless a stream ended, after the last.
        has_converged: Whether it stopped because the bound rose no longer.
        num_steps: Steps taken.
    """

    posterior: MixturePosterior
    bounds: list[float]
    has_converged: bool
    num_steps: int


def fit(
    method: Method[S],
    codes: Codes | Iterable[Codes],
    config: FitConfig,
    generator: torch.Generator,
) -> Fit:
    """Fit a mixture to codes (N, Z), or to a stream of batches (B, Z) that is read once.

    The bound of each state is taken from the codes that the next step sees: of a batch, before it
    has been learned from. Such bounds are noisy. ``has_converged`` compares their mean over the
    last ``window`` steps with that over the window before; over one pass each code counts once, so
    that what noise the choice of the batches makes all but cancels.

    Raises:
        ValueError: if a bound is not finite, a stream is empty or has no window, or the method
            cannot work with these codes.
    """
    batches = _batches(codes, config.batch_size, generator)
    window = config.window or _steps_of_a_pass(codes, config.batch_size)
    first = next(batches, None)
    if first is None:
        raise ValueError("codes: expected a stream of one batch or more, got none")
    state = method.init(codes if isinstance(codes, Codes) else first, generator)
    bounds: list[float] = []
    num_steps = 0
    for batch in chain([first], batches):
        bounds.append(method.elbo(state, batch))
        if not math.isfinite(bounds[-1]):
            raise ValueError(
                f"bound: expected a finite value after {num_steps} steps, got {bounds[-1]}"
            )
        if has_converged(bounds, window, config.tolerance):
            return Fit(state.posterior, bounds, True, num_steps)
        if num_steps == config.max_steps:
            break
        state = method.step(state, batch)
        num_steps += 1
    return Fit(state.posterior, bounds, False, num_steps)


def has_converged(bounds: list[float], window: int, tolerance: float) -> bool:
    """Return whether the mean bound of the last window is no better than that of the one before.

    No better: higher by at most ``tolerance`` for each of the steps that lie between them.
    """
    if len(bounds) < 2 * window:
        return False
    gain = fmean(bounds[-window:]) - fmean(bounds[-2 * window : -window])
    return gain <= tolerance * window


def shuffled_batches(codes: Codes, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield batches (B, Z) without end, each pass in a new order; what does not fill one is left.

    No more than a batch, and the order, is held in memory.
    """
    size = min(batch_size, len(codes))
    while True:
        order = torch.randperm(len(codes), generator=generator)
        for rows in torch.split(order[: len(codes) // size * size], size):
            yield taken(codes, rows.sort().values)  # in the order of the file, which is faster


def _batches(
    codes: Codes | Iterable[Codes], batch_size: int | None, generator: torch.Generator
) -> Iterator[Codes]:
    if not isinstance(codes, Codes):
        return iter(codes)
    if batch_size is None:
        return repeat(codes)
    return shuffled_batches(codes, batch_size, generator)


def _steps_of_a_pass(codes: Codes | Iterable[Codes], batch_size: int | None) -> int:
    if not isinstance(codes, Codes):
        raise ValueError("window: expected a number of steps where codes are a stream, got none")
    return 1 if batch_size is None else max(1, len(codes) // batch_size)
