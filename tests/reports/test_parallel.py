"""Each line of the parallel coordinates is where its numbers are, and every name can be read."""

import re
from itertools import pairwise

import numpy as np
import pytest
from ladder_of import FAMILIES, interval, ladder
from matplotlib.figure import Figure

from cardiac_vae.reports.parallel import AXES, parallel_coordinates, spread, view
from cardiac_vae.reports.rungs import FAMILY_COLORS, Rung
from cardiac_vae.reports.shape_scores import measure

DICE, ELBO = measure("metrics/dice_mean"), measure("metrics/negative_elbo")


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    return figures


def test_places_are_spread_in_order_and_only_as_far_as_needed() -> None:
    assert spread([0.1, 0.5, 0.9], 0.1) == [0.1, 0.5, 0.9]
    np.testing.assert_allclose(spread([0.5, 0.5], 0.1), [0.45, 0.55])
    # Two blocks that meet become one, around the mean of all.
    np.testing.assert_allclose(
        spread([0.0, 0.01, 0.12, 0.13], 0.1), 0.065 + 0.1 * np.arange(-1.5, 2)
    )
    rng = np.random.default_rng(0)
    places = rng.random(19)
    found = np.array(spread(places.tolist(), 0.05))
    order = np.argsort(places)
    assert (np.diff(found[order]) > 0.05 - 1e-9).all()
    assert found.mean() == pytest.approx(places.mean())
    assert spread([], 0.1) == []


def test_better_is_up_whichever_way_the_numbers_run(kept: list[Figure]) -> None:
    found = [rung for rung in ladder() if rung.name in ("vae", "lvae", "nvae")]
    parallel_coordinates(found, [ELBO, DICE])
    axes = kept[0].axes[0]
    dots = [
        line for line in axes.lines if line.get_linestyle() == "None" and len(line.get_xdata()) == 2
    ]
    heights = {line.get_color(): line.get_ydata().tolist() for line in dots}
    ranks = {name: list(FAMILIES).index(name) for name in ("vae", "lvae", "nvae")}
    for name, rank in ranks.items():
        share = (rank - ranks["vae"]) / (ranks["nvae"] - ranks["vae"])
        np.testing.assert_allclose(heights[FAMILY_COLORS[name]], [share, share])
    texts = [text.get_text() for text in axes.texts]
    assert texts[:2] == ["270.0", "370.0"]  # the best above, the worst below


def test_a_mean_far_worse_than_all_others_stands_below_the_axis(kept: list[Figure]) -> None:
    found = [rung for rung in ladder() if rung.family in ("vae", "hvae", "lvae", "nvae")]
    parallel_coordinates(found, [ELBO, DICE])
    far = dict(found[0].scores)
    far["metrics"] = {**far["metrics"], "negative_elbo": interval(7526.0, 10.0)}
    parallel_coordinates([Rung("far", far, "vae"), *found], [ELBO, DICE])
    before, after = (
        [line.get_ydata()[0] for line in axes.lines if line.get_marker() not in ("None", "d", "")]
        for axes in (figure.axes[0] for figure in kept)
    )
    assert min(before) >= 0 > min(after)
    assert sum(height < 0 for height in after) == 1
    texts = [[text.get_text() for text in figure.axes[0].texts] for figure in kept]
    assert "\N{DOWNWARDS ARROW} 7526.0" in texts[1]
    assert texts[1][:2] == texts[0][:2]  # the ends of the axis are where they were


def test_real_hearts_are_on_the_axis_that_they_have(kept: list[Figure]) -> None:
    coverage = measure("generation/metrics/coverage")
    parallel_coordinates([rung for rung in ladder() if rung.family == "nvae"], [coverage, DICE])
    axes = kept[0].axes[0]
    diamonds = [line for line in axes.lines if line.get_marker() == "d"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in diamonds] == [(0, 1)]
    assert "95.0" in [text.get_text() for text in axes.texts]


def test_a_gap_is_dotted_and_a_conditional_bound_leaves_one(kept: list[Figure]) -> None:
    valid = measure("metrics/valid_reconstructions")
    parallel_coordinates(ladder(), [valid, ELBO, DICE])
    lines = kept[0].axes[0].lines
    dotted = [line.get_color() for line in lines if line.get_linestyle() == ":"]
    wanted = [FAMILY_COLORS[family] for family in ("pca", "ae", "ae", "cvae")]
    assert dotted == wanted


def test_all_names_of_nineteen_recipes_stand_apart(kept: list[Figure]) -> None:
    parallel_coordinates(ladder(), AXES)
    drawn = kept[0]
    drawn.draw_without_rendering()
    names = [text for text in drawn.axes[0].texts if text.get_text() in FAMILIES]
    assert [text.get_text() for text in names] == list(FAMILIES)
    boxes = sorted((text.get_window_extent() for text in names), key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 + 1 for low, high in pairwise(boxes))
    whole = drawn.bbox
    assert all(box.x1 < whole.x1 and whole.y0 < box.y0 and box.y1 < whole.y1 for box in boxes)


def test_the_view_names_each_axis_as_mlflow_does() -> None:
    shown = "".join(view(ladder()))
    found = re.findall(r"<td class='label'>(shape_model/[\w/.]+)/mean</td>", shown)
    assert found == [f"shape_model/{axis.path}" for axis in AXES]
    assert "better" in shown or "best (above)" in shown


def test_too_few_lines_are_no_view() -> None:
    assert view(ladder()[:2]) == []
    few = ladder()[:3]  # of which one alone has a prior: the axes of priors are left out
    assert "valid_samples" not in "".join(view(few))


def test_an_axis_without_differences_has_all_in_the_middle(kept: list[Figure]) -> None:
    found = ladder()[:3]
    for rung in found:
        rung.scores["metrics"]["dice_mean"] = interval(0.9)
    parallel_coordinates(found, [DICE, DICE])
    dots = [line for line in kept[0].axes[0].lines if line.get_linestyle() == "None"]
    assert {height for line in dots for height in line.get_ydata()} == {0.5}
