"""NIfTI volumes in and out: masks, images and probabilities, on exactly the grid they came on.

Inside the package a volume is (D, H, W): slices, rows, columns, with columns towards the patient's
left and rows towards posterior and inferior as far as the file's affine tells. Each volume keeps
the way back, so what is written has the header, affine, voxel sizes and axes of its model.
"""

import gzip
import os
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
from nibabel.orientations import aff2axcodes

from cardiac_vae.data.case import Spacing
from cardiac_vae.data.nifti_header import FileHeader, read_file
from cardiac_vae.labels import NUM_CLASSES, Structure

_LEFT = np.array([-1.0, 0.0, 0.0])
_DOWN = np.array([0.0, -1.0, -1.0])  # posterior in an axial plane, inferior in an upright one
_THICKER = 1.5  # a slice axis is at least this many times coarser than the others
_SUM_TOLERANCE = 1e-3
_SAME_DIRECTION_DEGREES = 0.5


@dataclass(frozen=True)
class CanonicalAxes:
    """The way from a file's axes (x, y, z) to (D, H, W) and back.

    Attributes:
        order: The file axis that becomes slices, rows, columns.
        is_flipped: Whether slices, rows, columns run against their file axis.
    """

    order: tuple[int, int, int]
    is_flipped: tuple[bool, bool, bool]

    def apply(self, voxels: np.ndarray) -> np.ndarray:
        """Turn (x, y, z, t) into (t, D, H, W), a contiguous copy."""
        return np.ascontiguousarray(self._flipped(voxels.transpose(3, *self.order)))

    def undo(self, frames: np.ndarray) -> np.ndarray:
        """Turn (t, D, H, W) into (x, y, z, t)."""
        back = np.argsort((3, *self.order))
        return self._flipped(frames).transpose(back)

    def _flipped(self, frames: np.ndarray) -> np.ndarray:
        axes = tuple(axis for axis, flip in enumerate(self.is_flipped, start=1) if flip)
        return np.flip(frames, axes)


@dataclass(frozen=True)
class NiftiVolume:
    """Voxels of one file on canonical axes, with all that is needed to go exactly back.

    Attributes:
        path: The file.
        frames: (T, D, H, W) voxels; T is 1 for a volume.
        spacing_mm: Voxel size along (slice, row, column), from pixdim.
        axes: The way to the file's axes.
        file: The file's header, with its raw bytes.
        is_mask: Whether the voxels are labels, in the dataset's own values.
    """

    path: Path
    frames: np.ndarray = field(repr=False)
    spacing_mm: Spacing
    axes: CanonicalAxes
    file: FileHeader = field(repr=False)
    is_mask: bool

    @property
    def is_cine(self) -> bool:
        """Return whether there is more than one frame."""
        return len(self.frames) > 1

    @property
    def affine(self) -> np.ndarray:
        """Return the (4, 4) affine of the file's own axes."""
        return self.file.affine

    @property
    def volume(self) -> np.ndarray:
        """Return the only frame (D, H, W).

        Raises:
            ValueError: if this is a cine.
        """
        if self.is_cine:
            raise ValueError(
                f"{self.path}: expected one 3-D volume, got a cine of {len(self.frames)} frames; "
                "extract the frame you mean"
            )
        return self.frames[0]


def read_mask(path: Path) -> NiftiVolume:
    """Read labels, still in the dataset's own values: uint8, or int16 where one is above 255.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no sound NIfTI volume, or a voxel is no whole number from 0 to 32767.
    """
    file, values = _read_values(path, np.float64)
    problem = _label_problem(values)
    if problem:
        raise ValueError(
            f"{path}: expected whole-number labels from 0 to {np.iinfo(np.int16).max}, "
            f"got {problem}; is this a mask, and not an image or a probability map?"
        )
    return _volume(path, file, values.astype(np.uint8 if values.max() <= 255 else np.int16), True)


def read_image(path: Path) -> NiftiVolume:
    """Read an image or a cine as float32.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no sound NIfTI volume, or an intensity is not finite.
    """
    file, values = _read_values(path, np.float32)
    if not np.isfinite(values).all():
        raise ValueError(
            f"{path}: expected finite intensities, got {_count(~np.isfinite(values))} that are NaN "
            "or infinite; replace them, for example by 0"
        )
    return _volume(path, file, values, False)


def read_probabilities(path: Path) -> tuple[np.ndarray, NiftiVolume]:
    """Read class probabilities, stored as (x, y, z, C) with channels in ``Structure`` order.

    Returns:
        (D, C, H, W) float32, and the most probable mask (``Structure`` values) with its geometry.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no sound NIfTI file, or not a distribution over the four classes.
    """
    file, values = _read_values(path, np.float32)
    names = ", ".join(structure.name.lower() for structure in Structure)
    expected = f"{path}: expected probabilities of {names} along a fourth axis of {NUM_CLASSES}"
    if file.shape[3] != NUM_CLASSES:
        raise ValueError(f"{expected}, got shape {file.shape}; export one channel per class")
    lowest, highest = values.min(), values.max()
    if not (lowest >= -_SUM_TOLERANCE and highest <= 1 + _SUM_TOLERANCE):
        raise ValueError(f"{expected}, got values from {lowest:g} to {highest:g}; apply softmax")
    sums = values.sum(axis=3)
    if np.abs(sums - 1).max() > _SUM_TOLERANCE:
        raise ValueError(
            f"{expected} that sum to 1, got sums from {sums.min():g} to {sums.max():g}; "
            "apply softmax over the classes"
        )
    frames = _volume(path, file, values.clip(0, 1), False)
    labels = frames.frames.argmax(axis=0).astype(np.uint8)[np.newaxis]
    geometry = NiftiVolume(path, labels, frames.spacing_mm, frames.axes, file, is_mask=False)
    return np.ascontiguousarray(frames.frames.swapaxes(0, 1)), geometry


def write_mask(path: Path, frames: np.ndarray, like: NiftiVolume) -> None:
    """Write labels on the grid of ``like``, with its header to the bit if ``like`` is a mask.

    Args:
        path: Ends in .nii or .nii.gz; replaced in one step if it exists.
        frames: (T, D, H, W) or (D, H, W) whole numbers, in the dataset's own values.
        like: A mask, whose type is kept, or an image, beside which the mask is uint8 or int16.

    Raises:
        ValueError: if the shape is not that of ``like``, a label does not fit the file's type, or
            the folder cannot be written to.
    """
    frames = _as_frames(path, frames, like)
    if like.is_mask:
        prefix, dtype, (slope, inter) = like.file.prefix, like.file.dtype, like.file.scaling
        stored = np.rint((frames.astype(np.float64) - inter) / slope)
    else:
        dtype = np.dtype(np.uint8 if frames.max(initial=0) <= 255 else np.int16)
        prefix, (slope, inter), stored = like.file.replaced(dtype), (1.0, 0.0), frames
        dtype = dtype.newbyteorder(like.file.header.endianness)
    voxels = stored.astype(dtype)
    if not np.array_equal(voxels * slope + inter, frames):
        raise ValueError(
            f"{path}: expected labels that fit the {dtype.name} voxels of {like.path}, got values "
            f"up to {frames.max()}; use smaller label values"
        )
    _write_file(path, prefix, like.axes.undo(voxels))


def write_image(path: Path, frames: np.ndarray, like: NiftiVolume) -> None:
    """Write (T, D, H, W) or (D, H, W) intensities as float32 on the grid of ``like``.

    Raises:
        ValueError: if the shape is not that of ``like`` or the folder cannot be written to.
    """
    dtype = np.dtype(np.float32).newbyteorder(like.file.header.endianness)
    voxels = _as_frames(path, frames, like).astype(dtype)
    _write_file(path, like.file.replaced(dtype), like.axes.undo(voxels))


def write_probabilities(path: Path, probabilities: np.ndarray, like: NiftiVolume) -> None:
    """Write (D, C, H, W) as float32 (x, y, z, C) on the grid of ``like``, a single volume.

    Raises:
        ValueError: if the shape is not that of ``like`` or the folder cannot be written to.
    """
    depth, height, width = like.volume.shape
    if probabilities.shape != (depth, NUM_CLASSES, height, width):
        raise ValueError(
            f"{path}: expected probabilities of shape {(depth, NUM_CLASSES, height, width)} for "
            f"the grid of {like.path}, got {probabilities.shape}"
        )
    dtype = np.dtype(np.float32).newbyteorder(like.file.header.endianness)
    voxels = like.axes.undo(probabilities.swapaxes(0, 1).astype(dtype))
    _write_file(path, like.file.replaced(dtype, channels=NUM_CLASSES), voxels)


def grid_difference(a: NiftiVolume, b: NiftiVolume) -> str | None:
    """Return one phrase that says how the grids differ, with both values; None if they agree."""
    shapes = [(*volume.file.shape[:3], len(volume.frames)) for volume in (a, b)]
    if shapes[0] != shapes[1]:
        num_axes = 3 if shapes[0][3] == shapes[1][3] == 1 else 4
        return f"shape {shapes[0][:num_axes]} against {shapes[1][:num_axes]}"
    spacings = [volume.file.spacing_mm for volume in (a, b)]
    if not np.allclose(spacings[0], spacings[1], rtol=1e-3, atol=0):
        first, second = (tuple(round(size, 4) for size in spacing) for spacing in spacings)
        return f"spacing {first} mm against {second} mm"
    codes = ["".join(aff2axcodes(volume.affine)) for volume in (a, b)]
    if codes[0] != codes[1]:
        return f"orientation {codes[0]} against {codes[1]}"
    cosines = (_directions(a.affine) * _directions(b.affine)).sum(axis=0)
    angle = float(np.degrees(np.arccos(cosines.clip(-1, 1))).max())
    if angle > _SAME_DIRECTION_DEGREES:
        return f"orientation {codes[0]}, turned by {angle:.1f} degrees"
    origins = [volume.affine[:3, 3] for volume in (a, b)]
    if np.abs(origins[0] - origins[1]).max() > 0.5 * min(spacings[0]):
        first, second = (np.round(origin, 2).tolist() for origin in origins)
        return f"position of the first voxel {first} mm against {second} mm"
    return None


def _read_values(path: Path, dtype: type[np.floating]) -> tuple[FileHeader, np.ndarray]:
    """Return the header and the true values (x, y, z, t)."""
    file, stored = read_file(path)
    slope, inter = file.scaling
    if (slope, inter) == (1.0, 0.0):
        return file, stored if stored.dtype.kind in "iu" and dtype is np.float64 else stored.astype(
            dtype
        )
    return file, (stored * slope + inter).astype(dtype)


def _label_problem(values: np.ndarray) -> str | None:
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            return f"{_count(~np.isfinite(values))} voxels that are NaN or infinite"
        fractional = values != np.rint(values)
        if fractional.any():
            return f"{_count(fractional)} fractional values such as {values[fractional][0]:g}"
    if values.min() < 0:
        return f"negative values down to {values.min():g}"
    if values.max() > np.iinfo(np.int16).max:
        return f"values up to {values.max():g}"
    return None


def _count(where: np.ndarray) -> int:
    return int(np.count_nonzero(where))


def _volume(path: Path, file: FileHeader, values: np.ndarray, is_mask: bool) -> NiftiVolume:
    axes = _canonical_axes(file)
    slices, rows, columns = (file.spacing_mm[axis] for axis in axes.order)
    frames = axes.apply(values)
    return NiftiVolume(path, frames, (slices, rows, columns), axes, file, is_mask)


def _canonical_axes(file: FileHeader) -> CanonicalAxes:
    coarsest = int(np.argmax(file.spacing_mm))
    others = [size for axis, size in enumerate(file.spacing_mm) if axis != coarsest]
    slices = coarsest if file.spacing_mm[coarsest] >= _THICKER * max(others) else 2
    x, y = (axis for axis in range(3) if axis != slices)
    directions = _directions(file.affine)

    def fit(choice: tuple[int, int, bool, bool]) -> float:
        rows, columns, flip_rows, flip_columns = choice
        down = directions[:, rows] @ _DOWN * (-1 if flip_rows else 1)
        left = directions[:, columns] @ _LEFT * (-1 if flip_columns else 1)
        return round(float(down + left), 6)  # ties go to the first choice: the file's own axes

    rows, columns, flip_rows, flip_columns = max(
        (
            (rows, columns, flip_rows, flip_columns)
            for rows, columns in ((y, x), (x, y))
            for flip_rows, flip_columns in product((False, True), repeat=2)
        ),
        key=fit,
    )
    return CanonicalAxes((slices, rows, columns), (False, flip_rows, flip_columns))


def _directions(affine: np.ndarray) -> np.ndarray:
    """Return (3, 3): the unit vector of each file axis in the world, as columns."""
    linear = affine[:3, :3]
    return linear / np.linalg.norm(linear, axis=0)


def _as_frames(path: Path, frames: np.ndarray, like: NiftiVolume) -> np.ndarray:
    if frames.shape == like.frames.shape[1:] and not like.is_cine:
        frames = frames[np.newaxis]
    if frames.shape != like.frames.shape:
        raise ValueError(
            f"{path}: expected the shape {like.frames.shape} of {like.path}, got {frames.shape}"
        )
    return frames


def _write_file(path: Path, prefix: bytes, voxels: np.ndarray) -> None:
    """Write beside ``path``, then rename: nobody ever sees half a file."""
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ValueError(f"{path}: expected a name that ends in .nii or .nii.gz; rename the output")
    content = prefix + voxels.tobytes(order="F")
    if path.name.endswith(".gz"):
        content = gzip.compress(content, compresslevel=6, mtime=0)  # same voxels, same bytes
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        raise ValueError(
            f"{path}: expected an output folder that can be written to, got "
            f"'{error.strerror}'; choose another folder"
        ) from None
    finally:
        with suppress(OSError):
            partial.unlink()
