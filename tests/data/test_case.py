import numpy as np
import pytest

from cardiac_vae.data.case import CardiacCase
from cardiac_vae.labels import Phase

MASK = np.arange(24, dtype=np.uint8).reshape(2, 3, 4) % 4


def make(mask=MASK, spacing_mm=(10.0, 1.5, 1.5), image=None):
    return CardiacCase("patient007", Phase.ES, mask, spacing_mm, image)


def test_a_case_is_named_by_patient_and_phase():
    case = make(image=np.zeros(MASK.shape, np.float32))
    assert case.case_id == "patient007_es"
    assert case.group == ""
    with pytest.raises(AttributeError):
        case.mask = MASK


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": MASK[0]}, r"patient007_es: expected a \(D, H, W\) mask .* got shape \(3, 4\)"),
        ({"mask": MASK + 2}, r"values \[0, 1, 2, 3\], .* unknown values \[4, 5\]"),
        ({"image": np.zeros((2, 3, 5))}, r"mask's grid \(2, 3, 4\), got \(2, 3, 5\)"),
        ({"spacing_mm": (10.0, 0.0, 1.5)}, "expected positive voxel sizes in mm"),
        ({"spacing_mm": (float("nan"), 1.5, 1.5)}, "expected positive voxel sizes in mm"),
        ({"spacing_mm": (10.0, 1.5, float("inf"))}, "expected positive voxel sizes in mm"),
    ],
)
def test_what_is_no_case_is_refused(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        make(**changes)
    assert "\n" not in str(caught.value)
