"""Which hearts and codes the figures of a shape model show, where, and in which color."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from cardiac_vae.data.conditions import Condition
from cardiac_vae.evaluation.reconstruction import HeldOutSlices
from cardiac_vae.labels import Structure
from cardiac_vae.models import build_model
from cardiac_vae.reports import hearts, latent_maps, shape_pictures
from cardiac_vae.reports.hearts import HeartLine, hearts_on_demand, lines_of_hearts
from cardiac_vae.reports.latent_maps import latent_map
from cardiac_vae.reports.latent_pictures import _most_typical
from cardiac_vae.reports.shape_pictures import pictures_of
from cardiac_vae.reports.style import BETTER, INK, SAME, WORSE, colored
from cardiac_vae.shape_model import ShapeModel


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Return the figures that are drawn during a test, which are not written."""
    kept: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: kept.append(figure))
    return kept


@pytest.fixture
def slices() -> HeldOutSlices:
    """Return nine hearts (64, 64), each larger than the one before, an empty one amid them."""
    rows, columns = np.mgrid[:64, :64] - 31.5
    masks = np.zeros((10, 64, 64), np.uint8)
    distance = np.hypot(rows, columns)
    for index, radius in zip((0, 1, 2, 3, 5, 6, 7, 8, 9), np.arange(10, 19), strict=True):
        masks[index][distance < radius] = Structure.MYO
        masks[index][distance < 0.6 * radius] = Structure.LV
    conditions = [Condition("NOR", "ed", index / 9) for index in range(10)]
    return HeldOutSlices(masks, list("aaaaabbbbb"), list("aaaaabbbbb"), (1.5, 1.5), conditions)


def test_hearts_on_demand_lie_by_group_and_condition_and_what_is_broken_is_framed(
    drawn: list[Figure],
) -> None:
    hearts = {group: np.full((4, 8, 8), code, np.uint8) for code, group in ((1, "HCM"), (2, "NOR"))}
    hearts["NOR"][3] = 3
    validity = {"HCM": [True] * 4, "NOR": [True, True, True, False]}
    columns = {"end-diastole": ["base", "apex"], "end-systole": ["base", "apex"]}
    hearts_on_demand(hearts, validity, columns)
    blocks = [child for child in drawn[0].subfigs]
    panels = [[axes for axes in block.axes] for block in blocks]
    shown = [[[panel.images[0].get_array()[0, 0].tolist()] for panel in block] for block in panels]
    red, orange, green = (colored(np.array([[code]]))[0, 0].tolist() for code in (1, 2, 3))
    assert shown == [
        [[red], [red], [orange], [orange]],
        [[red], [red], [orange], [green]],
    ]
    assert [block.get_suptitle() for block in blocks] == list(columns)
    assert [panel.get_ylabel() for panel in panels[0]] == ["HCM", "", "NOR", ""]
    assert [panel.get_title(loc="center") for panel in panels[1]] == ["base", "apex", "", ""]
    framed = [[panel.get_frame_on() for panel in block] for block in panels]
    assert framed == [[False] * 4, [False, False, False, True]]


def test_lines_of_hearts_have_titles_before_and_names_above_them(drawn: list[Figure]) -> None:
    masks = np.arange(4, dtype=np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2)
    lines = [HeartLine("a", masks[:2], [True, False]), HeartLine("b", masks[2:], [True, True])]
    lines_of_hearts(lines, ["left", "right"])
    [panel] = drawn[0].axes
    image = np.asarray(panel.images[0].get_array())
    assert image.shape == (16, 16, 3)
    shown = image[4::8, 4::8].reshape(4, 3).tolist()
    assert shown == colored(np.arange(4)[None])[0].tolist()
    above, before = panel.xaxis, panel.yaxis
    assert [label.get_text() for label in above.get_ticklabels()] == ["left", "right"]
    assert above.get_ticklocs().tolist() == [4, 12]
    assert [label.get_text() for label in before.get_ticklabels()] == ["a", "b"]
    assert before.get_ticklocs().tolist() == [4, 12]
    [frame] = panel.patches
    (left, top), (right, bottom) = frame.get_bbox().get_points()
    assert 8 <= left < right <= 16
    assert 0 <= top < bottom <= 8


def lines_drawn(
    monkeypatch: pytest.MonkeyPatch, model: ShapeModel, slices: HeldOutSlices
) -> list[tuple[Sequence[HeartLine], Sequence[str]]]:
    """Return the lines and columns of the interpolations and of the traversals of a model."""
    found: list[Any] = []
    monkeypatch.setattr(hearts, "lines_of_hearts", lambda *given: found.append(given) or b"")
    pictures = pictures_of("a model", model, slices)
    names = [picture.name for picture in pictures]
    assert names[-3:] == ["interpolations", "traversals", "latent_map"]
    return found


@pytest.mark.usefixtures("undrawn")
def test_interpolations_lead_from_heart_to_heart(
    monkeypatch: pytest.MonkeyPatch, copying: ShapeModel, slices: HeldOutSlices
) -> None:
    (lines, columns), _ = lines_drawn(monkeypatch, copying, slices)
    shown = slices.without_empty().masks
    assert columns == ["expert", *columns[1:-1], "expert"]
    assert (columns[1], columns[-2]) == ("0 %", "100 %")
    assert len(lines) == 4
    for line, first, second in zip(lines, (0, 1, 2, 3), (5, 6, 7, 8), strict=True):
        assert (line.masks[:2] == shown[first]).all()
        assert (line.masks[-2:] == shown[second]).all()
        assert len(line.masks) == len(columns)
        sizes = (line.masks > 0).sum(axis=(1, 2))
        assert (np.diff(sizes) >= 0).all()


@pytest.mark.usefixtures("undrawn")
def test_traversals_start_at_the_slice_nearest_to_the_mean_and_hearts_grow_along_them(
    monkeypatch: pytest.MonkeyPatch, copying: ShapeModel, slices: HeldOutSlices
) -> None:
    _, (lines, columns) = lines_drawn(monkeypatch, copying, slices)
    minus = "\N{MINUS SIGN}"
    assert columns == [f"{minus}3 SD", f"{minus}2 SD", f"{minus}1 SD", "0 SD"] + [
        f"+{step} SD" for step in (1, 2, 3)
    ]
    assert [line.title for line in lines] == [f"direction {k}" for k in range(1, 7)]
    shown = slices.without_empty().masks
    [typical] = {tuple(np.flatnonzero((shown == line.masks[3]).all((1, 2)))) for line in lines}
    assert typical in [(3,), (4,), (5,)]
    sizes = (lines[0].masks > 0).sum(axis=(1, 2))
    assert (np.diff(sizes) >= 0).all()
    assert sizes[-1] > sizes[0]


def test_a_slice_that_shows_every_structure_is_the_typical_one() -> None:
    masks = np.zeros((5, 2, 8), np.uint8)
    masks[:, 0, :3] = Structure.LV  # as all others but for the RV of the last ones
    masks[:, 1, :3] = Structure.MYO
    assert _most_typical(masks) == 0
    for length, mask in zip((5, 2, 1), masks[2:], strict=True):
        mask[1, 3 : 3 + length] = Structure.RV
    assert _most_typical(masks) == 3


@pytest.mark.usefixtures("undrawn")
def test_the_groups_of_a_hierarchy_share_the_lines(
    monkeypatch: pytest.MonkeyPatch, slices: HeldOutSlices
) -> None:
    torch.manual_seed(0)
    settings = {"image_size": 64, "channels": [4, 4], "groups": [2, 1], "group_width": 4}
    model = build_model("lvae", settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    _, (lines, _) = lines_drawn(monkeypatch, model.eval(), slices)
    assert [line.title for line in lines] == [f"group {group}" for group in (1, 1, 2, 2, 3, 3)]


@pytest.mark.usefixtures("undrawn")
def test_the_map_knows_which_slice_a_point_is(
    monkeypatch: pytest.MonkeyPatch, copying: ShapeModel, slices: HeldOutSlices
) -> None:
    found: list[Any] = []
    monkeypatch.setattr(latent_maps, "latent_map", lambda *given: found.append(given) or b"")
    monkeypatch.setattr(shape_pictures, "_LARGEST_COHORT", 5)
    pictures_of("copy", copying, slices)
    [(points, shares, conditions)] = found
    assert [condition.position for condition in conditions] == [0, 2 / 9, 5 / 9, 7 / 9, 1]
    steps = np.diff(points[:, 0])  # hearts grow from slice to slice
    assert (steps > 0).all() or (steps < 0).all()
    assert 0 < shares[1] < shares[0] < 1


def test_points_have_the_color_of_their_slice(drawn: list[Figure]) -> None:
    conditions = [
        Condition("HCM", "es", 0.25),
        Condition("NOR", "ed", None),
        Condition("", "", 1.0),
        Condition("HCM", "ed", 0.0),
        Condition("other", "es", 0.5),
    ]
    points = np.arange(10.0).reshape(5, 2)
    latent_map(points, (0.5, 0.25), conditions)
    by_group, by_phase, by_position = drawn[0].axes

    def kinds(panel: Any) -> dict[str, tuple[str, list[int]]]:
        return {
            dots.get_label(): (
                to_hex(dots.get_facecolor()[0]).upper(),
                [int(x) // 2 for x, _ in dots.get_offsets()],
            )
            for dots in panel.collections
        }

    assert kinds(by_group) == {
        "unknown": (SAME, [2]),
        "NOR": (INK, [1]),
        "HCM": (BETTER, [0, 3]),
        "other": (WORSE, [4]),
    }
    assert kinds(by_phase) == {
        "unknown": (SAME, [2]),
        "end-diastole": (BETTER, [1, 3]),
        "end-systole": (WORSE, [0, 4]),
    }
    unknown, known = by_position.collections
    assert [int(x) // 2 for x, _ in unknown.get_offsets()] == [1]
    assert [int(x) // 2 for x, _ in known.get_offsets()] == [0, 2, 3, 4]
    assert known.get_array().tolist() == [0.25, 1.0, 0.0, 0.5]
    assert by_group.get_xlabel() == "component 1 (50 %)"
    assert by_group.get_ylabel() == "component 2 (25 %)"


@pytest.mark.usefixtures("undrawn")
def test_a_model_whose_codes_stand_still_has_neither_directions_nor_map(
    slices: HeldOutSlices,
) -> None:
    torch.manual_seed(0)
    model = build_model("ae", {"image_size": 64, "channels": [4], "latent_dim": 2}).eval()
    with torch.no_grad():
        model.encoder[-1].weight.zero_()  # type: ignore[index, union-attr]
    names = [picture.name for picture in pictures_of("still", model, slices)]
    assert names == ["reconstructions", "interpolations"]
