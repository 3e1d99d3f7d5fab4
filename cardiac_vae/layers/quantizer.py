"""Vector quantization: each vector becomes its nearest code (van den Oord et al. 2017).

    k(z) = argmin_j |z - e_j|^2                     nearest neighbor           (eq. 1)
    dL/dz := dL/de_k                                straight-through gradient  (sec. 3.2)
    |sg(z) - e_k|^2,  |z - sg(e_k)|^2               codebook, commitment       (eq. 3)
    N_j <- g N_j + (1 - g) n_j,  m_j <- g m_j + (1 - g) s_j,  e_j = m_j / N_j  (appendix A.1)
      where n_j vectors took code j in a batch, and s_j is their sum

Codes that no vector has taken for a while are put where vectors are. MONAI has an ``EMAQuantizer``;
it is not used because it searches in bf16 under the CPU's autocast, learns in passes without
gradient (the re-estimation of batch-norm statistics is one), divides the codes that the first batch
leaves out by nothing, and neither revives codes nor learns them by gradient.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from cardiac_vae.config import StrictConfig

TINY = torch.finfo(torch.float32).tiny


class QuantizerConfig(StrictConfig):
    """Settings of a codebook.

    Attributes:
        updates: How codes follow what they stand for: by moving averages, or by the gradient of the
            codebook loss.
        decay: Of the moving averages, per step.
        commitment_cost: Weight of the commitment loss; the paper's beta.
        revive_after: Steps without use after which a code is put where a vector of the batch is;
            None leaves it where it is.
    """

    num_embeddings: PositiveInt = 512
    embedding_dim: PositiveInt = 8
    updates: Literal["ema", "gradient"] = "ema"
    decay: float = Field(default=0.99, ge=0, lt=1)
    commitment_cost: NonNegativeFloat = 0.25
    revive_after: PositiveInt | None = 50


@dataclass(frozen=True)
class Quantized:
    """What became of vectors (B, D, ...).

    Attributes:
        values: (B, D, ...) their codes; a gradient on them passes straight to the vectors.
        indices: (B, ...) int64, which codes.
        commitment: (B,) squared distance to the codes, summed; its gradient moves the vectors.
        codebook: (B,) the same number; its gradient moves the codes, if those learn by gradient.
    """

    values: Tensor
    indices: Tensor
    commitment: Tensor
    codebook: Tensor


class Quantizer(nn.Module):
    """A codebook (K, D) and how it learns; it learns in training passes with gradient only.

    In distributed training all processes' vectors move it, and it stays the same in each.

    Attributes:
        codebook: (K, D) the codes; a parameter if they learn by gradient, else a buffer.
        usage: (K,) moving average of how many vectors take each code in a step.
        idle: (K,) int64, steps since each code was last taken.
    """

    codebook: Tensor
    usage: Tensor
    idle: Tensor

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        self.config = config
        start = torch.randn(config.num_embeddings, config.embedding_dim)
        if config.updates == "gradient":
            self.codebook = nn.Parameter(start)
        else:
            self.register_buffer("codebook", start)
        self.register_buffer("usage", torch.zeros(config.num_embeddings))
        self.register_buffer("idle", torch.zeros(config.num_embeddings, dtype=torch.int64))

    def forward(self, z: Tensor) -> Quantized:
        """Quantize vectors (B, D, ...) of any number of axes."""
        z = z.float()
        indices = self.nearest(z)
        code = self.embed(indices)
        quantized = Quantized(
            straight_through(z, code),
            indices,
            commitment=_squared_distance(z, code.detach()),
            codebook=_squared_distance(z.detach(), code),
        )
        if self.training and torch.is_grad_enabled():
            self._learn(_rows(z.detach()), indices.flatten())
        return quantized

    @torch.no_grad()
    def nearest(self, z: Tensor) -> Tensor:
        """Return the index (B, ...) of the code nearest to each vector of (B, D, ...)."""
        with torch.autocast(z.device.type, enabled=False):
            codes = self.codebook.float()
            squared = codes.square().sum(dim=1) - 2 * _rows(z.float()) @ codes.T  # less |z|^2
        return squared.argmin(dim=1).reshape(len(z), *z.shape[2:])

    def embed(self, indices: Tensor) -> Tensor:
        """Return the codes (B, D, ...) of indices (B, ...)."""
        return F.embedding(indices, self.codebook).movedim(-1, 1)

    @property
    def perplexity(self) -> float:
        """How many codes are in use, by the moving average of their use."""
        return perplexity(self.usage).item()

    @torch.no_grad()
    def _learn(self, rows: Tensor, indices: Tensor) -> None:
        """Let the codes follow the vectors (T, D) that took them, and revive idle ones."""
        with torch.autocast(rows.device.type, enabled=False):
            taken = F.one_hot(indices, len(self.codebook)).float()
            counts, sums = _over_processes(taken.sum(dim=0)), _over_processes(taken.T @ rows)
        self.usage.lerp_(counts, 1 - self.config.decay)
        if self.config.updates == "ema":  # m_j / N_j without m_j: a code not taken stands still
            pull = (1 - self.config.decay) * (sums - counts[:, None] * self.codebook)
            self.codebook.add_(pull / self.usage.clamp(min=TINY)[:, None])
        self.idle.add_(1).masked_fill_(counts > 0, 0)
        if self.config.revive_after is not None:
            self._revive(rows, self.idle >= self.config.revive_after)

    def _revive(self, rows: Tensor, is_dead: Tensor) -> None:
        """Put dead codes where vectors are, each at another while there are enough of them."""
        order = torch.randperm(len(rows), device=rows.device)
        seeds = rows[order[torch.arange(len(is_dead), device=rows.device) % len(rows)]]
        if _is_distributed():
            torch.distributed.broadcast(seeds, 0)
        self.codebook.copy_(torch.where(is_dead[:, None], seeds, self.codebook))
        self.usage.masked_fill_(is_dead, 0.0)
        self.idle.masked_fill_(is_dead, 0)


def straight_through(z: Tensor, code: Tensor) -> Tensor:
    """Return the codes, exactly, with a gradient that passes to ``z`` as if it were them."""
    return code.detach() + (z - z.detach())


def perplexity(counts: Tensor) -> Tensor:
    """Return exp(entropy) of codes used ``counts`` (K,) times: 1 for one code, K for all alike."""
    share = counts.double() / counts.sum().clamp(min=TINY)
    return torch.exp(-torch.xlogy(share, share).sum())


def _rows(z: Tensor) -> Tensor:
    """Return (B, D, ...) as the rows (T, D)."""
    return z.movedim(1, -1).flatten(end_dim=-2)


def _squared_distance(first: Tensor, second: Tensor) -> Tensor:
    return (first - second).square().flatten(start_dim=1).sum(dim=1)


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _over_processes(total: Tensor) -> Tensor:
    """Return the sum of a tensor over the processes."""
    if _is_distributed():
        torch.distributed.all_reduce(total)
    return total
