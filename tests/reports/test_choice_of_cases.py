"""Best, median and worst are chosen by change and by the refined Dice, in that order."""

from dataclasses import dataclass

import pytest

from cardiac_vae.reports.masks import choose_cases


@dataclass
class Scored:
    case_id: str
    mean_dice: float


BEFORE = [Scored(name, dice) for name, dice in zip("abcde", (0.5, 0.9, 0.8, 0.7, 0.6), strict=True)]
AFTER = [
    Scored(name, dice) for name, dice in zip("abcde", (0.7, 0.8, 0.85, 0.71, 0.66), strict=True)
]


def test_six_cases_alternate() -> None:
    chosen = choose_cases(BEFORE, AFTER)
    assert [title.partition(":")[0] for title, _ in chosen] == [
        "Most improved", "Best", "Median change", "Median", "Least improved", "Worst",
    ]  # fmt: skip
    assert [case for _, case in chosen] == ["a", "c", "c", "d", "b", "e"]
    assert "0.500 \N{RIGHTWARDS ARROW} 0.700" in chosen[0][0]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_few_cases_are_enough(number: int) -> None:
    assert len(choose_cases(BEFORE[:number], AFTER[:number])) == (6 if number else 0)


def test_cases_without_any_structure_are_left_out() -> None:
    nan = float("nan")
    chosen = choose_cases([*BEFORE, Scored("f", nan)], [*AFTER, Scored("f", nan)])
    assert "f" not in {case for _, case in chosen}
