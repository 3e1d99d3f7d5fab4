"""An autoregressive distribution over sequences of codes: a causal transformer.

    p(k_1 ... k_N) = prod_i p(k_i | k_<i)                    (van den Oord et al. 2017, sec. 3.3)

Blocks are those of Vaswani et al. 2017 with the norm first. The output layer starts at zero: before
the first step the distribution is uniform, and a sequence costs N log K nats. MONAI's
``DecoderOnlyTransformer`` is not used: it needs ``einops``, keeps no keys and values while it
samples (N passes over the whole sequence instead of one), and its inferer's likelihood gives a part
of the probability to the start token, which its sampling does not.
"""

from collections.abc import Sequence
from typing import Self

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from cardiac_vae.config import StrictConfig
from cardiac_vae.layers.blocks import zero_initialized

Past = tuple[Tensor, Tensor]
"""Keys and values of a block for the positions so far, (B, heads, positions, width / heads)."""


class PriorConfig(StrictConfig):
    """Settings of the transformer."""

    width: PositiveInt = 128
    num_layers: PositiveInt = 4
    num_heads: PositiveInt = 4
    dropout: float = Field(default=0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is not divisible by num_heads {self.num_heads}")
        return self


class CausalBlock(nn.Module):
    """A position looks at those before it and at itself, then thinks: norm first, residual."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.num_heads, self.dropout = config.num_heads, config.dropout
        self.attention_norm = nn.LayerNorm(config.width)
        self.in_projection = nn.Linear(config.width, 3 * config.width)
        self.out_projection = nn.Linear(config.width, config.width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(config.width),
            nn.Linear(config.width, 4 * config.width),
            nn.GELU(),
            nn.Linear(4 * config.width, config.width),
            nn.Dropout(config.dropout),
        )

    def forward(self, x: Tensor, past: Past | None = None) -> tuple[Tensor, Past]:
        """Return the next states of ``x`` (B, N, width) and the keys and values so far.

        With a ``past``, ``x`` is the one position (B, 1, width) that follows it.
        """
        projected = self.in_projection(self.attention_norm(x))
        query, key, value = projected.unflatten(2, (3, self.num_heads, -1)).movedim((2, 3), (0, 2))
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        dropout = self.dropout if self.training else 0.0
        seen = F.scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, is_causal=past is None
        )
        attended = self.out_projection(seen.movedim(1, 2).flatten(start_dim=2))
        x = x + F.dropout(attended, self.dropout, self.training)
        return x + self.mlp(x), (key, value)


class AutoregressivePrior(nn.Module):
    """A distribution over sequences of ``length`` indices below ``num_embeddings``."""

    def __init__(self, num_embeddings: int, length: int, config: PriorConfig) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(num_embeddings, config.width)
        self.positions = nn.Parameter(0.02 * torch.randn(length, config.width))
        self.blocks = nn.ModuleList(CausalBlock(config) for _ in range(config.num_layers))
        self.head = nn.Sequential(
            nn.LayerNorm(config.width),
            zero_initialized(nn.Linear(config.width, num_embeddings)),
        )

    def log_prob(self, indices: Tensor) -> Tensor:
        """Return log p(k_i | k_<i) in nats of each index of sequences (B, N), shape (B, N)."""
        before = F.pad(self.embeddings(indices[:, :-1]), (0, 0, 1, 0))  # the first follows nothing
        logits, _ = self._next(self.positions + before, [None] * len(self.blocks))
        return logits.log_softmax(dim=2).gather(2, indices[:, :, None])[:, :, 0]

    @torch.no_grad()
    def sample(self, num_samples: int, temperature: float = 1.0) -> Tensor:
        """Draw sequences (num_samples, N); temperature 0 takes the likeliest index each time."""
        state, drawn = self.positions[:1].expand(num_samples, 1, -1), []
        pasts: Sequence[Past | None] = [None] * len(self.blocks)
        for position in range(1, len(self.positions) + 1):
            logits, pasts = self._next(state, pasts)
            drawn.append(_draw(logits[:, 0], temperature))
            if position < len(self.positions):
                state = self.positions[position] + self.embeddings(drawn[-1])
        return torch.cat(drawn, dim=1)

    def _next(self, state: Tensor, pasts: Sequence[Past | None]) -> tuple[Tensor, list[Past]]:
        """Return logits (B, N, K) of the index at each position, and what the blocks keep."""
        kept = []
        for block, past in zip(self.blocks, pasts, strict=True):
            state, now = block(state, past)
            kept.append(now)
        return self.head(state).float(), kept


def _draw(logits: Tensor, temperature: float) -> Tensor:
    """Return one index (B, 1) for each row of logits (B, K)."""
    if temperature == 0:
        return logits.argmax(dim=1, keepdim=True)
    return torch.multinomial((logits / temperature).softmax(dim=1), 1)
