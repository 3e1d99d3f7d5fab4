"""Phases by what names say, and of numbered files by the size of the LV."""

import pytest

from cardiac_vae.cli.inputs import Case
from cardiac_vae.cli.masks import Labelling
from cardiac_vae.cli.phases import named_phases, phases_of
from cardiac_vae.labels import Phase, Structure

LABELLING = Labelling.parse("acdc")


@pytest.fixture
def write(heart, write_nifti):
    """Return a writer of the heart with so many slices, the size of its LV."""

    def written(name, num_slices):
        mask = heart.copy()
        mask[num_slices:] = Structure.BACKGROUND
        return Case(write_nifti(name, mask))

    return written


def test_names_that_say_the_phase_are_taken_at_their_word(write):
    small, large = write("p1_ED.nii.gz", 1), write("p1_es.nii.gz", 4)
    alone = write("p2_frame01.nii.gz", 3)
    expected = {small.source: Phase.ED, large.source: Phase.ES}
    assert named_phases([small, large, alone]) == expected
    assert phases_of([small, large, alone], LABELLING) == expected


def test_numbered_files_of_a_heart_are_told_by_their_lv(write):
    cases = [write(f"p1_frame{n:02d}_mask.nii.gz", size) for n, size in ((1, 3), (5, 4), (9, 1))]
    partnerless = write("p2_frame01_mask.nii.gz", 3)
    assert phases_of([*cases, partnerless], LABELLING) == {
        cases[1].source: Phase.ED,
        cases[2].source: Phase.ES,
    }
    assert named_phases(cases) == {}


def test_equal_or_unreadable_files_are_of_no_phase(write, tmp_path):
    same = [write(f"p1_frame{number}.nii.gz", 2) for number in (1, 2)]
    broken = tmp_path / "p2_frame01.nii.gz"
    broken.write_bytes(b"no NIfTI")
    partner = write("p2_frame02.nii.gz", 2)
    assert phases_of([*same, Case(broken), partner], LABELLING) == {}
