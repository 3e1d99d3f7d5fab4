"""Phases by what names say, and of numbered files by the size of the LV."""

from pathlib import Path

import numpy as np
import pytest

from cardiac_vae.cli.phases import Phases
from cardiac_vae.data.nifti import read_mask
from cardiac_vae.labels import Phase, Structure


def found(lv_ml, named=None):
    """Return the phases of files of which the LV is known; a file without one is broken."""

    def measured(path):
        if lv_ml[path.name] is None:
            raise ValueError(f"{path}: expected a mask")
        return lv_ml[path.name]

    phases = Phases(map(Path, lv_ml), named, measured)
    by_name = {name: phases.of(Path(name)) for name in lv_ml}
    return {name: phase for name, phase in by_name.items() if phase is not None}


def test_names_that_say_the_phase_are_taken_at_their_word():
    sizes = {"p1_ED.nii.gz": 1.0, "p1_es.nii.gz": 4.0, "p2_frame01.nii.gz": 3.0}
    assert found(sizes) == {"p1_ED.nii.gz": Phase.ED, "p1_es.nii.gz": Phase.ES}


def test_numbered_files_of_a_heart_are_told_by_their_lv():
    sizes = {f"p1_frame{n:02d}_mask.nii": size for n, size in ((1, 3.0), (5, 4.0), (9, 1.0))}
    sizes |= {"p2_frame01_mask.nii": 9.0, "p3.nii": 9.0, "p1_mask.nii": 9.0}
    assert found(sizes) == {"p1_frame05_mask.nii": Phase.ED, "p1_frame09_mask.nii": Phase.ES}


def test_numbers_alone_are_no_instants():
    assert found({"a_1.nii": 2.0, "a_2.nii": 1.0}) == {}


def test_equal_or_unreadable_files_are_of_no_phase():
    assert found({"p1_frame1.nii": 2.0, "p1_frame2.nii": 2.0}) == {}
    assert found({"p2_frame1.nii": None, "p2_frame2.nii": 2.0, "p2_frame3.nii": 1.0}) == {}


def test_a_file_without_an_lv_tells_no_phase_and_a_partner_may_be_named():
    assert found({"p1_frame1.nii": 3.0, "p1_frame2.nii": 0.0}) == {}
    assert found({"p2_ED.nii": 4.0, "p2_frame07.nii": 2.0}) == {
        "p2_ED.nii": Phase.ED,
        "p2_frame07.nii": Phase.ES,
    }
    assert found({"p2_ED.nii": 2.0, "p2_frame07.nii": 4.0}) == {"p2_ED.nii": Phase.ED}


def test_names_come_before_the_person_and_the_person_before_the_lv():
    sizes = {"p1_frame1.nii": 3.0, "p1_frame2.nii": 2.0, "p2_ED.nii": 1.0}
    assert found(sizes, Phase.ES) == {
        "p1_frame1.nii": Phase.ES,
        "p1_frame2.nii": Phase.ES,
        "p2_ED.nii": Phase.ED,
    }


def test_a_heart_is_measured_once_and_only_when_it_is_asked_for():
    measured = []

    def lv_ml(path):
        measured.append(path.name)
        if path.name == "p2_frame2.nii":
            raise OSError("broken")
        return float(len(measured))

    names = [f"p{heart}_{at}.nii" for heart in (1, 2) for at in ("frame1", "frame2")]
    paths = [Path(name) for name in (*names, "p3_ED.nii", "p3_ES.nii")]
    phases = Phases(paths, None, lv_ml)
    asked = []
    for path in (*paths, *paths):
        phases.of(path)
        asked.append(list(measured))
    assert asked[:3] == [names[:2], names[:2], names]
    assert measured == names


@pytest.fixture
def write(heart, write_nifti):
    """Return a writer of the heart with so many slices, the size of its LV."""

    def written(name, num_slices):
        mask = heart.copy()
        mask[num_slices:] = Structure.BACKGROUND
        return write_nifti(name, mask)

    return written


def test_refine_tells_what_names_or_pairs_or_the_option_say(refine, write, told, tmp_path):
    masks = [write(f"in/p1_frame{n}.nii.gz", size) for n, size in ((1, 4), (2, 2))]
    masks += [write(f"in/p2_{name}.nii.gz", 2) for name in ("ES", "alone")]
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


def test_a_cine_is_a_heart_of_its_own(refine, write, write_nifti, told, tmp_path):
    single = write("in/p1_frame1.nii.gz", 4)
    frames = np.stack([read_mask(write("small.nii.gz", 2)).volume] * 2)
    write_nifti("in/p1_frame2.nii.gz", frames)
    assert refine(single.parent, tmp_path / "out").exit_code == 0
    assert told == [None] * 3
