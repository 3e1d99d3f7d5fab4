from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cardiac_vae.data.prepared import read_prepared, write_records
from cardiac_vae.evaluation.segmented_case import learn_stacks, read_segmented_case
from cardiac_vae.metrics.presence import present_structures


@pytest.fixture
def read(cohort):
    """Return a function that reads a case of the cohort as it was segmented."""
    prepared = read_prepared(cohort.prepared, "train")[0]

    def read_it(case, scans="clean", segmented=cohort.segmented):
        return read_segmented_case(case, scans, segmented, prepared, margin_mm=10.0)

    return read_it


def test_a_case_is_what_both_drew(cohort, read):
    case = cohort.cases[0]
    found = read(case, "corrupted")
    assert (found.patient_id, found.scans) == (case.patient_id, "corrupted")
    np.testing.assert_array_equal(found.expert, case.mask)
    np.testing.assert_array_equal(found.drawn, found.probabilities.argmax(axis=1))
    np.testing.assert_array_equal(found.stack.present, present_structures(case.mask))
    assert found.pair is not None
    assert np.count_nonzero(found.pair.drawn) == np.count_nonzero(found.drawn)
    assert 0 < len(found.truth) == len(found.near) < case.mask.size
    in_window = np.count_nonzero(found.pair.expert)
    assert np.count_nonzero(found.truth) == in_window  # the margin holds all that the expert drew


class Corrector:
    """Says that everything is background."""

    config, pixel_mm = SimpleNamespace(image_size=64), 1.5

    def correct(self, given, chosen):
        assert len(given) == len(chosen)
        return np.eye(4, dtype=np.float32)[np.zeros((len(given), 64, 64), int)].transpose(
            0, 3, 1, 2
        )


def test_a_corrector_is_heard_on_what_slices_hold(cohort):
    prepared = read_prepared(cohort.prepared, "train")[0]
    case = cohort.cases[0]
    alone, beside = (
        read_segmented_case(case, "clean", cohort.segmented, prepared, 10.0, corrector)
        for corrector in (None, Corrector())
    )
    np.testing.assert_array_equal(beside.stack.evidence[..., :2], alone.stack.evidence)
    assert (beside.stack.evidence[..., 2] == 0).all()
    assert alone.stack.evidence[..., 0].any()


def test_a_stack_from_the_apex_is_turned(cohort, read, tmp_path: Path):
    case = cohort.cases[1]
    ahead = read(case)
    turned = replace(cohort, root=tmp_path)
    turned.write(case.case_id, "clean", ahead.probabilities[::-1])
    back = read(replace(case, mask=case.mask[::-1].copy()), segmented=turned.segmented)
    for name in ("expert", "drawn", "probabilities", "near", "truth"):
        np.testing.assert_array_equal(getattr(back, name), getattr(ahead, name))
    np.testing.assert_array_equal(back.stack.evidence, ahead.stack.evidence)


def test_presence_is_learnt_from_the_base_whatever_the_files_say(cohort, learnt, tmp_path: Path):
    train = read_prepared(cohort.prepared, "train")
    turned = []
    for case in train:
        path = tmp_path / case.path.name
        np.savez(path, **{name: getattr(case.load(), name)[::-1] for name in case.load().__slots__})
        turned.append(replace(case, path=path))
    write_records(tmp_path, turned)
    presence, order = learn_stacks(read_prepared(tmp_path))
    expected, of_train = learnt
    assert presence == expected
    for fault, limit in of_train.limits.items():
        assert order.limits[fault] == pytest.approx(limit, abs=0.5)


def test_a_mask_on_another_grid_is_refused(cohort, read):
    case = cohort.cases[0]
    with pytest.raises(ValueError, match=r"a_ed: expected a segmented mask on the expert's grid"):
        read(replace(case, mask=case.mask[:, 1:]))
