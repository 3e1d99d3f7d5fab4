import json
from pathlib import Path

from cardiac_vae.data import segmented


def test_cases_are_those_with_a_mask_sorted(tmp_path: Path):
    for case_id in ("b_es", "a_ed"):
        path = segmented.mask_path(tmp_path, "clean", case_id)
        path.parent.mkdir(exist_ok=True)
        path.touch()
        segmented.probabilities_path(tmp_path, "clean", case_id).touch()
    assert segmented.case_ids(tmp_path, "clean") == ["a_ed", "b_es"]
    assert segmented.case_ids(tmp_path, "corrupted") == []


def test_the_files_of_a_case_differ(tmp_path: Path):
    places = [
        place(tmp_path, scans, case_id)
        for place in (segmented.mask_path, segmented.probabilities_path, segmented.refined_path)
        for scans in segmented.SCANS
        for case_id in ("a_ed", "a_es")
    ]
    assert len(set(places)) == len(places)


def test_patients_of_several_splits(tmp_path: Path):
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps({"train": ["a", "b"], "validation": ["c"], "test": ["d"]}))
    assert segmented.patients_of(splits, ["test", "validation"]) == {"c", "d"}
