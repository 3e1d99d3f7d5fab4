"""Splits by patient, in proportion within each group, with copies of one scan kept together."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from cardiac_vae.config import StrictConfig


class SplitSizes(StrictConfig):
    """Proportions of the splits; of 99 patients, the defaults are their numbers."""

    train: PositiveInt = 80
    validation: NonNegativeInt = 9
    test: NonNegativeInt = 10


def split_patients(
    groups: Mapping[str, str],
    sizes: SplitSizes,
    same_subject: Sequence[Sequence[str]] = (),
    seed: int = 0,
) -> dict[str, list[str]]:
    """Return the sorted patients of each split, by the split's name.

    The splits' totals are those of largest remainder, with at least one patient in each that is
    asked for; within them each group is spread as evenly as whole patients allow. Patients of one
    ``same_subject`` set stay together, where a total may give way by as many.

    Args:
        groups: The group of each patient, by patient.
        sizes: Proportions.
        same_subject: Sets of patients that are one person; names not in ``groups`` are ignored.
        seed: Shuffles the patients within their group.

    Raises:
        ValueError: if there are fewer patients, copies counted once, than splits.
    """
    proportions = {name: size for name, size in sizes.model_dump().items() if size}
    subjects = _subjects(groups, same_subject)
    if len(subjects) < len(proportions):
        raise ValueError(
            f"expected at least {len(proportions)} patients for the splits "
            f"{', '.join(proportions)}, got {len(subjects)}; add patients or drop a split"
        )
    members = sorted(set(groups.values()))
    counts = [list(groups.values()).count(group) for group in members]
    totals = _whole_shares(list(proportions.values()), len(groups))
    room = dict(zip(members, _table(counts, totals), strict=True))

    splits: dict[str, list[str]] = {name: [] for name in SplitSizes.model_fields}
    order = np.random.default_rng(seed).permutation(len(subjects))
    for subject in sorted((subjects[index] for index in order), key=len, reverse=True):
        needed = Counter(groups[patient] for patient in subject)
        spare = [
            min(room[group][index] - number for group, number in needed.items())
            for index in range(len(proportions))
        ]
        chosen = int(np.argmax(spare))
        splits[list(proportions)[chosen]] += subject
        for group, number in needed.items():
            room[group][chosen] -= number
    return {name: sorted(patients) for name, patients in splits.items()}


def some_patients(groups: Mapping[str, str], num_patients: int, seed: int = 0) -> list[str]:
    """Return so many of the patients, sorted, each group in its proportion.

    Args:
        groups: The group of each patient, by patient.
        num_patients: How many to choose.
        seed: Chooses them within their group.

    Raises:
        ValueError: if there are not as many.
    """
    if num_patients > len(groups):
        raise ValueError(
            f"num_patients: expected at most the {len(groups)} patients there are to choose from, "
            f"got {num_patients}; lower it or prepare more patients"
        )
    sizes = SplitSizes(train=num_patients, validation=len(groups) - num_patients, test=0)
    return split_patients(groups, sizes, seed=seed)["train"]


def _subjects(
    groups: Mapping[str, str], same_subject: Sequence[Sequence[str]]
) -> list[tuple[str, ...]]:
    """Return the patients of each person, sorted; sets that share a patient are one person."""
    subjects = [{patient} for patient in sorted(groups)]
    for copies in same_subject:
        joined = [subject for subject in subjects if subject & set(copies)]
        rest = [subject for subject in subjects if not subject & set(copies)]
        subjects = rest + ([set().union(*joined)] if joined else [])
    return sorted(tuple(sorted(subject)) for subject in subjects)


def _whole_shares(proportions: Sequence[int], number: int) -> list[int]:
    """Share out ``number`` in proportion by largest remainder, at least one to each."""
    exact = np.array(proportions) * number / sum(proportions)
    shares = np.floor(exact).astype(int)
    for index in np.argsort(shares - exact, kind="stable")[: number - shares.sum()]:
        shares[index] += 1
    while shares.min() == 0:
        shares[shares.argmax()] -= 1
        shares[shares.argmin()] += 1
    return [int(share) for share in shares]


def _table(rows: Sequence[int], columns: Sequence[int]) -> list[list[int]]:
    """Return the whole-number table with these sums that is nearest to proportional."""
    exact = np.outer(rows, columns) / sum(rows)
    table = np.floor(exact).astype(int)
    while table.sum() < sum(rows):
        open_row = table.sum(axis=1) < rows
        open_column = table.sum(axis=0) < columns
        gap = np.where(np.outer(open_row, open_column), exact - table, -np.inf)
        table[np.unravel_index(gap.argmax(), gap.shape)] += 1
    return [[int(cell) for cell in row] for row in table]
