"""How unlike a heart a mask is, in nats: its negative ELBO with a density in the prior's place.

    surprise(x) = E_q[log q(z | x) - log p(x | z) - log p(z)] - E_q[log p_density(z) - log p(z)]

It is high for a mask that the model cannot draw, and for one whose code lies where no heart's code
does. A number of nats says little by itself: its rank among the training hearts says more
(``surprise_scale``).
"""

import torch
from torch import Tensor

from cardiac_vae.data.transforms import one_hot
from cardiac_vae.densities.code_density import CodeDensity
from cardiac_vae.shape_model import ShapeModel


@torch.no_grad()
def surprise(
    model: ShapeModel,
    density: CodeDensity,
    masks: Tensor,
    num_draws: int = 4,
    condition: Tensor | None = None,
    batch_size: int = 64,
) -> Tensor:
    """Return the surprise (N,) float64 in nats of label maps (N, H, W), a model in eval mode.

    The means over q(z | x) are over ``num_draws`` draws, from torch's global generator.

    Raises:
        ValueError: if the model has no bound, or the density is over other codes than the model's.
    """
    density.require_fit(model)
    device = next(model.parameters()).device
    batches = torch.split(masks, batch_size)
    told = [None] * len(batches) if condition is None else torch.split(condition, batch_size)
    found = []
    for batch, c in zip(batches, told, strict=True):
        seen = one_hot(batch).to(device)
        draws = [_of_one_draw(model, density, seen, c) for _ in range(num_draws)]
        found.append(torch.stack(draws).mean(dim=0))
    return torch.cat(found)


@torch.no_grad()
def has_bound(model: ShapeModel, masks: Tensor) -> bool:
    """Say whether a model bounds likelihoods, asked of any label maps (N, H, W) that it takes."""
    return model(one_hot(masks).to(next(model.parameters()).device))[1].has_bound


def _of_one_draw(
    model: ShapeModel, density: CodeDensity, seen: Tensor, condition: Tensor | None
) -> Tensor:
    terms = model(seen, condition=condition)[1]
    if not terms.has_bound:
        raise ValueError(
            f"surprise: expected a model with a bound, got {type(model).__module__}; take a recipe "
            "such as vae"
        )
    latents = model.encode(seen, condition=condition, temperature=1.0)
    noise = model.noise_of(latents[: density.num_groups], condition)
    gain = density.log_ratio([e.cpu() for e in noise])
    return terms.negative_elbo.double().cpu() - gain
