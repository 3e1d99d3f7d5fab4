"""The criteria on all expert masks of ACDC: known counts, known to be small."""

from collections import Counter

from cardiac_vae.anatomy.criteria import check_volume
from cardiac_vae.data.acdc import case_paths
from cardiac_vae.data.nifti import read_mask


def test_expert_masks_break_the_criteria_as_often_as_known(acdc_root):
    broken: Counter[str] = Counter()
    num_slices = num_empty = num_valid = num_valid_volumes = num_volumes = 0
    for paths in case_paths(acdc_root):  # ACDC's labels are ``Structure``
        mask = read_mask(paths.mask)
        verdict = check_volume(mask.volume, mask.spacing_mm)
        broken.update(verdict.broken)
        num_slices += len(verdict.slices)
        num_empty += verdict.num_empty_slices
        num_valid += verdict.num_valid_slices
        num_valid_volumes += verdict.is_valid
        num_volumes += 1
    assert (num_volumes, num_slices, num_empty) == (200, 1902, 61)
    # The first four are facts of the data set, found by other means as well.
    assert +broken == {
        "detached_rv": 7,
        "detached_myo": 2,
        "lv_touches_rv": 2,
        "lv_touches_background": 6,
        "holes_between_rv_and_myo": 4,
        "lv_concavity": 2,
        "rv_concavity": 3,
        "myo_concavity": 9,
    }
    assert (num_valid, num_valid_volumes) == (1872, 172)
