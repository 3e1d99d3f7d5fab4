from dataclasses import replace

import numpy as np
import pytest
import torch

from cardiac_vae.densities.fit import DensityConfig, fit_code_density
from cardiac_vae.densities.surprise import has_bound, surprise
from cardiac_vae.densities.surprise_scale import SurpriseConfig, SurpriseScale, num_edges

KERNELS = DensityConfig(kind="kernels", num_dimensions=2)


@pytest.fixture
def scale_of(build, masks):
    def made(name):
        model = build(name)
        density = fit_code_density(model, masks, KERNELS)
        return model, SurpriseScale.of(model, density, masks, SurpriseConfig(num_hearts=15))

    return made


def test_the_hearts_of_a_scale_are_measured_as_others_are(scale_of, masks):
    model, scale = scale_of("vae")
    assert scale.hearts.shape == (15,)
    chosen = masks[torch.randperm(40, generator=torch.Generator().manual_seed(0))[:15]]
    assert torch.equal(scale.measure(model, chosen), scale.hearts)
    assert torch.equal(scale.example, chosen[0])
    torch.manual_seed(0)
    assert torch.equal(surprise(model, scale.density, chosen, num_draws=1), scale.hearts)


def test_measuring_twice_is_measuring_once_and_leaves_the_generator(scale_of, masks):
    model, scale = scale_of("nvae")
    state = torch.get_rng_state()
    first, second = (scale.measure(model, masks) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


def test_edges_are_the_sides_of_pixels_between_two_structures():
    masks = torch.zeros(3, 6, 5, dtype=torch.uint8)
    masks[0, 2:4, 1:4] = 2  # 2 x 3 pixels
    masks[1, 0, 0] = 1  # a corner: sides on the border of the mask are none
    assert num_edges(masks).tolist() == [10.0, 2.0, 0.0]
    masks[0, 2, 2] = 3
    assert num_edges(masks)[0] == 10 + 3


def test_the_excess_is_what_a_line_through_the_hearts_leaves(scale_of, masks):
    model, scale = scale_of("vae")
    chosen = masks[torch.randperm(40, generator=torch.Generator().manual_seed(0))[:15]]
    slope, start = np.polyfit(num_edges(chosen).numpy(), scale.hearts.numpy(), 1)
    nats = scale.measure(model, masks)
    expected = nats.numpy() - start - slope * num_edges(masks).numpy()
    np.testing.assert_allclose(scale.excess(nats, masks), expected, rtol=1e-6, atol=1e-6)
    ranks = scale.rank(scale.excess(scale.hearts, chosen) - 1e-9)
    torch.testing.assert_close(ranks.sort().values, torch.arange(15).double() / 15)


def test_the_rank_is_the_share_of_hearts_with_less_excess(scale_of):
    _, fitted = scale_of("vae")
    over = torch.tensor([2.0, -4.0, 2.0]).double()  # its line is 0
    edges = torch.tensor([1.0, 2.0, 3.0]).double()
    scale = replace(fitted, hearts=100 + 7 * edges + over, edges=edges)
    assert scale.rank(torch.tensor([-9.0, 0.0, 1.9, 3.0]).double()).tolist() == [0, 1 / 3, 1 / 3, 1]


def test_one_heart_alone_is_a_scale(scale_of):
    _, fitted = scale_of("vae")
    scale = replace(fitted, hearts=fitted.hearts[:1], edges=fitted.edges[:1])
    excess = torch.tensor([-1.0, 1.0]).double()
    assert scale.rank(excess).tolist() == [0.0, 1.0]


def test_conditions_stay_unknown_to_a_model_that_looks_at_them(scale_of, masks):
    model, scale = scale_of("cvae")
    unknown = torch.zeros(40, 12)
    assert model.condition_groups is not None
    torch.manual_seed(0)
    told = surprise(model, scale.density, masks, num_draws=1, condition=unknown)
    torch.testing.assert_close(scale.measure(model, masks), told)


def test_what_is_read_is_what_was_written(scale_of, masks, tmp_path):
    model, scale = scale_of("vae")
    scale.save(tmp_path)
    read = SurpriseScale.load(tmp_path)
    read.require_fit(model)
    assert torch.equal(read.hearts, scale.hearts)
    assert torch.equal(read.edges, scale.edges)
    assert read.num_draws == scale.num_draws
    assert torch.equal(read.measure(model, masks), scale.measure(model, masks))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "density.safetensors",
        "density.yaml",
        "surprise.safetensors",
    ]


@pytest.mark.parametrize("content", [b"", b"rubbish" * 9])
def test_a_file_of_something_else_is_said_in_one_line(scale_of, tmp_path, content):
    scale_of("vae")[1].save(tmp_path)
    (tmp_path / "surprise.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="expected the surprise of training hearts, got") as no:
        SurpriseScale.load(tmp_path)
    assert "\n" not in str(no.value)


def test_a_density_without_hearts_is_named(scale_of, tmp_path):
    scale_of("vae")[1].save(tmp_path)
    (tmp_path / "surprise.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"got no surprise\.safetensors in it"):
        SurpriseScale.load(tmp_path)


def test_the_same_model_trained_on_is_refused(scale_of):
    model, scale = scale_of("vae")
    scale.require_fit(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1.05
    with pytest.raises(ValueError, match="density: expected the model that it was fitted to"):
        scale.require_fit(model)


def test_a_model_of_another_kind_is_refused(build, scale_of):
    _, scale = scale_of("vae")
    with pytest.raises(ValueError, match="density: expected one over the codes of the model"):
        scale.require_fit(build("nvae"))
    with pytest.raises(ValueError, match="surprise: expected a model with a bound"):
        scale.require_fit(build("ae"))


def test_only_variational_models_have_a_bound(build, masks):
    found = {name: has_bound(build(name), masks[:1]) for name in ("ae", "cvae", "nvae", "vae")}
    assert found == {"ae": False, "cvae": True, "nvae": True, "vae": True}
