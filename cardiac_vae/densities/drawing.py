"""Draw hearts from a density over codes, and let the model look again at what it drew.

A drawn mask that is no heart is like a segmenter's mask that is none, and the encoder has learnt to
infer the whole heart behind such a one. A pass takes what was drawn for broken, draws a code from
the posterior of the heart behind it and decodes that:

    z ~ q(z | x, broken),  x = argmax p(x | z)

This is the Markov chain of a denoising autoencoder (Bengio, Yao, Alain & Vincent 2013), or, for an
encoder that never saw broken masks, pseudo-Gibbs sampling (Rezende, Mohamed & Wierstra 2014, app.
F). It ends in hearts that the model knows, wherever it starts. The most probable mask stands in for
a draw of p(x | z), whose pixels would be drawn one by one.
"""

import torch
from torch import Tensor

from cardiac_vae.data.transforms import one_hot
from cardiac_vae.densities.code_density import CodeDensity
from cardiac_vae.shape_model import ShapeModel


@torch.no_grad()
def draw_codes(
    model: ShapeModel,
    density: CodeDensity,
    number: int,
    generator: torch.Generator,
    condition: Tensor | None = None,
) -> list[Tensor]:
    """Return latents of the groups that have the density, top first, each (number, ...).

    Groups below are left to ``decode``, which draws them at a temperature.
    """
    device = next(model.parameters()).device
    noise = [e.to(device) for e in density.draw(number, generator)]
    return model.from_noise(noise, condition)


@torch.no_grad()
def look_again(model: ShapeModel, masks: Tensor, condition: Tensor | None = None) -> Tensor:
    """Return label maps (N, H, W) uint8 after a pass of the chain, of a model in eval mode."""
    device = next(model.parameters()).device
    is_broken = torch.ones(len(masks), dtype=torch.bool, device=device)
    codes = model.encode(one_hot(masks).to(device), is_broken, condition, temperature=1.0)
    return model.decode(codes, condition=condition).argmax(dim=1).to(torch.uint8).cpu()
