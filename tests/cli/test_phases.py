"""Phases by what names say, and of numbered files by the size of the LV."""

import numpy as np
import pytest

from cardiac_vae.cli.inputs import Case
from cardiac_vae.cli.masks import Labelling
from cardiac_vae.cli.phases import named_phases, phases_of
from cardiac_vae.labels import Phase, Structure
from cardiac_vae.refinement.refine import Refiner

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


def test_a_mask_without_an_lv_tells_no_phase_and_a_partner_may_be_named(write):
    pair = [write(f"p1_frame{number}.nii.gz", size) for number, size in ((1, 3), (2, 0))]
    assert phases_of(pair, LABELLING) == {}
    named, numbered = write("p2_ED.nii.gz", 4), write("p2_frame07.nii.gz", 2)
    assert phases_of([named, numbered], LABELLING) == {
        named.source: Phase.ED,
        numbered.source: Phase.ES,
    }


@pytest.fixture
def told(monkeypatch):
    """Return the phases that refiners are told from now on."""
    phases = []
    refine = Refiner.refine

    def spy(self, *arguments, phase=None, **options):
        phases.append(phase)
        return refine(self, *arguments, phase=phase, **options)

    monkeypatch.setattr(Refiner, "refine", spy)
    return phases


def test_refine_tells_what_names_or_pairs_or_the_option_say(refine, write, told, tmp_path):
    masks = [write(f"in/p1_frame{n}.nii.gz", size).source for n, size in ((1, 4), (2, 2))]
    masks += [write(f"in/p2_{name}.nii.gz", 2).source for name in ("ES", "alone")]
    assert refine(masks[0].parent, tmp_path / "by_names").exit_code == 0
    by_name = dict(zip(sorted(path.name for path in masks), told, strict=True))
    assert by_name == {
        "p1_frame1.nii.gz": Phase.ED,
        "p1_frame2.nii.gz": Phase.ES,
        "p2_ES.nii.gz": Phase.ES,
        "p2_alone.nii.gz": None,
    }
    told.clear()
    assert refine(masks[0].parent, tmp_path / "by_option", "--phase", "ed").exit_code == 0
    assert told == [Phase.ED, Phase.ED, Phase.ES, Phase.ED]
    wrong = refine(masks[0], tmp_path / "wrong.nii.gz", "--phase", "systole")
    assert wrong.exit_code == 2
    assert not (tmp_path / "wrong.nii.gz").exists()


def test_segment_tells_what_names_or_the_option_say(
    run, write_nifti, tiny_segmenter, tiny_model, told, tmp_path
):
    for name in ("p1_ED", "p2"):
        write_nifti(
            f"scans/{name}.nii.gz", np.arange(2 * 64 * 64, dtype=np.int16).reshape(2, 64, 64)
        )
    options = ("--segmenter", tiny_segmenter, "--model", tiny_model, "--phase", "es")
    run("segment", tmp_path / "scans", "-o", tmp_path / "out", *options)
    assert told == [Phase.ED, Phase.ES]
