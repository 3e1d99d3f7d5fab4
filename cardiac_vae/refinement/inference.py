"""The bound of a scan, and coordinate ascent on it (the refiner's ELBO; see docs/theory.md).

Seen are y, what the segmenter says, and I, the scan; unknown are z, the code of each slice that is
refined, x, its true mask, and theta, what the tissues of this scan look like:

    log p(y, I) >= E_q[log p(x | z) + log p(y | x) + log p(I | x, theta)] + H[q(x | z)]
                   - KL(q(theta) || p(theta)) - beta KL(q(z) || p(z)),    beta >= 1
    q(x_i = c | z) ~ exp(log p(x_i = c | z) + log p(y_i | x_i = c)
                         + E_q(theta)[log p(I_i | c, theta)])

Each sweep moves q(z) (``moving_code``), and sets q(x) and then q(theta) to the best given the
others, both in closed form, so the bound never falls. Where the code stays where the encoder put it
the bound is one of log p(y, I | z), and the last term is left out. Slices that are not refined keep
their mask; they show what tissues look like.
"""

from dataclasses import dataclass

import numpy as np
from pydantic import NonNegativeFloat, PositiveInt

from cardiac_vae.config import StrictConfig
from cardiac_vae.refinement.appearance import AppearanceConfig, AppearanceModel
from cardiac_vae.refinement.moving_code import MovingCode


class InferenceConfig(StrictConfig):
    """How long the ascent goes on, and how much the scan counts.

    Attributes:
        max_sweeps: Updates of q(theta) at most.
        tolerance: A sweep that lifts the bound by this or less, in nats, is the last.
    """

    max_sweeps: PositiveInt = 10
    tolerance: NonNegativeFloat = 1.0
    appearance: AppearanceConfig = AppearanceConfig()


@dataclass(frozen=True)
class Inferred:
    """What the ascent came to.

    Attributes:
        log_belief: (N, C, h, w) log q(x) of the refined slices, up to a constant of each pixel.
        bounds: In nats, after each update of q(x); they never fall. Empty if neither the scan was
            used nor the code moved.
        refusal: Why the scan is left out; "" where it is not.
    """

    log_belief: np.ndarray
    bounds: tuple[float, ...] = ()
    refusal: str = ""


def infer(
    log_joint: np.ndarray,
    image: np.ndarray,
    mask_planes: np.ndarray,
    is_refined: np.ndarray,
    config: InferenceConfig | None = None,
    code: MovingCode | None = None,
) -> Inferred:
    """Return q(x) of the refined slices after coordinate ascent with the scan's intensities.

    Args:
        log_joint: (N, C, h, w) log p(x | z) + log p(y | x) of the N refined slices.
        image: (D, h, w) the scan, all slices.
        mask_planes: (D, C, h, w) one-hot masks; those of the slices that are not refined count.
        is_refined: (D,) bool, which slices are.
        config: Settings.
        code: q(z) of the refined slices, if it moves.

    Raises:
        ValueError: if the image is not on the masks' grid, or shows nothing.
    """
    config = config or InferenceConfig()
    model = AppearanceModel(image, config.appearance)
    belief = mask_planes.astype(np.float64)
    belief[is_refined] = normalized(log_joint)
    appearance = model.start(belief)
    if appearance.refusal:
        return infer_without_scan(log_joint, code, appearance.refusal)
    fixed = belief[~is_refined]
    bounds: list[float] = []
    while True:
        seen = model.log_likelihood(appearance)
        if code is None:
            log_belief = log_joint + seen[is_refined]
            evidence = float(np.logaddexp.reduce(log_belief, axis=1).sum())
        else:
            log_belief, evidence = code.move(seen[is_refined])
        bound = evidence + float((fixed * seen[~is_refined]).sum()) - model.kl(appearance)
        bounds.append(bound)
        is_over = len(bounds) > 1 and bounds[-1] - bounds[-2] <= config.tolerance
        if is_over or len(bounds) > config.max_sweeps:
            return Inferred(log_belief, tuple(bounds))
        belief[is_refined] = normalized(log_belief)
        appearance = model.update(appearance, belief)


def infer_without_scan(
    log_joint: np.ndarray, code: MovingCode | None = None, refusal: str = ""
) -> Inferred:
    """Return q(x) of the refined slices by the model and the segmenter; ``infer`` has arguments.

    The bounds are those of the steps of the code.
    """
    if code is None:
        return Inferred(log_joint, refusal=refusal)
    log_belief, _ = code.move()
    return Inferred(log_belief, tuple(code.bounds), refusal)


def log_floored(probabilities: np.ndarray) -> np.ndarray:
    """Return logarithms of probabilities, a millionth at least: no expert decides a pixel alone."""
    return np.asarray(np.log(np.maximum(probabilities, 1e-6)))


def normalized(log_belief: np.ndarray) -> np.ndarray:
    """Return probabilities (N, C, ...) of log-probabilities that lack a constant per pixel."""
    belief = np.exp(log_belief - log_belief.max(axis=1, keepdims=True))
    return np.asarray(belief / belief.sum(axis=1, keepdims=True))
