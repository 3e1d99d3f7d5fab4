import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.distributions import Categorical, Independent

from cardiac_vae.data.transforms import one_hot
from cardiac_vae.labels import Structure
from cardiac_vae.layers.likelihoods import categorical_nll
from cardiac_vae.models.pca import Config, Model, signed_distances

REACH = 4


def hearts(number: int) -> Tensor:
    """Return (number, 16, 16) labels: rings of any size anywhere, every third without an RV."""
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    masks = torch.zeros(number, 16, 16, dtype=torch.uint8)
    for index, mask in enumerate(masks):
        row, column, radius, wall, rv_row, rv_radius = (4 * torch.rand(6)).tolist()
        away = torch.hypot(rows - 6 - row, columns - 8 - column)
        if index % 3:
            mask[torch.hypot(rows - 6 - rv_row, columns - 3) < 2 + rv_radius] = Structure.RV
        mask[away < 2 + (radius + wall) / 2] = Structure.MYO
        mask[away < 1 + radius / 2] = Structure.LV
    return masks


def fitted(masks: Tensor, **settings: int) -> Model:
    model = Model(Config(image_size=16, clip_pixels=REACH, **settings))
    model.fit_masks(masks)
    return model.eval()


@pytest.mark.parametrize("sides", [(12, 9), (6, 7, 5)])
@pytest.mark.parametrize("reach", [1, 3, 20])
def test_signed_distances_are_those_of_scipy(sides, reach):
    share = torch.tensor([0.05, 0.5, 0.95]).reshape(3, 1, *(1 for _ in sides))
    planes = torch.rand(3, 2, *sides) < share
    assert planes.flatten(2).any(dim=2).all()
    assert not planes.flatten(2).all(dim=2).any()
    found = signed_distances(planes, reach)
    for plane, distances in zip(planes.flatten(0, 1).numpy(), found.flatten(0, 1), strict=True):
        expected = np.where(
            plane, distance_transform_edt(plane) - 0.5, 0.5 - distance_transform_edt(~plane)
        )
        np.testing.assert_allclose(distances, expected.clip(-reach, reach), atol=1e-5)


def test_a_structure_that_is_not_there_is_as_far_as_a_map_reaches():
    planes = torch.stack([torch.zeros(5, 5), torch.ones(5, 5)])[None]
    found = signed_distances(planes, REACH)[0]
    assert torch.equal(found, torch.tensor([-4.0, 4.0])[:, None, None].expand(2, 5, 5))
    model = fitted(hearts(9), num_modes=2)
    without_rv = model.maps(one_hot(hearts(1))).reshape(4, 16, 16)
    assert (without_rv[Structure.RV] == -REACH).all()


def test_the_largest_distance_gives_the_labels_back():
    masks = torch.randint(4, (6, 16, 16))
    maps = signed_distances(one_hot(masks), REACH)
    assert torch.equal(maps.argmax(dim=1), masks)
    assert ((maps > 0).sum(dim=1) == 1).all()


def test_all_modes_reconstruct_exactly():
    masks = hearts(20)
    model = fitted(masks, num_modes=19)
    maps = model.maps(one_hot(masks))
    torch.testing.assert_close(model.maps_of(model.project(maps)), maps, atol=1e-3, rtol=0)
    assert torch.equal(model.reconstruct(one_hot(masks)).argmax(dim=1), masks.long())
    assert model.explained_variance_ratio.sum().item() == pytest.approx(1, abs=1e-4)


def test_modes_are_orthonormal_and_scores_are_in_standard_deviations():
    masks = hearts(40)
    model = fitted(masks, num_modes=6)
    torch.testing.assert_close(model.modes @ model.modes.T, torch.eye(6), atol=1e-4, rtol=0)
    (scores,) = model.encode(one_hot(masks))
    torch.testing.assert_close(scores.mean(dim=0), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(scores.T.cov(), torch.eye(6), atol=1e-3, rtol=0)
    assert (model.std.diff() <= 0).all()


def test_the_error_of_a_truncation_is_the_sum_of_the_dropped_eigenvalues():
    masks = hearts(40)
    model = fitted(masks, num_modes=5)
    maps = model.maps(one_hot(masks))
    error = (maps - model.maps_of(model.project(maps))).square().sum().item() / 39
    eigenvalues = torch.linalg.svdvals((maps - maps.mean(dim=0)).double()).square() / 39
    assert error == pytest.approx(eigenvalues[5:].sum().item(), rel=1e-3)
    torch.testing.assert_close(model.std.double().square(), eigenvalues[:5], rtol=1e-3, atol=0)
    ratio = (eigenvalues[:5] / eigenvalues.sum()).float()
    torch.testing.assert_close(model.explained_variance_ratio, ratio, rtol=1e-3, atol=0)
    assert error > 0.05 * eigenvalues.sum()  # there is something to truncate


def test_batch_by_batch_gives_the_modes_of_all_at_once():
    """Exact for two batches of no more masks than the modes that are carried over."""
    masks = hearts(24)
    whole, parts = (fitted(masks, num_modes=8, batch_size=size) for size in (24, 16))
    torch.testing.assert_close(parts.mean, whole.mean, atol=1e-4, rtol=0)
    torch.testing.assert_close(parts.std, whole.std, rtol=1e-3, atol=0)
    alignment = (parts.modes * whole.modes).sum(dim=1).abs()
    torch.testing.assert_close(alignment, torch.ones(8), atol=1e-3, rtol=0)


def test_more_than_two_batches_lose_little():
    masks = hearts(90)
    whole, parts = (fitted(masks, num_modes=6, batch_size=size) for size in (90, 12))
    maps = whole.maps(one_hot(masks))
    errors = [(maps - m.maps_of(m.project(maps))).square().sum().item() for m in (whole, parts)]
    assert errors[0] <= errors[1] < 1.03 * errors[0]


def test_what_was_decoded_is_coded_as_itself():
    model = fitted(hearts(30), num_modes=4)
    z = torch.randn(7, 4)
    torch.testing.assert_close(model.project(model.maps_of(z)), z, atol=1e-4, rtol=1e-4)
    maps = model.maps(one_hot(hearts(3)))
    once = model.maps_of(model.project(maps))
    torch.testing.assert_close(model.maps_of(model.project(once)), once, atol=1e-4, rtol=1e-4)


def test_a_step_along_a_mode_is_so_many_standard_deviations():
    model = fitted(hearts(30), num_modes=4)
    steps = torch.zeros(2, 4)
    steps[:, 2] = torch.tensor([-2.0, 3.0])
    expected = model.mean + torch.tensor([[-2.0], [3.0]]) * model.std[2] * model.modes[2]
    logits = model.sharpness * expected.reshape(2, 4, 16, 16)
    torch.testing.assert_close(model.decode([steps]), logits)


def test_samples_are_decoded_standard_normals_scaled_by_the_temperature():
    model = fitted(hearts(30), num_modes=4)
    torch.manual_seed(3)
    samples = model.sample(5, temperature=0.5)
    torch.manual_seed(3)
    expected = model.decode([0.5 * torch.randn(5, 4)]).softmax(dim=1)
    torch.testing.assert_close(samples, expected)


def test_the_sharpness_is_the_most_likely_one():
    masks = hearts(30)
    model = fitted(masks, num_modes=4)
    target = one_hot(masks)
    maps = model.maps_of(*model.encode(target)).reshape(target.shape)
    costs = [categorical_nll(s * maps, target).mean().item() for s in np.geomspace(0.02, 9, 60)]
    _, terms = model(target)
    assert terms.reconstruction.mean().item() < min(costs) + 1e-3
    assert terms.reconstruction.mean().item() < 0.8 * categorical_nll(0.3 * maps, target).mean()


def test_its_nats_are_those_of_a_categorical_and_it_has_no_bound():
    masks = hearts(12)
    logits, terms = fitted(masks, num_modes=3)(one_hot(masks))
    pixels = Independent(Categorical(logits=logits.movedim(1, -1)), 2)
    torch.testing.assert_close(terms.reconstruction, -pixels.log_prob(masks))
    assert terms.regularization.shape == (12, 0)
    assert terms.log_ratio is None
    assert not terms.has_bound


def test_probabilities_are_decided_first_and_no_mask_is_coded_by_its_flag():
    masks = one_hot(hearts(12))
    model = fitted(hearts(12), num_modes=3)
    soft = (4 * masks + torch.rand_like(masks)).softmax(dim=1)
    codes = [model.encode(masks)[0], model.encode(soft, torch.ones(12, dtype=torch.bool))[0]]
    assert torch.equal(*codes)


def test_a_mode_without_spread_has_no_code():
    """As many modes as masks, but half of these are copies: the data span no more than three."""
    model = fitted(hearts(4).repeat(2, 1, 1), num_modes=6)
    assert (model.std > 0).tolist() == [True] * 3 + [False] * 3
    (z,) = model.encode(one_hot(torch.randint(4, (5, 16, 16))))
    assert z.isfinite().all()
    assert (z[:, 3:] == 0).all()


def test_the_same_masks_give_the_same_model():
    masks = hearts(30)
    first, second = (fitted(masks, num_modes=3).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("number", "copies"), [(5, 1), (1, 9)])
def test_masks_that_span_no_such_space_are_refused(number, copies):
    masks = hearts(number).repeat(copies, 1, 1)
    with pytest.raises(ValueError, match=f"num_modes 5: expected more masks .* got {len(masks)}"):
        fitted(masks, num_modes=5)


def test_masks_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"image_size 8: expected masks .* got \(5, 16, 16\)"):
        Model(Config(image_size=8, num_modes=2)).fit_masks(hearts(5))


def test_a_batch_that_cannot_hold_the_modes_is_refused():
    with pytest.raises(ValueError, match="batch_size 7: expected at least twice num_modes 4"):
        Config(num_modes=4, batch_size=7)
