"""Which slice and field of a case is shown, and that equal numbers give equal figures."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from cardiac_vae.labels import HEART
from cardiac_vae.reports.figures import kl_per_group
from cardiac_vae.reports.pictures import PicturedCase
from cardiac_vae.reports.style import COLORS, as_data_uri, colored


def pictured() -> PicturedCase:
    mask = np.zeros((3, 60, 80), np.uint8)
    mask[:, 20:40, 30:50] = 2
    mask[:, 25:35, 35:45] = 3
    image = np.zeros(mask.shape, np.float32)
    return PicturedCase("case", image, mask, mask.copy(), mask.copy(), (10.0, 2.0, 2.0))


def test_the_slice_that_changed_most_is_shown() -> None:
    case = pictured()
    refined = case.refined.copy()
    refined[1, 20:22, 30:50] = 0
    refined[2, 20, 30:50] = 0
    assert replace(case, refined=refined).shown_slice() == 1
    # Nothing changed: the slice the expert disputes most.
    wrong = case.reference.copy()
    wrong[2] = 0
    assert replace(case, segmenter=wrong, refined=wrong).shown_slice() == 2


def test_the_field_is_the_heart_with_a_margin_whatever_lies_far_off() -> None:
    case = pictured()
    rows, columns = case.field()
    assert (rows.start, rows.stop, columns.start, columns.stop) == (11, 49, 21, 59)
    far = case.segmenter.copy()
    far[0, 0, 79] = 1
    assert replace(case, segmenter=far).field() == (rows, columns)


def test_a_case_without_a_heart_is_shown_whole() -> None:
    case = pictured()
    empty = np.zeros_like(case.reference)
    alone = replace(case, reference=empty, segmenter=empty, refined=empty)
    assert alone.field() == (slice(0, 60), slice(0, 80))


def test_each_structure_has_its_color_and_the_rest_is_white() -> None:
    image = colored(np.array([[0, *map(int, HEART)]]))
    assert image.shape == (1, 4, 3)
    assert image[0, 0].tolist() == [1, 1, 1]
    assert len({tuple(pixel) for pixel in image[0].tolist()}) == 4
    assert len(set(COLORS.values())) == 3


def test_recipes_of_one_group_share_a_panel_and_the_others_lie_in_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = [{"mean": 20.0, "low": 18.0, "high": 23.0}]
    several = [{"mean": -3.0, "low": -4.0, "high": None}, *one]
    groups = {name: one for name in ("vae", "cvae")} | {f"nvae_{i}": several for i in range(6)}
    kept: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: kept.append(figure))
    kl_per_group(groups)
    first, second = kept[0].subfigs
    (shared,) = first.axes
    assert [tick.get_text() for tick in shared.get_xticklabels()] == ["vae", "cvae"]
    shown = [axes for axes in second.axes if axes.get_visible()]
    titles = [axes.get_title(loc="left") for axes in shown]
    assert titles == [f"nvae_{i}: 17 nats" for i in range(6)]
    places = [axes.get_subplotspec() for axes in shown]
    assert [(place.rowspan.start, place.colspan.start) for place in places] == [
        (index // 4, index % 4) for index in range(6)
    ]
    # A negative estimate is in sight.
    for axes in shown:
        assert axes.get_ylim()[0] < -4
        assert [bar.get_height() for bar in axes.patches] == [-3, 20]


@pytest.mark.parametrize("number", [1, 2])
def test_groups_of_one_kind_alone_are_one_panel(number: int) -> None:
    group = {"mean": 20.0, "low": 18.0, "high": 23.0}
    assert kl_per_group({"vae": [group] * number}).startswith(b"\x89PNG")


def test_the_same_numbers_give_the_same_bytes() -> None:
    groups: Mapping[str, list[dict[str, float]]] = {
        "vae": [{"mean": 20.0, "low": 18.0, "high": 23.0}]
    }
    first = kl_per_group(groups)
    assert first == kl_per_group(groups)
    assert as_data_uri(first).startswith("data:image/png;base64,iVBOR")
