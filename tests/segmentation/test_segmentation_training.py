import json
from collections import Counter

import numpy as np
import pytest
import torch
from small_fit import small_fit

from cardiac_vae.data.geometry import PlaneGrid
from cardiac_vae.data.preparation import PreparationConfig, prepare_dataset
from cardiac_vae.data.prepared import PreparedCase, read_prepared, write_records
from cardiac_vae.labels import Phase
from cardiac_vae.segmentation.inference import Segmenter
from cardiac_vae.segmentation.recipe import SegmenterRecipe
from cardiac_vae.segmentation.training import (
    SegmenterModule,
    mean_over_present,
    structure_dice,
    train_segmenter,
    training_cases,
    training_tensors,
)

FIT = small_fit(steps=6, warmup_steps=0, ema_decay=0.5, validate_every=3)


def test_training_slices_share_a_canvas_and_keep_their_place(rng):
    small = rng.random((2, 20, 30)).astype(np.float32)
    large = rng.random((1, 25, 24)).astype(np.float32)
    mask = np.zeros((2, 20, 30), np.uint8)
    mask[1, 4:8, 10:20] = 3
    tensors = training_tensors([(small, mask), (large, np.zeros((1, 25, 24), np.uint8))])
    assert tensors["image"].shape == tensors["mask"].shape == (3, 1, 25, 30)
    np.testing.assert_allclose(tensors["image"][:2, 0, :20], small, atol=1e-3)
    assert not tensors["image"][:2, 0, 20:].any()
    np.testing.assert_array_equal(tensors["mask"][:2, 0, :20], mask)
    # The heart of the volume also for the slice without one; the middle where there is none.
    assert tensors["place"].tolist() == [[6, 15, 20, 30], [6, 15, 20, 30], [12.5, 12, 25, 24]]


def test_the_loss_falls_on_one_batch(each_settings, volume):
    torch.manual_seed(0)
    image, mask = volume
    batch = training_tensors([(image / 1000, mask)])
    module = SegmenterModule(each_settings, FIT)
    optimizer = module.configure_optimizers()["optimizer"]
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = module.window_loss(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_a_structure_both_lack_does_not_count_and_one_invented_is_a_miss():
    reference, predicted = np.zeros((2, 1, 4, 4), np.uint8)
    reference[0, 0] = predicted[0, 0] = 3
    predicted[0, 1] = 2
    rv, myo, lv = structure_dice(reference, predicted)
    assert np.isnan(rv)
    assert (myo, lv) == (0.0, 1.0)


def test_the_mean_is_over_the_volumes_that_have_the_structure():
    nan = float("nan")
    means = mean_over_present([[nan, 0.5, nan], [0.8, 0.7, nan]])
    assert means == {"rv": 0.8, "myo": pytest.approx(0.6)}


@pytest.fixture
def prepared(tmp_path, volume):
    """Prepare ten patients with the same simple heart, through the folder reader."""
    nifti = pytest.importorskip("nibabel")
    image, mask = volume
    for name, array in (("images", image.astype(np.float32)), ("masks", mask)):
        (tmp_path / "raw" / name).mkdir(parents=True)
        for number in range(10):
            volume_ = nifti.Nifti1Image(array.transpose(2, 1, 0), np.diag([-1.5, -1.5, 8, 1]))
            nifti.save(volume_, tmp_path / "raw" / name / f"case{number}_ed.nii.gz")
    config = PreparationConfig(reader="nifti_folder", size=32)
    prepare_dataset(tmp_path / "raw", tmp_path / "prepared", config)
    return tmp_path / "prepared"


def test_a_segmenter_is_trained_saved_and_scored(prepared, tiny_settings, tmp_path, volume):
    recipe = SegmenterRecipe(settings=tiny_settings)
    metrics = train_segmenter(prepared, tmp_path / "model", recipe, FIT)
    json.dumps(metrics)
    assert metrics["fit"]["steps"] == 6
    assert metrics["num_train_cases"] + metrics["num_validation_cases"] < 10
    assert metrics["num_train_cases"] == len(metrics["train_patients"]) > 2
    assert set(metrics["validation_dice"]) == {"rv", "myo", "lv"}
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        "config.yaml",
        "weights.safetensors",
    }
    best = 1 - metrics["fit"]["best_value"]
    assert np.mean(list(metrics["validation_dice"].values())) == pytest.approx(best, abs=0.02)
    loaded = Segmenter.load(tmp_path / "model", device="cpu")
    assert loaded.predict(volume[0], (8.0, 1.5, 1.5)).shape == (3, 4, 45, 50)


def test_other_pixels_than_the_prepared_are_refused(prepared, tiny_settings, tmp_path):
    settings = tiny_settings.model_copy(update={"pixel_mm": 2.0})
    with pytest.raises(ValueError, match=r"expected prepared pixels of 2.0 mm"):
        train_segmenter(prepared, tmp_path / "model", SegmenterRecipe(settings=settings), FIT)


def test_few_patients_are_all_that_is_learnt_from(prepared, tiny_settings, tmp_path):
    recipe = SegmenterRecipe(settings=tiny_settings, num_patients=2)
    metrics = train_segmenter(prepared, tmp_path / "model", recipe, FIT)
    assert metrics["num_train_cases"] == len(metrics["train_patients"]) == 2
    assert metrics["train_patients"] == patients(training_cases(prepared, 2, FIT.seed))


def patients(cases: list[PreparedCase]) -> list[str]:
    return sorted({case.patient_id for case in cases})


@pytest.fixture
def records(tmp_path):
    """Write the records of 12 training patients of three groups, two phases each; no arrays."""
    everyone = [(f"p{number:02d}", "ABC"[number % 3], "train") for number in range(12)]
    everyone += [("p90", "A", "validation"), ("p91", "B", "test")]
    cases = [
        PreparedCase(
            case_id=f"{patient}_{phase.value}",
            patient_id=patient,
            phase=phase,
            group=group,
            split=split,
            spacing_mm=(8.0, 1.5, 1.5),
            native_shape=(1, 4, 4),
            grid=PlaneGrid((4, 4), (1.5, 1.5)),
            round_trip_dice=1.0,
            path=tmp_path / f"{patient}_{phase.value}.npz",
        )
        for patient, group, split in everyone
        for phase in Phase
    ]
    write_records(tmp_path, cases)
    return tmp_path


def test_patients_come_with_all_their_phases_and_each_group_in_its_proportion(records):
    cases = training_cases(records, 6, seed=0)
    assert Counter(case.split for case in cases) == {"train": 12}
    assert set(Counter(case.patient_id for case in cases).values()) == {len(Phase)}
    assert Counter(case.group for case in cases) == {"A": 4, "B": 4, "C": 4}


def test_the_seed_alone_says_who_is_chosen(records):
    chosen = [patients(training_cases(records, 6, seed)) for seed in range(5)]
    assert [patients(training_cases(records, 6, seed)) for seed in range(5)] == chosen
    assert len(set(map(tuple, chosen))) > 1


@pytest.mark.parametrize("num_patients", [None, 12])
def test_all_patients_are_those_of_the_split(records, num_patients):
    assert training_cases(records, num_patients, seed=1) == read_prepared(records, "train")


def test_more_patients_than_there_are_are_refused(records):
    with pytest.raises(ValueError, match=r"num_patients: .* at most the 12 .*, got 13; lower"):
        training_cases(records, 13, seed=0)
