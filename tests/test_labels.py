import numpy as np
import pytest

from cardiac_vae.labels import (
    ACDC_LABELS,
    HEART,
    LABEL_PRESETS,
    MNMS_LABELS,
    Structure,
    from_structures,
    most_probable,
    parse_labels,
    to_structures,
)


def test_a_mapping_says_the_same_as_its_preset():
    assert parse_labels("acdc") == ACDC_LABELS
    assert parse_labels("rv=3, myo=2, LV=1") == parse_labels("mnms") == MNMS_LABELS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kits", "got 'kits'"),
        ("rv=1,myo=2,atrium=3", "got 'atrium=3'"),
        ("rv=1,myo=2,lv=0", "got 'lv=0'"),
        ("rv=1,myo=2,lv=-3", "got 'lv=-3'"),
        ("rv=1,myo=2,lv=1.5", "got 'lv=1.5'"),
        ("rv=1,myo=2,rv=3", "rv is given twice"),
        ("rv=1,myo=2", "each structure with a value of its own"),
        ("rv=1,myo=2,lv=2", "each structure with a value of its own"),
        ("", "expected one of"),
    ],
)
def test_a_wrong_mapping_is_named_in_one_line(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_labels(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("labels", [*LABEL_PRESETS.values(), parse_labels("rv=600,myo=200,lv=85")])
def test_translating_there_and_back_changes_nothing(labels, rng):
    structures = rng.integers(0, 4, (3, 5, 7)).astype(np.uint8)
    own = from_structures(structures, labels)
    assert own.dtype == np.int16
    for structure in HEART:
        assert (own[structures == structure] == labels[structure]).all()
    back = to_structures(own, labels)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, structures)
    assert not own[structures == Structure.BACKGROUND].any()


def test_labels_of_mnms_are_swapped_and_not_those_of_acdc():
    own = np.array([[0, 1, 2, 3]])
    np.testing.assert_array_equal(to_structures(own, MNMS_LABELS), [[0, 3, 2, 1]])
    np.testing.assert_array_equal(to_structures(own, ACDC_LABELS), own)


def test_unknown_labels_are_refused_with_a_mapping_that_parses():
    own = np.array([0, 500, 200, 600])
    with pytest.raises(ValueError, match="got 200, 500, 600 as well") as caught:
        to_structures(own, ACDC_LABELS)
    hint = str(caught.value).rpartition("--labels ")[2]
    assert set(to_structures(own, parse_labels(hint))) == set(Structure)


def test_more_labels_than_structures_look_like_another_kind_of_file():
    with pytest.raises(ValueError, match="is this a probability map or an image"):
        to_structures(np.arange(6), ACDC_LABELS)
    with pytest.raises(ValueError, match="is this a probability map or an image"):
        to_structures(np.array([0.0, 0.5]), ACDC_LABELS)


def test_the_most_probable_structures_make_the_mask():
    probabilities = np.array([[0.4, 0.1], [0.3, 0.2], [0.2, 0.6], [0.1, 0.1]])[None, :, None]
    mask = most_probable(probabilities)
    assert mask.dtype == np.uint8
    assert mask.tolist() == [[[0, 2]]]
