"""How probable held-out hearts are to a shape model, by importance weighting.

    log p(x) >= E[ log 1/K sum_k w_k ],   w_k = p(x | z_k) p(z_k) / q(z_k | x),  z_k ~ q(z | x)

(Burda, Grosse & Salakhutdinov 2016, eq. 8). With K = 1 it is the ELBO; it rises with K and tends to
log p(x). A model whose terms have no ``log_ratio`` has no such weights.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor

from cardiac_vae.config import StrictConfig
from cardiac_vae.data.transforms import one_hot
from cardiac_vae.evaluation.intervals import interval
from cardiac_vae.evaluation.reconstruction import HeldOutSlices
from cardiac_vae.shape_model import ShapeModel


class LikelihoodConfig(StrictConfig):
    """How many draws of how many slices.

    Published figures take 1000 draws. The defaults cost a minute where a model explains 100 slices
    a second.

    Attributes:
        num_draws: K, codes drawn for each slice.
        num_slices: Held-out slices, drawn at random; all if there are not so many.
        batch_size: Draws that are explained at a time.
    """

    num_draws: PositiveInt = 100
    num_slices: PositiveInt = 60
    batch_size: PositiveInt = 100
    seed: int = 0


def score_likelihood(
    model: ShapeModel, slices: HeldOutSlices, config: LikelihoodConfig | None = None
) -> dict[str, Any] | None:
    """Bound log p(x) of held-out slices for a model in evaluation mode; None without weights.

    Returns ``num_draws``, ``num_slices``, ``num_patients``, ``num_dimensions`` (H * W) and
    ``metrics``: name -> mean, low, high, n, the interval drawing patients:

    - ``negative_log_likelihood``: its upper bound in nats per slice, and
      ``bits_per_dimension``, the same per pixel and in bits;
    - ``negative_elbo``: of the same slices and draws, in nats;
    - ``effective_draws``: (sum w)^2 / sum w^2, between 1 and K: where it is close to 1 a single
      draw carries the estimate, and the bound is loose.

    Random numbers are drawn from ``config.seed``; the caller's generator is left as it was.
    """
    config = config or LikelihoodConfig()
    drawn = slices.without_empty()
    rng = np.random.default_rng(config.seed)
    size = min(config.num_slices, len(drawn.masks))
    chosen = np.sort(rng.choice(len(drawn.masks), size, replace=False))
    owners = [drawn.patient_ids[index] for index in chosen]
    rows: list[Tensor] = []
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        for mask in drawn.masks[chosen]:
            weights = draw_log_weights(model, mask, config)
            if weights is None:
                return None
            rows.append(weights)
    found = torch.stack(rows)
    nll = -log_likelihood(found)
    num_pixels = drawn.masks[0].size
    values = {
        "negative_log_likelihood": nll,
        "bits_per_dimension": nll / (num_pixels * math.log(2)),
        "negative_elbo": -found.mean(dim=1),
        "effective_draws": effective_draws(found),
    }
    return {
        "num_draws": config.num_draws,
        "num_slices": size,
        "num_patients": len(set(owners)),
        "num_dimensions": num_pixels,
        "metrics": {
            name: interval(column.numpy(), owners, config.seed) for name, column in values.items()
        },
    }


@torch.no_grad()
def draw_log_weights(
    model: ShapeModel, mask: np.ndarray, config: LikelihoodConfig
) -> Tensor | None:
    """Return log w of ``num_draws`` codes of one mask (H, W), float64 (K,), in nats.

    None if the model has no ``log_ratio``. Memory is that of ``batch_size`` draws.
    """
    device = next(model.parameters()).device
    whole = one_hot(torch.from_numpy(mask[None])).to(device)
    found = []
    for size in _portions(config.num_draws, config.batch_size):
        terms = model(whole.expand(size, *whole.shape[1:]))[1]
        if terms.log_ratio is None:
            return None
        found.append(-(terms.reconstruction.double() + terms.log_ratio.double()).cpu())
    return torch.cat(found)


def log_likelihood(log_weights: Tensor) -> Tensor:
    """Return log 1/K sum_k w_k of the logarithms of weights (N, K), (N,) in nats."""
    return log_weights.logsumexp(dim=1) - math.log(log_weights.shape[1])


def effective_draws(log_weights: Tensor) -> Tensor:
    """Return (sum_k w_k)^2 / sum_k w_k^2 of the logarithms of weights (N, K), (N,) in [1, K]."""
    return (2 * log_weights.logsumexp(dim=1) - (2 * log_weights).logsumexp(dim=1)).exp()


def _portions(total: int, size: int) -> Iterator[int]:
    for start in range(0, total, size):
        yield min(size, total - start)
