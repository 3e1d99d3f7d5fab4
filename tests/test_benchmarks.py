import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.hearts import Scan, broken_scan
from benchmarks.measuring import machine, median_seconds, peak_memory_mb, table
from benchmarks.refinement import refining
from benchmarks.training import (
    HIERARCHY,
    PLAIN,
    RECIPES,
    WIDENED,
    chosen,
    num_parameters,
    rows,
    training_step,
    widened,
)
from benchmarks.variational import BATCH, COMPONENTS, SIZE, stream, whole
from cardiac_vae.anatomy.criteria import check_volume
from cardiac_vae.refinement.refine import Refiner
from cardiac_vae.refinement.result import RefinementResult
from cardiac_vae.training.fit import FitConfig
from cardiac_vae.training.shapes import Recipe


@pytest.fixture(scope="module")
def scan() -> Scan:
    return broken_scan(num_broken=1, num_slices=3)


def test_as_many_slices_are_broken_as_the_benchmark_says(scan: Scan):
    verdict = check_volume(scan.mask, scan.spacing_mm)
    assert [any(found.values()) for found in verdict.slices] == [False, True, False]
    np.testing.assert_allclose(scan.probabilities.sum(axis=1), 1, atol=1e-5)
    again = broken_scan(num_broken=1, num_slices=3)
    np.testing.assert_array_equal(again.probabilities, scan.probabilities)


def test_what_is_timed_as_refining_refines(tiny_model: Path, scan: Scan):
    result = refining(Refiner.load(tiny_model), scan, scan.probabilities)()
    assert isinstance(result, RefinementResult)
    assert not result.before.is_valid
    assert result.after.is_valid


def test_what_is_timed_as_training_trains():
    masks = np.zeros((4, 16, 16), np.uint8)
    masks[:, 4:12, 4:12] = 2
    settings = {"image_size": 16, "patch_size": 4, "channels": [8], "latent_dim": 2}
    step = training_step(
        Recipe(module="vae", settings=settings), masks, FitConfig(batch_size=4, warmup_steps=0)
    )
    losses = [step() for _ in range(12)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_a_model_that_looks_at_conditions_is_timed_with_them():
    masks = np.full((4, 16, 16), 2, np.uint8)
    settings = {"image_size": 16, "patch_size": 4, "channels": [8], "latent_dim": 2}
    step = training_step(Recipe(module="cvae", settings=settings), masks, FitConfig(batch_size=4))
    assert np.isfinite(step())


def test_all_recipes_are_measured_but_those_in_closed_form():
    names = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    assert set(chosen(names)) == {*names, WIDENED} - {"pca"}
    assert list(chosen(["vae"])) == ["vae"]


def test_a_plain_model_is_widened_to_the_parameters_of_the_hierarchy():
    recipes = chosen([PLAIN, HIERARCHY])
    wanted = num_parameters(recipes[HIERARCHY])
    wide = recipes[WIDENED]
    assert num_parameters(wide) == pytest.approx(wanted, rel=0.06)
    channels, plain = (np.array(r.settings["channels"]) for r in (wide, recipes[PLAIN]))
    assert np.ptp(channels / plain) < 1e-12
    assert {**wide.settings, "channels": 0} == {**recipes[PLAIN].settings, "channels": 0}
    same = widened(recipes[PLAIN], num_parameters(recipes[PLAIN]))
    assert same == recipes[PLAIN]


def test_times_stand_beside_that_of_the_plain_model():
    recipe = Recipe(module="vae", settings={"image_size": 16, "channels": [4], "latent_dim": 2})
    parameters = f"{num_parameters(recipe) / 1e6:.2f}"
    both = {"vae": recipe, "other": recipe}
    assert rows(both, {"vae": 0.2, "other": 0.5}, {"vae": 300.4, "other": 400.0}) == [
        ("vae", parameters, "200", "5.00", "1.00", "300"),
        ("other", parameters, "500", "2.00", "2.50", "400"),
    ]
    assert rows({"other": recipe}, {"other": 0.5}, {"other": 400.0})[0][4] == ""


def test_tasks_take_turns():
    order: list[str] = []
    seconds = median_seconds({name: lambda name=name: order.append(name) for name in "ab"}, runs=2)
    assert order == ["a", "b"] * 3
    assert set(seconds) == {"a", "b"}


def test_peak_memory_is_that_of_the_command_and_not_of_this_process():
    small, large = (
        peak_memory_mb([sys.executable, "-c", f"x = b'1' * {size}"]) for size in (1, 2**26)
    )
    assert small < 40
    assert 60 < large - small < 70
    with pytest.raises(ValueError, match="no such"):
        peak_memory_mb([sys.executable, "-c", "raise SystemExit('no such')"])


def test_table_has_columns():
    assert table(("a", "n"), [("bb", "10")]) == "a    n\nbb  10"
    assert "cores" in machine()


def test_what_is_timed_as_fitting_the_mixture_fits_it():
    blocks = list(stream(4 * BATCH))
    assert [block.shape for block in blocks] == [(BATCH, SIZE)] * 4
    np.testing.assert_array_equal(np.concatenate(blocks), np.concatenate([*stream(4 * BATCH)]))
    for method, num_steps in (("cavi", 1), ("svi", 4)):
        result = whole(method, 4 * BATCH)
        assert result.num_steps == num_steps
        assert result.posterior.mean.shape == (COMPONENTS, SIZE)
        assert result.posterior.degrees.sum() == pytest.approx(4 * BATCH + COMPONENTS * SIZE)
