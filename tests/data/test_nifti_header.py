import gzip
import struct
import tracemalloc

import numpy as np
import pytest

from cardiac_vae.data.nifti import read_image, read_mask

DIM, DATATYPE, PIXDIM, VOX_OFFSET, SCL_SLOPE, UNITS, SFORM_CODE, SROW_X = (
    40, 70, 76, 108, 112, 123, 254, 280,
)  # fmt: skip


@pytest.fixture
def good(tmp_path, save_nifti, toy_heart):
    return save_nifti(tmp_path / "mask.nii", toy_heart)


def patched(path, offset, layout, *values):
    content = bytearray(path.read_bytes())
    struct.pack_into("<" + layout, content, offset, *values)
    path.write_bytes(content)
    return path


def refusal(path):
    """Return the one line that refuses a file, which must name it."""
    with pytest.raises(ValueError, match="expected") as caught:
        read_mask(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: expected")
    return message


@pytest.mark.parametrize(
    ("offset", "layout", "values", "words"),
    [
        (DIM, "4h", (2, 60, 50, 1), "2-D file of shape (60, 50)"),
        (DIM, "4h", (0, 60, 50, 3), "dim"),
        (DIM, "4h", (3, 60, -50, 3), "dim"),
        (DIM, "6h", (5, 60, 25, 3, 1, 2), "5-D file"),
        (DIM, "4h", (3, 30000, 30000, 30000), "30000 x 30000 x 30000"),
        (DIM, "4h", (3, 600, 600, 600), "truncated"),
        (DATATYPE, "h", (32,), "datatype 32"),  # complex
        (DATATYPE, "h", (128,), "datatype 128"),  # RGB
        (DATATYPE, "h", (999,), "datatype 999"),
        (PIXDIM, "4f", (1, 1.5, 0, 10), "0.0"),
        (PIXDIM, "4f", (1, 1.5, np.nan, 10), "nan"),
        (PIXDIM, "4f", (1, 1.5, np.inf, 10), "inf"),
        (VOX_OFFSET, "f", (0,), "got 0"),
        (VOX_OFFSET, "f", (np.nan,), "nan"),
        (VOX_OFFSET, "f", (1e9,), "1e+09"),
        (SCL_SLOPE, "2f", (2, np.nan), "scl"),
        (SROW_X, "12f", (0,) * 12, "invertible affine"),
        (SROW_X, "f", (np.nan,), "invertible affine"),
        (344, "4s", (b"ni1\0",), ".hdr/.img pair"),
        (344, "4s", (b"\0\0\0\0",), "expected a NIfTI file"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused_in_one_line(good, offset, layout, values, words):
    assert words in refusal(patched(good, offset, layout, *values))


@pytest.mark.parametrize(
    "content", [b"", b"text", b"\0" * 1000, b"\x1f\x8b", gzip.compress(b"x", mtime=0)]
)
def test_other_content_is_no_nifti(tmp_path, content):
    path = tmp_path / "mask.nii.gz"
    path.write_bytes(content)
    refusal(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.nii: expected a NIfTI file, found none"):
        read_mask(tmp_path / "nothing.nii")


@pytest.mark.parametrize("is_gzip", [False, True])
@pytest.mark.parametrize("sizes", [(30000, 30000, 30000), (800, 800, 800)])
def test_absurd_sizes_are_refused_before_memory_is_taken(good, is_gzip, sizes):
    path = patched(good, DIM, "4h", 3, *sizes)
    if is_gzip:
        path.write_bytes(gzip.compress(path.read_bytes()))
    tracemalloc.start()
    refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize("kept", [0.5, 0.99])
@pytest.mark.parametrize("is_gzip", [False, True])
def test_a_truncated_file_is_refused(good, rng, kept, is_gzip):
    content = good.read_bytes()
    if is_gzip:
        noise = rng.integers(0, 4, 9000, dtype=np.uint8).tobytes()
        content = gzip.compress(content[:352] + noise)
    good.write_bytes(content[: int(kept * len(content))])
    assert "truncated" in refusal(good)


def test_a_gzip_file_without_its_checksum_or_with_a_flipped_bit_is_refused(good):
    content = gzip.compress(good.read_bytes())
    good.write_bytes(content[:-8])
    assert "truncated or damaged" in refusal(good)
    good.write_bytes(content[:-6] + bytes([content[-6] ^ 1]) + content[-5:])
    assert "truncated or damaged" in refusal(good)


def test_spacing_comes_from_pixdim_in_mm_whatever_the_affine_or_the_unit(good):
    assert read_mask(good).spacing_mm == (10.0, 1.5, 1.5)
    assert np.array_equal(read_mask(good).affine, np.diag([-1.0, -1, 1, 1]))
    patched(good, PIXDIM, "4f", 1, 1250, 1250, 8000)
    patched(good, UNITS, "b", 3)
    assert read_mask(good).spacing_mm == (8.0, 1.25, 1.25)
    patched(good, PIXDIM, "4f", 1, -0.0015, 0.0015, 0.008)
    patched(good, UNITS, "b", 1)
    assert np.allclose(read_mask(good).spacing_mm, (8.0, 1.5, 1.5))


def test_qfac_zero_is_read_as_one(good):
    patched(good, SFORM_CODE, "h", 0)
    patched(good, 252, "h", 1)
    with_one = read_mask(patched(good, PIXDIM, "f", 1)).affine
    assert np.array_equal(read_mask(patched(good, PIXDIM, "f", 0)).affine, with_one)


def test_scaling_is_applied(good):
    plain = read_mask(good).volume
    scaled = patched(good, SCL_SLOPE, "2f", 2, 1)
    assert np.array_equal(read_mask(scaled).volume, 2 * plain + 1)
    assert np.array_equal(read_image(scaled).volume, 2.0 * plain + 1)


def test_trailing_axes_of_one_are_a_volume(good):
    volume = read_mask(patched(good, DIM, "6h", 5, 60, 50, 3, 1, 1))
    assert not volume.is_cine
    assert volume.volume.shape == (3, 50, 60)
