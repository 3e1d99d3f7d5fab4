"""A value is emphasized only where it is more than chance."""

import pytest

from cardiac_vae.reports.tables import (
    Column,
    Group,
    Row,
    interval,
    metric_table,
    number,
    plain_table,
    verdict,
)

DICE = Column("dice", "Dice")
HD95 = Column("hd95", "HD95", "mm", 1, is_lower_better=True)


def values(mean: float, low: float, high: float) -> dict[str, float]:
    return {"mean": mean, "low": low, "high": high, "n": 8}


def table(column: Column, first: float, second: float, low: float, high: float) -> str:
    change = values(second - first, low, high)
    rows = [
        Row("Segmenter", {column.metric: values(first, first - 1, first + 1)}),
        Row(
            "Refined",
            {column.metric: values(second, second - 1, second + 1)},
            {column.metric: change},
        ),
    ]
    return metric_table([Group("Clean", rows, [column])])


def test_a_better_value_is_emphasized_if_its_interval_excludes_zero() -> None:
    assert "<b>0.900</b>" in table(DICE, 0.8, 0.9, 0.02, 0.2)
    assert "<b>" not in table(DICE, 0.8, 0.9, -0.02, 0.2)
    assert "<b>3.0</b>" in table(HD95, 5.0, 3.0, -3.0, -0.5)
    assert "<b>" not in table(HD95, 5.0, 3.0, -3.0, 0.5)


def test_the_reference_is_emphasized_if_all_others_are_worse() -> None:
    assert "<b>0.900</b>" in table(DICE, 0.9, 0.8, -0.2, -0.02)
    assert "<b>5.0</b>" in table(HD95, 5.0, 6.0, 0.5, 3.0)
    assert "<b>" not in table(HD95, 5.0, 6.0, -0.5, 3.0)


@pytest.mark.parametrize(
    ("low", "high", "higher_is_better", "lower_is_better"),
    [(0.1, 0.3, 1, -1), (-0.3, -0.1, -1, 1), (-0.1, 0.3, 0, 0), (0.0, 0.3, 0, 0)],
)
def test_verdicts(low: float, high: float, higher_is_better: int, lower_is_better: int) -> None:
    difference = values(0.0, low, high)
    assert verdict(difference, is_lower_better=False) == higher_is_better
    assert verdict(difference, is_lower_better=True) == lower_is_better
    assert verdict(None, is_lower_better=True) == 0
    one_patient = {"mean": 0.2, "low": None, "high": None, "n": 1}
    assert verdict(one_patient, is_lower_better=False) == 0


def test_numbers_have_a_true_minus_and_no_negative_zero() -> None:
    assert number(-1.26, 1) == "\N{MINUS SIGN}1.3"
    assert number(-0.001, 1) == "0.0"
    assert number(0.0004, 3, sign=True) == "0.000"
    assert number(0.125, 1, 100, sign=True) == "+12.5"
    assert number(None, 1) == "\N{EN DASH}"
    assert interval(values(0.5, 0.25, 0.75), 0, 100) == "50 [25, 75]"


def test_texts_are_escaped() -> None:
    assert "<td class='number'>a &lt; b</td>" in plain_table(["", "x"], [["k", "a < b"]])
    rows = [Row("<script>", {"dice": values(0.5, 0.4, 0.6)})]
    assert "&lt;script&gt;" in metric_table([Group("Clean", rows, [DICE])])
