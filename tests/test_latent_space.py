"""Directions and maps of codes against numpy and scikit-learn; walks of models known in full."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from cardiac_vae.data.transforms import one_hot
from cardiac_vae.latent_space import (
    encode_cohort,
    has_map,
    interpolate,
    latent_map,
    leading_directions,
    traverse,
)
from cardiac_vae.models import build_model

CVAE = {"image_size": 16, "channels": [8, 8], "latent_dim": 3}


def cohort(number: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Return codes (N, 2, 3, 3) and masks (N, 4, 6, 6) that hang together a little."""
    torch.manual_seed(0)
    codes = torch.randn(number, 2, 3, 3)
    sizes = (1.5 * codes.flatten(start_dim=1)[:, :4]).reshape(number, 1, 2, 2)
    labels = (sizes.repeat(1, 1, 3, 3)[:, 0] + torch.randn(number, 6, 6)).clamp(0, 3).round()
    return codes, one_hot(labels.long())


def rows(values: torch.Tensor) -> np.ndarray:
    flat = values.flatten(start_dim=1).double().numpy()
    return flat - flat.mean(axis=0)


def test_directions_are_the_singular_vectors_of_the_covariance_with_the_masks() -> None:
    codes, masks = cohort()
    found = leading_directions(codes, masks, 3)
    z, x = rows(codes), rows(masks[:, 1:])
    expected = np.linalg.svd(z.T @ x, full_matrices=False)[0][:, :3].T
    vectors = found.vectors.flatten(start_dim=1).double().numpy()
    np.testing.assert_allclose(np.abs((vectors * expected).sum(axis=1)), 1, atol=1e-6)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(found.spread.numpy(), (z @ vectors.T).std(axis=0, ddof=1), rtol=1e-5)
    assert found.one_sd.shape == (3, 2, 3, 3)
    norms = found.one_sd.flatten(start_dim=1).norm(dim=1)
    torch.testing.assert_close(norms, found.spread)


def test_hearts_grow_along_directions_whatever_the_sign_of_the_codes() -> None:
    codes, masks = cohort()
    size = rows(masks[:, 1:]).sum(axis=1)
    for sign in (1, -1):
        vectors = leading_directions(sign * codes, masks, 4).vectors.flatten(start_dim=1)
        along = rows(sign * codes) @ vectors.double().numpy().T
        assert (size @ along > 0).all()


def test_there_are_no_more_directions_than_the_codes_vary_along() -> None:
    codes, masks = cohort()
    flat = codes.clone()
    flat[:, :, 1:] = 7.0  # leaves six scalars
    assert len(leading_directions(flat, masks, 9).vectors) == 6
    still = leading_directions(torch.ones_like(codes), masks, 9)
    assert still.vectors.shape == (0, 2, 3, 3)
    assert still.one_sd.shape == (0, 2, 3, 3)


def test_directions_of_a_linear_model_are_its_modes() -> None:
    """Distance maps would give them exactly; masks turn them by a little."""
    rng = np.random.default_rng(0)
    across, down = np.mgrid[:16, :16] - 7.5
    sizes = rng.normal(0, (1.0, 0.4), (60, 2))
    masks = torch.from_numpy(
        np.stack([np.hypot(across / (5 + a + b), down / (5 + a - b)) < 1 for a, b in sizes])
    ).to(torch.uint8)
    model = build_model("pca", {"image_size": 16, "num_modes": 2})
    model.fit_masks(masks)  # type: ignore[operator]
    (codes,) = encode_cohort(model, one_hot(masks))
    found = leading_directions(codes, one_hot(masks), 2)
    torch.testing.assert_close(found.vectors.abs(), torch.eye(2), atol=0.1, rtol=0)
    torch.testing.assert_close(found.spread, torch.ones(2), atol=0.02, rtol=0)


@pytest.mark.parametrize(("num_codes", "num_masks"), [(4, 5), (1, 1)])
def test_directions_need_a_code_for_each_of_several_masks(num_codes: int, num_masks: int) -> None:
    codes, masks = cohort()
    with pytest.raises(ValueError, match=f"codes: .* got {num_codes} codes and {num_masks} masks"):
        leading_directions(codes[:num_codes], masks[:num_masks], 2)


def test_the_map_is_the_pca_of_the_standardized_scalars_that_vary() -> None:
    codes, _ = cohort()
    dead = 0.05 * torch.randn(12, 5)
    found = latent_map([codes, dead])
    assert found.num_scalars == 18
    z = StandardScaler().fit_transform(codes.flatten(start_dim=1).double().numpy())
    expected = PCA(2, svd_solver="full").fit(z)
    points, reference = found.points.numpy(), expected.transform(z)
    np.testing.assert_allclose(np.abs(points), np.abs(reference), atol=1e-6)
    np.testing.assert_allclose(found.shares.numpy(), expected.explained_variance_ratio_, rtol=1e-6)
    farthest = np.take_along_axis(points, np.abs(points).argmax(axis=0)[None], axis=0)
    assert (farthest > 0).all()


@pytest.mark.parametrize(
    "codes", [[torch.ones(5, 3)], [torch.arange(5.0)[:, None]], [torch.eye(2)]]
)
def test_codes_in_one_dimension_have_no_map(codes: Sequence[torch.Tensor]) -> None:
    assert not has_map(codes)
    with pytest.raises(ValueError, match="codes: expected three or more and two scalars"):
        latent_map(codes)


def conditional() -> tuple[Any, torch.Tensor, torch.Tensor]:
    """Return a conditional model, masks (4, 4, 16, 16) and what is known of them."""
    torch.manual_seed(0)
    model = build_model("cvae", CVAE).eval()
    conditions = torch.eye(sum(model.part_sizes))[:4]  # type: ignore[arg-type]
    return model, one_hot(torch.randint(4, (4, 16, 16))), conditions


def test_a_cohort_is_encoded_in_batches_with_its_conditions() -> None:
    model, masks, conditions = conditional()
    (codes,) = encode_cohort(model, masks, conditions, batch_size=3)
    torch.testing.assert_close(codes, model.encode(masks, condition=conditions)[0])


@torch.no_grad()
def test_what_a_model_is_told_moves_with_the_codes() -> None:
    model, masks, conditions = conditional()
    told = (conditions[:2], conditions[2:])
    found = interpolate(model, masks[:2], masks[2:], 3, told)
    ends = model.reconstruct(masks, condition=conditions)
    torch.testing.assert_close(torch.cat([found[0], found[-1]]), ends)
    (codes,) = encode_cohort(model, masks, conditions)
    middle = model.decode([(codes[:2] + codes[2:]) / 2], condition=(told[0] + told[1]) / 2)
    torch.testing.assert_close(found[1], middle.softmax(dim=1))


@torch.no_grad()
def test_a_traversal_adds_standard_deviations_to_the_code() -> None:
    model, masks, conditions = conditional()
    one_sd = torch.tensor([0.3, -0.2, 0.5])
    found = traverse(model, masks[:1], 0, one_sd, (-2, 0, 1.5), conditions[:1])
    (code,) = model.encode(masks[:1], condition=conditions[:1])
    for step, probabilities in zip((-2, 0, 1.5), found, strict=True):
        expected = model.decode([code + step * one_sd], condition=conditions[:1])
        torch.testing.assert_close(probabilities[None], expected.softmax(dim=1))


def test_walks_say_what_they_cannot_do() -> None:
    model, masks, _ = conditional()
    with pytest.raises(ValueError, match=r"num_steps: expected 2 or more, .* got 1"):
        interpolate(model, masks, masks, 1)
    with pytest.raises(ValueError, match="second: expected masks of the same shape as first"):
        interpolate(model, masks, masks[:1], 2)
    with pytest.raises(ValueError, match=r"mask: expected one, \(1, C, H, W\), got shape \(4, 4"):
        traverse(model, masks, 0, torch.ones(3), [0])
    with pytest.raises(ValueError, match="group: expected 0 to 0, got 1"):
        traverse(model, masks[:1], 1, torch.ones(3), [0])
