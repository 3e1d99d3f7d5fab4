"""VQ-VAE of masks (van den Oord et al. 2017): a grid of discrete tokens, and a prior over them.

    q(k | x) = 1 where each k_i is the code nearest to the encoder's vector z_i,  e = codes of k
    log p(x) >= log p(x | e) + log p(k)      as p(x) = sum over all k of p(k) p(x | e_k)

The bound is an ELBO: KL(q || p) of a posterior without spread is -log p(k). The prior p(k) is an
autoregressive transformer that learns beside the autoencoder, from the tokens of whole masks; no
gradient of it reaches the encoder or the codes. It starts uniform, so that the bound holds from the
first step on, at N log K nats. What the encoder gives is standardized (batch norm, as Lancucki et
al. 2020): its vectors cannot run away from the codes, which start as N(0, I).
"""

from typing import Self

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from cardiac_vae.labels import NUM_CLASSES
from cardiac_vae.layers.autoregressive import AutoregressivePrior, PriorConfig
from cardiac_vae.layers.blocks import (
    BATCH_NORM_MOMENTUM,
    BATCH_NORMS,
    CONVOLUTIONS,
    Downsample,
    EncoderCell,
    Upsample,
    batch_norm,
    convolution,
    from_patches,
    patches,
)
from cardiac_vae.layers.likelihoods import categorical_nll
from cardiac_vae.layers.quantizer import Quantizer, QuantizerConfig, straight_through
from cardiac_vae.layers.scales import Scales
from cardiac_vae.shape_model import Latents, LossTerms, ShapeModel, with_broken_plane


class Config(Scales):
    """Settings of the VQ-VAE, beside those of its scales, of which the last is the grid of tokens.

    Few tokens that each see much make good samples: the prior has fewer chances to go wrong.

    Attributes:
        cells: Residual cells of each scale, finest first.
        tokens_per_position: Tokens at each position of the grid, all of one codebook.
    """

    cells: tuple[PositiveInt, ...] = (1, 1, 2)
    tokens_per_position: PositiveInt = 1
    quantizer: QuantizerConfig = QuantizerConfig()
    prior: PriorConfig = PriorConfig()

    @property
    def grid(self) -> tuple[int, ...]:
        """Positions of the grid of tokens along each axis."""
        return (self.coarsest_size,) * self.spatial_dims

    @property
    def code_channels(self) -> int:
        """Numbers at a position of the grid: the codes of its tokens."""
        return self.quantizer.embedding_dim * self.tokens_per_position

    @model_validator(mode="after")
    def _scales_agree(self) -> Self:
        if len(self.channels) != len(self.cells):
            raise ValueError(
                f"channels {self.channels} and cells {self.cells}: expected one of each per scale"
            )
        return self


class Model(ShapeModel):
    """A grid of tokens per mask.

    Where codes are called ``k`` they are indices (B, T, h, w), T tokens at each position of the
    grid; in a sequence the tokens of a position are neighbors, the positions in raster order.
    """

    has_noise = False

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        dims, widths = config.spatial_dims, config.channels
        down: list[nn.Module] = [patches(dims, NUM_CLASSES + 1, widths[0], config.patch_size)]
        up: list[nn.Module] = []
        for index, (width, count) in enumerate(zip(widths, config.cells, strict=True)):
            if index:
                down.append(Downsample(dims, widths[index - 1], width))
                up = [Upsample(dims, width, widths[index - 1]), *up]
            down += [EncoderCell(dims, width) for _ in range(count)]
            up = [*(EncoderCell(dims, width) for _ in range(count)), *up]
        self.encoder = nn.Sequential(
            *down,
            batch_norm(dims, widths[-1]),
            nn.SiLU(),
            CONVOLUTIONS[dims](widths[-1], config.code_channels, 1, bias=False),
            BATCH_NORMS[dims](config.code_channels, momentum=BATCH_NORM_MOMENTUM, affine=False),
        )
        self.quantizer = Quantizer(config.quantizer)
        self.decoder = nn.Sequential(
            convolution(dims, config.code_channels, widths[-1], kernel=1),
            *up,
            batch_norm(dims, widths[0]),
            nn.SiLU(),
            from_patches(dims, widths[0], NUM_CLASSES, config.patch_size),
        )
        self.prior = AutoregressivePrior(
            config.quantizer.num_embeddings, self.num_latents, config.prior
        )

    def forward(
        self,
        mask: Tensor,
        target: Tensor | None = None,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, LossTerms]:
        """Return logits (B, C, H, W) and terms; the prior does not learn from broken masks."""
        quantized = self.quantizer(self._vectors(mask, is_broken))
        logits = self.decoder(quantized.values.flatten(1, 2))
        nll = categorical_nll(logits, mask if target is None else target)
        rate = -self.prior.log_prob(self._sequence(quantized.indices)).sum(dim=1)
        if is_broken is not None:
            rate = torch.where(is_broken, rate.detach(), rate)
        parts = {"commitment": quantized.commitment}
        if self.config.quantizer.updates == "gradient":
            parts["codebook"] = quantized.codebook
        return logits, LossTerms(nll, rate[:, None], rate, parts)

    def loss(self, terms: LossTerms, warmup: float = 1.0, progress: float = 1.0) -> Tensor:
        """Return the mean of reconstruction + warmup * rate + codebook + cost * commitment.

        The rate teaches the prior alone: no weight of it trades fidelity for fewer nats.
        """
        weights = {"commitment": self.config.quantizer.commitment_cost, "codebook": 1.0}
        own = sum(weights[name] * part for name, part in terms.parts.items())
        return (terms.reconstruction + warmup * terms.kl + own).mean()

    def encode(
        self,
        mask: Tensor,
        is_broken: Tensor | None = None,
        condition: Tensor | None = None,
        temperature: float = 0.0,
    ) -> list[Tensor]:
        """Return the grid of codes (B, T D, h, w) as the one group."""
        return [self._codes(self.tokens(mask, is_broken))]

    def decode(
        self, latents: Latents, temperature: float = 0.0, condition: Tensor | None = None
    ) -> Tensor:
        """Return logits (B, C, H, W) of a grid (B, T D, h, w), each vector put to its nearest code.

        So codes can be added to and mixed; the gradient passes straight through.
        """
        (z,) = latents
        codes = self._codes(self.quantizer.nearest(self._split(z)))
        return self.decoder(straight_through(z, codes)).float()

    def draw(
        self, num_samples: int, temperature: float = 1.0, condition: Tensor | None = None
    ) -> list[Tensor]:
        """Return a grid of codes (num_samples, T D, h, w) of tokens drawn from the prior."""
        drawn = self.prior.sample(num_samples, temperature)
        positions = (*self.config.grid, self.config.tokens_per_position)
        k = drawn.reshape(num_samples, *positions).movedim(-1, 1)
        return [self._codes(k)]

    def noise_of(self, latents: Latents, condition: Tensor | None = None) -> list[Tensor]:
        """Refuse: tokens are drawn one after the other, with no noise that says which.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "noise: expected a model of continuous latents, got vq_vae, whose tokens have a prior "
            "of their own; take a recipe such as vae"
        )

    def from_noise(self, noise: Latents, condition: Tensor | None = None) -> list[Tensor]:
        """Refuse, as ``noise_of``."""
        return self.noise_of(noise)

    @torch.no_grad()
    def tokens(self, mask: Tensor, is_broken: Tensor | None = None) -> Tensor:
        """Return the indices (B, T, h, w) of masks (B, C, H, W)."""
        return self.quantizer.nearest(self._vectors(mask, is_broken))

    @torch.no_grad()
    def anomaly_map(self, mask: Tensor, is_broken: Tensor | None = None) -> Tensor:
        """Return -log p(tokens there | tokens before) in nats, (B, h, w); it sums to the rate."""
        log_prob = self.prior.log_prob(self._sequence(self.tokens(mask, is_broken)))
        positions = (*self.config.grid, self.config.tokens_per_position)
        return -log_prob.reshape(len(log_prob), *positions).sum(dim=-1)

    @property
    def latent_sizes(self) -> list[int]:
        """Numbers of the one group: the codes of all tokens."""
        return [self.num_latents * self.config.quantizer.embedding_dim]

    @property
    def num_latents(self) -> int:
        """Number of discrete tokens of one case, which the numbers of their codes follow from."""
        positions = self.config.grid[0] ** self.config.spatial_dims
        return positions * self.config.tokens_per_position

    def _vectors(self, mask: Tensor, is_broken: Tensor | None) -> Tensor:
        """Return the encoder's vectors (B, D, T, h, w)."""
        return self._split(self.encoder(with_broken_plane(mask, is_broken)))

    def _split(self, z: Tensor) -> Tensor:
        return z.reshape(len(z), -1, self.config.tokens_per_position, *z.shape[2:])

    def _codes(self, k: Tensor) -> Tensor:
        """Return the codes (B, T D, h, w) of indices (B, T, h, w)."""
        return self.quantizer.embed(k).flatten(1, 2)

    def _sequence(self, k: Tensor) -> Tensor:
        """Return indices (B, T, h, w) as sequences (B, N)."""
        return k.movedim(1, -1).flatten(start_dim=1)
