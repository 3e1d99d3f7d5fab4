"""From a slice towards training shapes that are hearts, and no farther than it takes.

With e the noise behind the slice and a that behind a training shape,

    x(t) = argmax p(x | z(e + t (a - e))),   0 <= t <= 1, on the native pixels

Noise is where straight lines stay among the codes of the prior (``ShapeModel.noise_of``). What
bisection ends at is valid however often validity changes along the way; where it changes once, that
is the nearest valid mask.
"""

from collections.abc import Callable

import numpy as np
import torch

from cardiac_vae.refinement.observation import one_hot_planes
from cardiac_vae.refinement.window import HeartWindow
from cardiac_vae.shape_model import Latents, ShapeModel

HALVINGS = 6  # t to within 1/64

Judge = Callable[[np.ndarray], bool]


def nearest_valid(
    mask_at: Callable[[float], np.ndarray], is_valid: Judge, num_halvings: int = HALVINGS
) -> np.ndarray | None:
    """Return the valid mask of least t that bisection finds; None if that at 1 is not valid.

    ``mask_at`` gives the mask (h, w) at t in [0, 1]; that at 0 is taken as not valid.
    """
    nearest = mask_at(1.0)
    if not is_valid(nearest):
        return None
    low, high = 0.0, 1.0
    for _ in range(num_halvings):
        middle = (low + high) / 2
        mask = mask_at(middle)
        if is_valid(mask):
            nearest, high = mask, middle
        else:
            low = middle
    return nearest


@torch.no_grad()
def walk_to_nearest(
    model: ShapeModel, seen: np.ndarray, anchors: np.ndarray, window: HeartWindow, is_valid: Judge
) -> np.ndarray | None:
    """Return the nearest valid mask (h, w) on the way to the first anchor that decodes validly.

    Args:
        model: In eval mode; one whose latents are no normals walks nowhere.
        seen: (C, S, S) float32, what was seen of the slice, taken as broken.
        anchors: (K, S, S) valid masks, the one to try first first.
        window: Where the slice lies.
        is_valid: Judges masks (h, w) of the window.
    """
    if not model.has_noise:
        return None
    is_broken = torch.ones(1, dtype=torch.bool)
    start = model.noise_of(model.encode(torch.from_numpy(seen[None]), is_broken))
    for anchor in anchors:
        end = model.noise_of(model.encode(torch.from_numpy(one_hot_planes(anchor[None]))))
        mask = nearest_valid(_walk(model, window, start, end), is_valid)
        if mask is not None:
            return mask
    return None


def _walk(
    model: ShapeModel, window: HeartWindow, start: Latents, end: Latents
) -> Callable[[float], np.ndarray]:
    def mask_at(t: float) -> np.ndarray:
        noise = [torch.lerp(e, a, t) for e, a in zip(start, end, strict=True)]
        probabilities = model.decode(model.from_noise(noise)).softmax(dim=1)
        return window.to_native(probabilities.numpy())[0].argmax(axis=0).astype(np.uint8)

    return mask_at
