from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cardiac_vae.data.case import CardiacCase
from cardiac_vae.data.nifti import read_image, write_mask
from cardiac_vae.data.segmented import SCANS, mask_path, refined_path
from cardiac_vae.evaluation.cohort import evaluate_cases
from cardiac_vae.labels import Phase, Structure


@pytest.fixture
def case() -> CardiacCase:
    mask = np.zeros((2, 24, 24), np.uint8)
    mask[:, 6:18, 6:18] = Structure.MYO
    mask[:, 8:16, 8:16] = Structure.LV
    return CardiacCase("a", Phase.ED, mask, (8.0, 1.5, 1.5), group="NOR")


def test_each_variant_is_scored_on_its_own_mask(case: CardiacCase, tmp_path: Path):
    speck = case.mask.copy()
    speck[0, 22, 22] = Structure.LV
    header = nib.Nifti1Image(np.zeros((24, 24, 2), np.float32), np.eye(4))
    header.header.set_zooms((1.5, 1.5, 8.0))
    header.to_filename(tmp_path / "scan.nii.gz")
    scan = read_image(tmp_path / "scan.nii.gz")
    segmented, refined = tmp_path / "segmented", tmp_path / "refined"
    for scans in SCANS:
        for folder in (segmented, refined):
            (folder / scans).mkdir(parents=True)
        write_mask(mask_path(segmented, scans, "a_ed"), speck, scan)
        empty = np.zeros_like(case.mask)
        write_mask(refined_path(refined, scans, "a_ed"), empty, scan)
    rows = evaluate_cases([case], segmented, refined)
    assert set(rows) == set(SCANS)
    for variants in rows.values():
        [segmenter], [baseline], [done] = (
            variants[name] for name in ("segmenter", "baseline", "refined")
        )
        assert segmenter.structures[Structure.LV].dice == pytest.approx(256 / 257)
        assert not segmenter.is_valid_volume
        assert baseline.structures[Structure.LV].dice == 1
        assert done.structures[Structure.LV].is_missed
        assert done.is_valid_volume
