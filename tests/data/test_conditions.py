"""What is known of a slice: what a person writes, what a volume tells, what a model reads."""

import numpy as np
import pytest
import torch
from scipy.stats import binom

from cardiac_vae.data.conditions import (
    ACDC_GROUPS,
    Condition,
    encode_conditions,
    part_sizes,
    slice_conditions,
    slice_positions,
)
from cardiac_vae.data.phantom import PhantomConfig, make_patient
from cardiac_vae.data.phantom_diagnosis import GROUPS

EVERY = [
    Condition(group, phase, position)
    for group in ("", *ACDC_GROUPS)
    for phase in ("", "ed", "es")
    for position in (None, 0.0, 0.1, 0.5, 0.77, 1.0)
]


def read_back(row):
    """Undo the encoding: the largest of a one-hot, sum_k (k / n) b_k(t) = t."""
    group, phase, position = row.split(part_sizes(ACDC_GROUPS))
    steps = torch.linspace(0, 1, len(position))
    return (
        ACDC_GROUPS[int(group.argmax())] if group.any() else "",
        ("ed", "es")[int(phase.argmax())] if phase.any() else "",
        pytest.approx(float(position @ steps), abs=1e-6) if position.any() else None,
    )


def test_every_condition_comes_back_from_its_encoding():
    encoded = encode_conditions(EVERY)
    assert encoded.shape == (len(EVERY), sum(part_sizes(ACDC_GROUPS)))
    assert encoded.dtype == torch.float32
    for condition, row in zip(EVERY, encoded, strict=True):
        assert (condition.group, condition.phase, condition.position) == read_back(row)


def test_a_part_sums_to_one_where_it_is_known_and_is_zero_where_it_is_not():
    parts = encode_conditions(EVERY).split(part_sizes(ACDC_GROUPS), dim=1)
    for part, known in zip(
        parts,
        zip(*((c.group != "", c.phase != "", c.position is not None) for c in EVERY), strict=True),
        strict=True,
    ):
        torch.testing.assert_close(part.sum(dim=1), torch.tensor(known).float())
        assert (part >= 0).all()


def test_positions_are_binomial_probabilities():
    """b_k(t) is the chance of k heads in n tosses, each of chance t."""
    positions = np.linspace(0, 1, 11)
    encoded = encode_conditions([Condition(position=t) for t in positions], groups=())
    expected = binom.pmf(np.arange(5), 4, positions[:, None])
    np.testing.assert_allclose(encoded[:, 2:], expected, atol=1e-6)


def test_the_groups_are_those_that_the_model_knows():
    encoded = encode_conditions([Condition("athlete", "es"), Condition()], ["amyloid", "athlete"])
    assert encoded.tolist() == [[0, 1, 0, 1, *[0] * 5], [0] * 9]
    assert encode_conditions([], ["amyloid"]).shape == (0, 8)
    with pytest.raises(ValueError, match=r"group: expected one of \['NOR', .*got 'HCMM'"):
        encode_conditions([Condition("HCMM")])
    assert Condition("athlete", "es", 0.2).within(ACDC_GROUPS) == Condition("", "es", 0.2)
    assert Condition("HCM", "es", 0.2).within(ACDC_GROUPS) == Condition("HCM", "es", 0.2)


def test_the_phantom_has_the_groups_of_acdc():
    assert set(GROUPS) == set(ACDC_GROUPS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("HCM, es, 0.5", Condition("HCM", "es", 0.5)),
        ("HCM, end-systole, mid-ventricle", Condition("HCM", "es", 0.5)),
        ("apex,ED", Condition(phase="ed", position=1.0)),
        ("Base", Condition(position=0.0)),
        (" MINF ", Condition("MINF")),
        ("", Condition()),
    ],
)
def test_a_person_writes_what_is_known_in_any_order(text, expected):
    assert Condition.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("HCM, NOR", "condition 'HCM, NOR': expected one group, got 'HCM' and 'NOR'"),
        ("es, end-diastole", "expected one phase, got 'es' and 'end-diastole'"),
        ("apex, 0.9", "expected one position, got 'apex' and '0.9'"),
        ("HCM, 1.5", r"position: expected a number from 0 \(base\) to 1 \(apex\).*got 1.5"),
        ("nan", "position: .*got nan"),
    ],
)
def test_what_contradicts_itself_is_said_in_one_line(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        Condition.parse(text)
    assert "\n" not in str(caught.value)


def test_there_are_two_phases():
    with pytest.raises(ValueError, match=r"phase: expected one of \['ed', 'es'\].*got 'mid'"):
        Condition(phase="mid")


def tapering(*radii):
    """Return a (D, 21, 21) mask of disks."""
    rows, columns = np.mgrid[:21, :21]
    radius = np.hypot(rows - 10, columns - 10)
    return np.stack([2 * (radius < size).astype(np.uint8) for size in radii])


def test_positions_run_from_the_first_slice_with_a_heart_to_the_last():
    nan = np.nan
    positions = slice_positions(tapering(0, 9, 8, 6, 3, 2, 0, 0))
    np.testing.assert_allclose(positions, [nan, 0, 0.25, 0.5, 0.75, 1, nan, nan])


def test_the_heart_says_which_end_is_the_base():
    mask = tapering(0, 9, 8, 6, 3)
    np.testing.assert_allclose(slice_positions(mask[::-1]), slice_positions(mask)[::-1])
    # Not the outermost slices but all of the heart: few pixels in the most basal one are common.
    np.testing.assert_allclose(slice_positions(tapering(2, 9, 8, 6, 3)), [0, 0.25, 0.5, 0.75, 1])


def test_a_slice_left_out_has_its_place_and_a_single_one_has_none():
    np.testing.assert_allclose(slice_positions(tapering(9, 0, 4)), [0, 0.5, 1])
    assert np.isnan(slice_positions(tapering(0, 9, 0))).all()
    assert np.isnan(slice_positions(tapering(0, 0))).all()


def test_a_stack_of_equal_slices_keeps_its_order():
    np.testing.assert_allclose(slice_positions(tapering(5, 5, 5)), [0, 0.5, 1])


def test_conditions_of_a_hand_made_volume():
    assert slice_conditions("HCM", "es", tapering(0, 3, 9)) == [
        Condition("HCM", "es"),
        Condition("HCM", "es", 1.0),
        Condition("HCM", "es", 0.0),
    ]


def test_phantoms_are_stacked_from_base_to_apex():
    patient = make_patient(0, PhantomConfig())
    for mask in patient.masks.values():
        positions = slice_positions(mask)
        known = positions[~np.isnan(positions)]
        assert (np.diff(known) > 0).all()
        assert (known[0], known[-1]) == (0, 1)
