"""What a scan's intensities say of every pixel: p(I | x, theta), theta fitted to the scan itself.

Every tissue is a normal of unknown mean and variance. The two blood pools are one tissue, the
myocardium is another, the background a mixture of several; a small share of every class is
anything at all (papillary muscles, fat, flow), so that no pixel is ever decided by its intensity:

    p(I | x = c) = (1 - e) sum_l pi_cl N(I; mu_l, v_l) + e U(I),   pi_c ~ Dirichlet(1)

The tissue of a pixel given its class is a latent variable of its own, and its posterior is taken
out in closed form (variational Bayesian mixture: Bishop 2006, section 10.2). What is left of the
bound is ``weight`` sum_i sum_c q(x_i = c) L_ic - KL(q(theta) || p(theta)), L from
``log_likelihood``; ``update`` never lowers it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveInt
from scipy.special import digamma, gammaln

from cardiac_vae.config import StrictConfig
from cardiac_vae.labels import NUM_CLASSES, Structure
from cardiac_vae.refinement.normal_inverse_gamma import NormalInverseGamma

_MYOCARDIUM, _BLOOD = 0, 1
_FIRST_OF_BACKGROUND = 2
_PERCENTILES = (0.5, 99.5)  # where intensities are clipped
_STARTING_SWEEPS = 10
_FEWEST_PIXELS = 30.0  # of a tissue, to say what it looks like


class AppearanceConfig(StrictConfig):
    """How much a scan's intensities are worth.

    Attributes:
        background_tissues: Normals that the background is a mixture of.
        anything: Share of each class that may look like anything.
        weight: Exponent of the likelihood. Neighboring pixels share their noise, their partial
            volume and the errors of the model; taken as independent they are worth too much.
        least_separation: Myocardium and blood whose means differ by fewer standard deviations are
            not told apart: the scan is left out of the bound.
    """

    background_tissues: PositiveInt = 3
    anything: float = Field(default=0.05, gt=0, lt=1)
    weight: NonNegativeFloat = 0.1
    least_separation: NonNegativeFloat = 1.0


@dataclass(frozen=True)
class Appearance:
    """q(theta): what the tissues of one image look like.

    Attributes:
        tissues: Mean and variance of myocardium, blood and the background's tissues, in standard
            deviations of the window from its mean.
        shares: (K,) Dirichlet concentrations of the background's tissues.
        refusal: Why the image is left out of the bound; "" where it is not. Decided once, at the
            start, for a term that comes and goes is no bound.
    """

    tissues: NormalInverseGamma
    shares: np.ndarray
    refusal: str = ""

    @property
    def separation(self) -> float:
        """Means of myocardium and blood apart, in standard deviations (d-prime)."""
        means, variances = self.tissues.mean, self.tissues.variance
        apart = abs(means[_MYOCARDIUM] - means[_BLOOD])
        return float(apart / np.sqrt((variances[_MYOCARDIUM] + variances[_BLOOD]) / 2))


class AppearanceModel:
    """The intensities of one image, a slice or a whole scan, and the prior of its tissues."""

    def __init__(self, image: np.ndarray, config: AppearanceConfig | None = None) -> None:
        """Take an image (D, H, W), the window around the heart.

        Intensities are clipped at two percentiles and standardized, which is all that the prior
        knows of the scan: each tissue's mean is that of the window give or take ten standard
        deviations of the tissue, and its variance about a tenth of the window's.

        Raises:
            ValueError: if it is not (D, H, W), has a NaN or infinite value, or no contrast.
        """
        self.config = config or AppearanceConfig()
        self.shape = image.shape
        self.values, self._log_anything = _standardized(image)
        num_tissues = _FIRST_OF_BACKGROUND + self.config.background_tissues
        self.prior = Appearance(
            NormalInverseGamma(*(np.full(num_tissues, value) for value in (0.0, 0.01, 1.0, 0.1))),
            np.ones(self.config.background_tissues),
        )
        background = tuple(range(_FIRST_OF_BACKGROUND, num_tissues))
        self._tissues_of = {
            Structure.BACKGROUND: background,
            Structure.RV: (_BLOOD,),
            Structure.MYO: (_MYOCARDIUM,),
            Structure.LV: (_BLOOD,),
        }

    def start(self, belief: np.ndarray) -> Appearance:
        """Return q(theta) for a first q(x) (D, C, H, W), and whether the image is of use.

        The background's tissues start as equal shares of its intensities, darkest first.
        """
        pixels = self._pixels(belief)
        count = self.config.background_tissues
        ends = np.quantile(self.values, np.linspace(0, 1, count + 1)[1:-1])
        lot = np.searchsorted(ends, self.values)
        weights = np.concatenate(
            [
                pixels[[Structure.MYO]],
                pixels[[Structure.LV]] + pixels[Structure.RV],
                pixels[Structure.BACKGROUND] * (lot == np.arange(count)[:, None]),
            ]
        )
        appearance = self._given(weights)
        for _ in range(_STARTING_SWEEPS):
            appearance = self.update(appearance, belief)
        return replace(appearance, refusal=self._refusal(appearance, weights.sum(axis=1)))

    def update(self, appearance: Appearance, belief: np.ndarray) -> Appearance:
        """Return the best q(theta) for q(x) (D, C, H, W), given each pixel's tissue in its class.

        Those are taken from the ``appearance`` so far.
        """
        pixels = self._pixels(belief)
        weights = np.zeros((len(appearance.tissues.mean), len(self.values)))
        for structure, members, log_joint in self._mixtures(appearance):
            shares = np.exp(log_joint[:-1] - np.logaddexp.reduce(log_joint))
            weights[list(members)] += pixels[structure] * shares
        return replace(self._given(weights), refusal=appearance.refusal)

    def log_likelihood(self, appearance: Appearance) -> np.ndarray:
        """Return ``weight`` E[log p(I | x, theta)] of each class, (D, C, H, W) in nats.

        Zeros if the image is left out. Densities are those of standardized intensities.
        """
        depth, height, width = self.shape
        found = np.zeros((NUM_CLASSES, len(self.values)))
        if not appearance.refusal:
            for structure, _, log_joint in self._mixtures(appearance):
                found[structure] = self.config.weight * np.logaddexp.reduce(log_joint)
        return found.reshape(NUM_CLASSES, depth, height, width).swapaxes(0, 1)

    def kl(self, appearance: Appearance) -> float:
        """Return KL(q(theta) || p(theta)) in nats; 0 if the image is left out."""
        if appearance.refusal:
            return 0.0
        of_shares = _dirichlet_kl(appearance.shares, self.prior.shares)
        return float(appearance.tissues.kl(self.prior.tissues).sum()) + of_shares

    def _pixels(self, belief: np.ndarray) -> np.ndarray:
        """Return (C, n) of q(x) (D, C, H, W)."""
        depth, height, width = self.shape
        expected = (depth, NUM_CLASSES, height, width)
        if belief.shape != expected:
            raise ValueError(
                f"expected q(x) of shape {expected} for an image {self.shape}, got {belief.shape}"
            )
        return belief.swapaxes(0, 1).reshape(NUM_CLASSES, -1)

    def _given(self, weights: np.ndarray) -> Appearance:
        """Return q(theta) when each pixel shows each tissue weights (L, n) times."""
        weights = self.config.weight * weights
        return Appearance(
            self.prior.tissues.given(self.values, weights),
            self.prior.shares + weights[_FIRST_OF_BACKGROUND:].sum(axis=1),
        )

    def _mixtures(
        self, appearance: Appearance
    ) -> Iterator[tuple[Structure, tuple[int, ...], np.ndarray]]:
        """Yield each class, its tissues, and E[log p(I, tissue | class)], ending with anything."""
        log_density = appearance.tissues.expected_log_density(self.values)
        log_density[_FIRST_OF_BACKGROUND:] += _expected_log_shares(appearance.shares)[:, None]
        log_density += np.log1p(-self.config.anything)
        anything = np.full((1, len(self.values)), np.log(self.config.anything) + self._log_anything)
        for structure, members in self._tissues_of.items():
            yield structure, members, np.concatenate([log_density[list(members)], anything])

    def _refusal(self, appearance: Appearance, num_pixels: np.ndarray) -> str:
        least = self.config.least_separation
        for name, tissue in (("myocardium", _MYOCARDIUM), ("blood", _BLOOD)):
            if num_pixels[tissue] < _FEWEST_PIXELS:
                return (
                    f"the image is not used: {num_pixels[tissue]:.0f} pixels of {name} are drawn, "
                    f"fewer than {_FEWEST_PIXELS:.0f}"
                )
        if appearance.separation < least:
            return (
                "the image is not used: myocardium and blood lie "
                f"{appearance.separation:.2f} standard deviations apart, less than {least:g}"
            )
        return ""


def _standardized(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Return clipped intensities (n,) of mean 0 and variance 1, and the log-density of any."""
    if image.ndim != 3 or not image.size:
        raise ValueError(f"expected an image (D, H, W), got shape {image.shape}")
    if not np.isfinite(image).all():
        raise ValueError(
            f"expected finite intensities, got {np.count_nonzero(~np.isfinite(image))} pixels that "
            "are NaN or infinite; replace them, for example by 0"
        )
    values = image.astype(np.float64).ravel()
    darkest, brightest = np.percentile(values, _PERCENTILES)
    if not brightest > darkest:
        raise ValueError(
            f"expected an image with contrast, got {darkest:g} nearly everywhere; is this the scan?"
        )
    values = values.clip(darkest, brightest)
    deviation = values.std()
    return (values - values.mean()) / deviation, float(np.log(deviation / (brightest - darkest)))


def _expected_log_shares(concentration: np.ndarray) -> np.ndarray:
    return digamma(concentration) - digamma(concentration.sum())


def _dirichlet_kl(posterior: np.ndarray, prior: np.ndarray) -> float:
    """Return KL(Dir(posterior) || Dir(prior)) in nats."""
    normalizers = gammaln(posterior.sum()) - gammaln(posterior).sum()
    normalizers -= gammaln(prior.sum()) - gammaln(prior).sum()
    return float(normalizers + (posterior - prior) @ _expected_log_shares(posterior))
