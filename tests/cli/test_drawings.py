"""``segment`` over hearts: scans drawn once, told apart by their LV, at most two held."""

import weakref

import nibabel as nib
import numpy as np
import pytest

from cardiac_vae.cli.drawings import Drawings
from cardiac_vae.data.nifti import read_image
from cardiac_vae.labels import Phase, Structure
from cardiac_vae.segmentation.inference import Segmenter

SLICE_ML = 193 * 1.5 * 1.5 * 8 / 1000  # of the LV of the heart of discs


class Network:
    """A segmenter that sees structures where the scan is 1, 2 or 3.

    It records how many slices hold an LV in each scan that it is shown, and how many of the
    probabilities that it gave before are still held then.
    """

    def __init__(self):
        self.shown, self.held, self._given = [], [], []

    def predict(self, image, spacing_mm):
        self.held.append(sum(given() is not None for given in self._given))
        self.shown.append(int((image == Structure.LV).any(axis=(1, 2)).sum()))
        seen = np.moveaxis(np.eye(4, dtype=np.float32)[image.astype(int)], 3, 1)
        probabilities = 0.9 * seen + 0.025
        self._given.append(weakref.ref(probabilities))
        return probabilities


@pytest.fixture
def network(monkeypatch):
    """Return the network that stands in for every segmenter's."""
    network = Network()
    monkeypatch.setattr(Segmenter, "predict", lambda _, *arguments: network.predict(*arguments))
    return network


@pytest.fixture
def write(heart, write_nifti):
    """Return a writer of the scan of a heart whose LV is in so many slices."""

    def written(name, num_slices):
        scan = heart.astype(np.int16)
        scan[num_slices:] = 0
        return write_nifti(f"scans/{name}.nii.gz", scan)

    return written


@pytest.fixture
def segment(run, network, told, tiny_segmenter, tiny_model, tmp_path):
    """Return ``cardiac-vae segment`` of the scans, with the phase that each was refined at."""

    def invoke(*arguments):
        told.clear()
        command = ("--segmenter", tiny_segmenter, "--model", tiny_model, "-o", tmp_path / "out")
        return run("segment", tmp_path / "scans", *command, *arguments), list(told)

    return invoke


def test_a_pair_is_told_by_the_lv_that_was_drawn_and_drawn_once(segment, write, network, tmp_path):
    for name, size in (("a_frame1", 2), ("a_frame2", 4), ("b", 3), ("c_frame7", 3)):
        write(name, size)
    result, told = segment()
    assert result.exit_code == 0, result.output
    assert told == [Phase.ES, Phase.ED, None, None]
    assert network.shown == [2, 4, 3, 3]
    names = [line.split()[0] for line in result.stdout.splitlines()[1:-1]]
    assert names == ["a_frame1.nii.gz", "a_frame2.nii.gz", "b.nii.gz", "c_frame7.nii.gz"]
    for name in names:
        masks = nib.load(tmp_path / "out" / name), nib.load(tmp_path / "scans" / name)
        np.testing.assert_array_equal(*(mask.get_fdata() for mask in masks))


def test_the_option_comes_before_the_lv_and_a_name_before_the_option(segment, write):
    for name, size in (("a_frame1", 2), ("a_frame2", 4), ("b_ED", 2), ("b_ES", 4)):
        write(name, size)
    assert segment()[1] == [Phase.ES, Phase.ED, Phase.ED, Phase.ES]
    assert segment("--phase", "ed", "--overwrite")[1] == [Phase.ED, Phase.ED, Phase.ED, Phase.ES]


@pytest.mark.parametrize("broken", ["a_frame1", "a_frame2"])
def test_a_broken_scan_leaves_its_partner_without_a_phase(segment, write, network, broken):
    for name, size in (("a_frame1", 2), ("a_frame2", 4), ("b_frame1", 4), ("b_frame2", 3)):
        path = write(name, size)
        if name == broken:
            path.write_bytes(b"no NIfTI")
    result, told = segment()
    assert result.exit_code == 2
    assert told == [None, Phase.ED, Phase.ES]
    assert [line for line in result.stderr.splitlines() if "error" in line] == [
        line for line in result.stderr.splitlines() if f"{broken}.nii.gz: expected a NIfTI" in line
    ]
    assert "3 unchanged, 1 failed" in result.stdout
    assert len(network.shown) == 3


def test_a_cine_is_not_compared(segment, write, write_nifti, heart, network):
    write("a_frame1", 2)
    write_nifti("scans/a_frame2.nii.gz", np.stack([heart.astype(np.int16)] * 3))
    result, told = segment()
    assert result.exit_code == 0, result.output
    assert told == [None] * 4
    assert network.shown == [2, 4, 4, 4]


def test_one_pair_is_held_at_a_time(segment, write, network):
    for number in range(5):
        for frame in (1, 2):
            write(f"p{number}_frame{frame}", frame + 1)
    assert segment()[1] == [Phase.ES, Phase.ED] * 5
    assert network.shown == [2, 3] * 5
    assert network.held == [0, 1] * 5


def test_hearts_that_take_turns_are_told_apart_and_a_pair_is_held(segment, write, network):
    for frame in (1, 2):
        for number in range(5):
            write(f"frame{frame}_p{number}", frame + 1)
    assert segment()[1] == [Phase.ES] * 5 + [Phase.ED] * 5
    assert max(network.held) == 1


def test_many_frames_of_a_heart_are_told_apart_and_two_kept(segment, write, network):
    for frame, size in enumerate((3, 4, 2, 1, 3)):
        write(f"a_frame{frame}", size)
    assert segment()[1] == [None, Phase.ED, None, Phase.ES, None]
    assert max(network.held) == 2
    assert network.shown == [3, 4, 2, 1, 3, *(3, 4, 2)]


def test_what_is_kept_is_what_would_be_drawn(write, network):
    paths = [write(f"a_frame{number}", number) for number in (1, 2, 3)]
    drawings = Drawings(network)
    assert [drawings.lv_ml(path) for path in paths] == pytest.approx(
        [SLICE_ML, 2 * SLICE_ML, 3 * SLICE_ML]
    )
    for path, num_drawn in zip(paths, (4, 4, 4), strict=True):
        scan = read_image(path)
        (taken,) = drawings.take(scan)
        assert len(network.shown) == num_drawn
        np.testing.assert_array_equal(taken, network.__class__().predict(scan.volume, None))
    with pytest.raises(FileNotFoundError):
        drawings.lv_ml(paths[0].with_name("none.nii.gz"))


def test_without_refining_nothing_is_compared(segment, write, network):
    write("a_frame1", 2)
    write("a_frame2", 4)
    result, told = segment("--no-refine")
    assert result.exit_code == 0, result.output
    assert told == []
    assert network.held == [0, 0]
