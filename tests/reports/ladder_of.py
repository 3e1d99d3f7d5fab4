"""A ladder of as many recipes as the project has, with scores that are made up."""

from collections.abc import Mapping
from typing import Any

from cardiac_vae.reports.rungs import Codebook, Rung

FAMILIES = {
    "pca": "pca",
    "ae": "ae",
    "dae": "ae",
    "vae": "vae",
    "beta_vae": "vae",
    "capacity_vae": "vae",
    "tc_vae": "vae",
    "vae_bernoulli": "vae",
    "vae_gaussian": "vae",
    "cvae": "cvae",
    "vq_vae": "vq_vae",
    "hvae": "hvae",
    "lvae": "lvae",
    "nvae": "nvae",
    "nvae_even": "nvae",
    "nvae_no_balancing": "nvae",
    "nvae_no_flow": "nvae",
    "nvae_no_residual": "nvae",
    "nvae_no_se": "nvae",
    "nvae_plain": "nvae",
    "nvae_plausible": "nvae",
    "nvae_spectral": "nvae",
}


def interval(mean: float, half: float = 0.01) -> dict[str, float]:
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": 9}


def ladder() -> list[Rung]:
    """Return a rung per recipe: the later, the better; a prior and a bound where there is one."""
    return [
        Rung(
            name,
            scores(rank, family),
            family,
            is_told=family == "cvae",
            codebook=Codebook(64, 40, 31.4) if family == "vq_vae" else None,
        )
        for rank, (name, family) in enumerate(FAMILIES.items())
    ]


def scores(rank: int, family: str) -> Mapping[str, Any]:
    has_bound, has_prior = family not in ("pca", "ae"), family != "ae"
    bound = {"negative_elbo": interval(400.0 - 10 * rank, 4), "rate": interval(90.0, 3)}
    likelihood = {"negative_log_likelihood": interval(380.0 - 10 * rank, 4)}
    prior = {
        "coverage": interval(0.5 + 0.02 * rank),
        "real_coverage": interval(0.95),
        "frechet": interval(30.0 - rank, 2),
        "real_frechet": interval(1.5, 0.5),
        "specificity_mm": interval(3.0 - 0.1 * rank, 0.1),
        "real_specificity_mm": interval(1.0, 0.1),
    }
    return {
        "metrics": {
            "dice_mean": interval(0.94 + 0.002 * rank, 0.003),
            "valid_reconstructions": interval(0.95),
            "valid_references": interval(0.93),
            **(bound if has_bound else {}),
            **({"valid_samples_at_1": interval(0.05 * rank)} if has_prior else {}),
        },
        "kl_per_group": [interval(90.0, 3)] if has_bound else [],
        "latent_scalars": 36 if family == "vq_vae" else 32,
        "latent_sizes": [288] if family == "vq_vae" else [32],
        "active_units": 288 if family == "vq_vae" else 30,
        "likelihood": {
            "num_draws": 100,
            "num_slices": 60,
            "num_patients": 10,
            "metrics": likelihood,
        }
        if has_bound
        else None,
        "generation": {
            "num_held_out_slices": 171,
            "num_train_slices": 1482,
            "metrics": {"generalization_mm": interval(0.9 - 0.02 * rank, 0.05)}
            | (prior if has_prior else {}),
        },
        "training": {"num_parameters": 1_500_000, "seconds": 600.0} if family != "pca" else {},
    }
