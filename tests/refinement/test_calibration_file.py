"""What was learnt of a segmenter, on file and back."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cardiac_vae.correction.corrector import CONFIG, Corrector
from cardiac_vae.correction.network import Config, Network
from cardiac_vae.labels import Phase
from cardiac_vae.refinement.calibration import (
    CORRECTOR,
    OBSERVATION,
    SLICE_ORDER,
    STACK,
    UNCERTAINTY,
    Calibration,
)
from cardiac_vae.refinement.observation import ObservationModel, Scaling
from cardiac_vae.refinement.stack.presence_prior import PresencePrior
from cardiac_vae.refinement.stack.slice_order import SliceOrder, Smoothness
from cardiac_vae.refinement.stack.stack_model import SegmentedStack, StackModel, fit_stack
from cardiac_vae.refinement.uncertainty import ErrorModel

ERRORS = ErrorModel(rv=1 / 7, myo=0.1, lv=0.4)

SMOOTH = Smoothness(amplitude_mm=2.0, length_mm=30.0, noise_mm=1 / 3)
ORDER = SliceOrder(
    smoothness=(SMOOTH,) * 5, limits={"swapped": 1.5, "shifted": 2.5, "missing": 0.0}
)


@pytest.fixture
def stack() -> StackModel:
    rng = np.random.default_rng(0)
    present = np.arange(6)[:, None] < [4, 6, 5]
    evidence = np.where(present, 3.0, 0.0)[..., None] + rng.normal(0, 0.3, (6, 3, 2)) ** 2
    presence = PresencePrior.learn([(Phase.ED, present), (Phase.ES, present[:5])])
    return fit_stack(presence, [SegmentedStack(evidence, present, Phase.ED)])


@pytest.fixture
def corrector() -> Corrector:
    config = Config(image_size=8, patch_size=2, channels=(4,))
    torch.manual_seed(0)
    return Corrector(config, Network(config).eval(), pixel_mm=1.5)


def test_a_calibration_comes_back_to_the_bit(tmp_path: Path, stack: StackModel):
    observation = ObservationModel(of_mask=Scaling(scale=1 / 3), blur_mm=2.0, weight=0.7)
    kept = Calibration(observation, stack, ORDER, ERRORS)
    kept.save(tmp_path / "calibration")
    assert Calibration.load(tmp_path / "calibration") == kept
    assert sorted(path.name for path in (tmp_path / "calibration").iterdir()) == [
        OBSERVATION,
        SLICE_ORDER,
        STACK,
        UNCERTAINTY,
    ]


def test_a_calibration_without_errors_still_loads(tmp_path: Path, stack: StackModel):
    Calibration(stack=stack, errors=ERRORS).save(tmp_path)
    (tmp_path / UNCERTAINTY).unlink()
    assert Calibration.load(tmp_path) == Calibration(stack=stack)


def test_an_earlier_stack_does_not_outlive_a_calibration_without_one(
    tmp_path: Path, stack: StackModel
):
    Calibration(stack=stack, slice_order=ORDER, errors=ERRORS).save(tmp_path)
    Calibration().save(tmp_path)
    assert Calibration.load(tmp_path) == Calibration()


def test_a_corrector_lies_in_a_folder_of_its_own(tmp_path: Path, corrector: Corrector):
    Calibration(corrector=corrector).save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [CORRECTOR, OBSERVATION]
    loaded = Calibration.load(tmp_path).corrector
    assert loaded is not None
    assert (loaded.config, loaded.pixel_mm) == (corrector.config, corrector.pixel_mm)
    weights = loaded.network.state_dict()
    assert all(torch.equal(weights[k], v) for k, v in corrector.network.state_dict().items())
    assert Calibration.load(tmp_path, with_corrector=False) == Calibration()


def test_an_earlier_corrector_does_not_outlive_a_calibration_without_one(
    tmp_path: Path, corrector: Corrector
):
    Calibration(corrector=corrector).save(tmp_path)
    Calibration(errors=ERRORS).save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [OBSERVATION, UNCERTAINTY]
    assert Calibration.load(tmp_path) == Calibration(errors=ERRORS)


def test_half_a_corrector_is_no_calibration(tmp_path: Path, corrector: Corrector):
    Calibration(corrector=corrector).save(tmp_path)
    (tmp_path / CORRECTOR / CONFIG).unlink()
    with pytest.raises(FileNotFoundError, match=rf"expected a corrector's folder, {CONFIG} not"):
        Calibration.load(tmp_path)


def test_an_empty_folder_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"got no observation.json in it; run the stage"):
        Calibration.load(tmp_path)


@pytest.mark.parametrize("name", [OBSERVATION, STACK, SLICE_ORDER, UNCERTAINTY])
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "expected JSON"),
        ("[1]", "expected a mapping, got list"),
        ('{"wieght": 1}', "wieght: unknown parameter"),
    ],
)
def test_a_file_of_something_else_is_named(
    tmp_path: Path, stack: StackModel, name: str, text: str, told: str
):
    Calibration(stack=stack, slice_order=ORDER, errors=ERRORS).save(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=told) as raised:
        Calibration.load(tmp_path)
    assert str(tmp_path / name) in str(raised.value)
    assert "\n" not in str(raised.value)
