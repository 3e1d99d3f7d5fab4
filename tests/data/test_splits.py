from collections import Counter
from itertools import chain

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cardiac_vae.config import StrictConfig
from cardiac_vae.data.splits import SplitSizes, some_patients, split_patients

ORDER = ("DCM", "HCM", "MINF", "NOR", "RV")
ACDC = {f"patient{n:03d}": ORDER[(n - 1) // 20] for n in range(1, 101) if n != 55}
COPIES = (("patient074", "patient076"),)


@pytest.mark.parametrize("seed", range(20))
def test_the_99_patients_of_acdc_fall_into_80_9_10(seed):
    splits = split_patients(ACDC, SplitSizes(), COPIES, seed)
    assert {name: len(patients) for name, patients in splits.items()} == {
        "train": 80,
        "validation": 9,
        "test": 10,
    }
    assert sorted(chain(*splits.values())) == sorted(ACDC)
    for name, bounds in {"train": (16, 17), "validation": (1, 2), "test": (2, 2)}.items():
        counts = Counter(ACDC[patient] for patient in splits[name])
        assert all(bounds[0] <= counts[group] <= bounds[1] for group in ORDER), (name, counts)
    assert any(set(COPIES[0]) <= set(patients) for patients in splits.values())


@settings(deadline=None, max_examples=100)
@given(
    groups=st.lists(st.sampled_from(("", "A", "B", "C")), min_size=3, max_size=60),
    weights=st.tuples(st.integers(1, 90), st.integers(0, 20), st.integers(0, 20)),
    copies=st.lists(st.sets(st.integers(0, 70), min_size=2, max_size=3), max_size=3),
    seed=st.integers(0, 9),
)
def test_every_patient_is_in_one_split_and_copies_in_the_same(groups, weights, copies, seed):
    patients = {f"p{index}": group for index, group in enumerate(groups)}
    same = [tuple(f"p{index}" for index in subject) for subject in copies]
    sizes = SplitSizes(train=weights[0], validation=weights[1], test=weights[2])
    num_copies = sum(len(set(subject) & set(patients)) for subject in same)
    assume(len(patients) - num_copies >= sum(weight > 0 for weight in weights))
    splits = split_patients(patients, sizes, same, seed)
    assert list(splits) == ["train", "validation", "test"]
    assert sorted(chain(*splits.values())) == sorted(patients)
    for subject in same:
        homes = {name for name, members in splits.items() if set(subject) & set(members)}
        assert len(homes) <= 1
    if not copies:
        for (name, members), weight in zip(splits.items(), weights, strict=True):
            assert bool(members) == bool(weight), name
            exact = len(patients) * weight / sum(weights)
            assert abs(len(members) - exact) < 3
            for group in set(groups):
                share = sum(patients[p] == group for p in members)
                in_proportion = groups.count(group) * len(members) / len(patients)
                assert abs(share - in_proportion) < 3


def test_the_seed_decides_and_the_order_of_the_patients_does_not():
    first = split_patients(ACDC, SplitSizes(), COPIES, 3)
    assert split_patients(dict(reversed(ACDC.items())), SplitSizes(), COPIES, 3) == first
    assert split_patients(ACDC, SplitSizes(), COPIES, 4) != first


def test_chained_copies_are_one_person():
    patients = dict.fromkeys("abcdefgh", "")
    for seed in range(20):
        splits = split_patients(patients, SplitSizes(), [("a", "b"), ("b", "c")], seed)
        assert sum(bool({"a", "b", "c"} & set(members)) for members in splits.values()) == 1


def test_a_split_of_size_zero_is_empty():
    splits = split_patients(ACDC, SplitSizes(train=3, validation=1, test=0))
    assert (len(splits["train"]), len(splits["validation"]), splits["test"]) == (74, 25, [])


def test_too_few_patients_are_refused():
    with pytest.raises(ValueError, match=r"at least 3 patients .* got 2; add patients"):
        split_patients({"a": "", "b": "", "c": ""}, SplitSizes(), [("a", "b")])


def test_sizes_are_strict():
    assert issubclass(SplitSizes, StrictConfig)
    with pytest.raises(ValueError, match=r"prepare\.split: valid: unknown parameter"):
        SplitSizes.parse({"valid": 9}, "prepare.split")


@pytest.mark.parametrize("seed", range(5))
def test_some_patients_are_so_many_of_each_group_as_is_its_share(seed):
    chosen = some_patients(ACDC, 15, seed)
    assert len(set(chosen)) == 15
    assert chosen == sorted(chosen) == some_patients(ACDC, 15, seed)
    assert Counter(ACDC[patient] for patient in chosen) == dict.fromkeys(ORDER, 3)


def test_the_seed_chooses_the_patients():
    assert some_patients(ACDC, 15, seed=0) != some_patients(ACDC, 15, seed=1)
    assert some_patients(ACDC, len(ACDC), seed=0) == sorted(ACDC)


def test_more_patients_than_there_are_are_refused_with_their_number():
    with pytest.raises(ValueError, match=r"num_patients: .* at most the 99 .*, got 100; lower"):
        some_patients(ACDC, 100)
