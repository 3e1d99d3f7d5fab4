"""Which files are one heart, by their names alone."""

from pathlib import Path

import pytest

from cardiac_vae.data.heart_names import HeartName, find_hearts
from cardiac_vae.labels import Phase


@pytest.mark.parametrize(
    ("name", "heart", "instant", "phase"),
    [
        ("patient001_frame01_gt.nii.gz", "patient001_gt", "frame01", None),
        ("patient001_frame12.nii.gz", "patient001", "frame12", None),
        ("patient001_frame_3.nii", "patient001", "frame_3", None),
        ("001_SA_ED_gt.nii.gz", "001_SA_gt", "ed", Phase.ED),
        ("patient002_es_mask.nii.gz", "patient002_mask", "es", Phase.ES),
        ("p-7.ES.nii.gz", "p-7", "es", Phase.ES),
        ("ED_p7.nii.gz", "p7", "ed", Phase.ED),
        ("p7_frame12_ES_gt.nii.gz", "p7_gt", "frame12_es", Phase.ES),
        ("ES_p7_ed.nii.gz", "p7", "es_ed", Phase.ED),
        ("p7_medes.nii.gz", "p7_medes", "", None),
        ("edward_frames.nii.gz", "edward_frames", "", None),
        ("frame7.nii.gz", "", "frame7", None),
    ],
)
def test_what_a_name_says(name, heart, instant, phase):
    folder = Path("/study/masks")
    assert HeartName.parse(folder / name) == HeartName(folder / heart, instant, phase)


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["p1_frame01_gt.nii.gz", "p1_frame12_gt.nii.gz"], [[0, 1]]),
        (["p1_ED.nii.gz", "p2_ED.nii.gz", "p1_es.nii", "p2_ES.nii.gz"], [[0, 2], [1, 3]]),
        (["a/p1_ed.nii.gz", "b/p1_es.nii.gz"], []),
        (["a/ed.nii.gz", "b/ed.nii.gz", "a/es.nii.gz"], [[0, 2]]),
        (["p1_ed_gt.nii.gz", "p1_es_mask.nii.gz"], []),
        (["001_SA_ED_gt.nii.gz", "001_LA_ES_gt.nii.gz"], []),
        (["p1_frame01.nii.gz", "p1_frame05.nii.gz", "p1_frame09.nii.gz"], [[0, 1, 2]]),
        (["p1_ed.nii.gz"], []),
        (["p1.nii.gz", "p1.nii"], []),
    ],
)
def test_files_that_differ_in_the_instant_alone_are_one_heart(names, groups):
    paths = [Path(name) for name in names]
    found = find_hearts(paths)
    assert list(found.values()) == [[paths[index] for index in group] for group in groups]


def test_a_heart_bears_the_name_that_its_files_share():
    hearts = find_hearts([Path("/s/a/p1_ed.nii.gz"), Path("/s/a/p1_es.nii.gz")])
    assert list(hearts) == [Path("/s/a/p1")]
    hearts = find_hearts([Path("/s/p1/ed.nii.gz"), Path("/s/p1/es.nii.gz")])
    assert list(hearts) == [Path("/s/p1")]


@pytest.mark.parametrize("other", ["p1_ed.nii", "p1_ED.nii.gz", "p1_ed.nii.gz"])
def test_two_files_of_one_instant_are_refused(other):
    paths = [Path("p1_ed.nii.gz"), Path("p1_es.nii.gz"), Path(other)]
    with pytest.raises(ValueError, match=f"{other}: expected one file per heart and instant"):
        find_hearts(paths)
