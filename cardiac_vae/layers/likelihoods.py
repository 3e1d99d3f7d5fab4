"""What a pixel of a mask costs, in nats."""

import torch.nn.functional as F
from torch import Tensor


def categorical_nll(logits: Tensor, target: Tensor) -> Tensor:
    """Return -log p(x | logits) in nats per case, (B,), one categorical per pixel.

    Both are (B, C, ...); the target is one-hot, or probabilities (then a cross-entropy).
    """
    per_pixel = F.cross_entropy(logits.float(), target.float(), reduction="none")
    return per_pixel.flatten(start_dim=1).sum(dim=1)
