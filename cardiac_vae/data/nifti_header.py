"""The part of a NIfTI file before its voxels, checked before any voxel is loaded.

Format: NIfTI-1 and NIfTI-2 in one file, plain or gzipped (https://nifti.nimh.nih.gov). The raw
bytes are kept, so that what is written with the same geometry has the same header to the bit.
"""

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError

MAX_VOXELS = 2**29
MAX_EXTENSION_BYTES = 2**24
# Deflate cannot do better (https://zlib.net/zlib_tech.html): a header that claims more is wrong.
MAX_GZIP_RATIO = 1032

_GZIP_MAGIC = b"\x1f\x8b"
_MILLIMETERS = {1: 1000.0, 3: 0.001}  # xyzt_units: 1 meters, 3 micrometers; else millimeters
_DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error)


@dataclass(frozen=True)
class FileHeader:
    """What a NIfTI file says about its voxels.

    Attributes:
        prefix: All bytes before the voxels: header and extensions.
        header: The same, parsed by nibabel; nothing in it is repaired.
        shape: (x, y, z, t) voxels along the file's axes; t is 1 for a volume.
        spacing_mm: Voxel size along the file's axes x, y, z, from pixdim, never from the affine.
        affine: (4, 4) voxel index to nibabel's world (right, anterior, superior).
        scaling: Slope and intercept from stored to true values; (1, 0) where there is none.
    """

    prefix: bytes
    header: Any
    shape: tuple[int, int, int, int]
    spacing_mm: tuple[float, float, float]
    affine: np.ndarray
    scaling: tuple[float, float]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type of the stored values, in the file's byte order."""
        return self.header.get_data_dtype()

    def replaced(self, dtype: np.dtype[Any], channels: int | None = None) -> bytes:
        """Return the prefix for unscaled voxels of ``dtype``; ``channels`` sets a fourth axis."""
        header = self.header.copy()
        header.set_data_dtype(dtype)
        header["scl_slope"], header["scl_inter"] = 1, 0
        header["cal_min"], header["cal_max"] = 0, 0  # the display window of other values
        if channels is not None:
            header["dim"][0], header["dim"][4] = 4, channels
            header["pixdim"][4] = 1
        block: bytes = header.binaryblock
        return block + self.prefix[len(block) :]


def read_file(path: Path) -> tuple[FileHeader, np.ndarray]:
    """Return the header and the stored voxels (x, y, z, t), unscaled.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no NIfTI volume, is cut short, or its header makes no sense; the sizes
            it claims are checked against the file's before memory is taken for them.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a NIfTI file, found none; check the path")
    is_gzip = _is_gzip(path)
    with gzip.open(path) if is_gzip else path.open("rb") as stream:
        try:
            header = _read_header(path, stream)
            num_bytes = math.prod(header.shape) * header.dtype.itemsize
            _check_size(path, header, num_bytes, is_gzip)
            data = stream.read(num_bytes)
            stream.read(1)  # past the end, where gzip compares its checksum
        except _DAMAGED as error:
            raise ValueError(
                f"{path}: expected a whole gzip file, got one that is truncated or damaged "
                f"({error}); copy or download it again"
            ) from None
    if len(data) < num_bytes:
        raise ValueError(_cut_short(path, header.shape, num_bytes, len(data)))
    return header, np.frombuffer(data, header.dtype).reshape(header.shape, order="F")


def _is_gzip(path: Path) -> bool:
    try:
        with path.open("rb") as raw:
            return raw.read(2) == _GZIP_MAGIC
    except PermissionError:
        raise ValueError(
            f"{path}: expected a file that can be read, got no permission; change its mode"
        ) from None


def _read_header(path: Path, stream: gzip.GzipFile | BufferedReader) -> FileHeader:
    block = stream.read(348)
    kind, order = _kind_of(path, block)
    if kind is Nifti2Header:
        block += stream.read(540 - 348)
        if len(block) < 540:
            raise ValueError(f"{path}: expected a NIfTI-2 header of 540 bytes, got {len(block)}")
    header = kind(block, endianness=order, check=False)
    shape = _shape_of(path, header)
    _check_dtype(path, header)
    offset = _offset_of(path, header)
    return FileHeader(
        prefix=block + stream.read(offset - len(block)),
        header=header,
        shape=shape,
        spacing_mm=_spacing_of(path, header),
        affine=_affine_of(path, header),
        scaling=_scaling_of(path, header),
    )


def _kind_of(path: Path, block: bytes) -> tuple[type, str]:
    """Return the nibabel class and the byte order ("<" or ">")."""
    for order in "<>" if len(block) == 348 else "":
        size = struct.unpack(order + "i", block[:4])[0]
        if size == 348 and block[344:348] == b"n+1\0":
            return Nifti1Header, order
        if size == 540 and block[4:12] == b"n+2\0\r\n\x1a\n":
            return Nifti2Header, order
        if size == 348 and block[344:348] == b"ni1\0":
            raise ValueError(
                f"{path}: expected one NIfTI file, got the header of a .hdr/.img pair; "
                "convert the pair to .nii.gz"
            )
    raise ValueError(
        f"{path}: expected a NIfTI file (.nii or .nii.gz), got other content; convert it to NIfTI"
    )


def _shape_of(path: Path, header: Any) -> tuple[int, int, int, int]:
    num_axes, *sizes = (int(size) for size in header["dim"])
    expected = f"{path}: expected a 3-D volume (x, y, slices) or a 4-D cine (x, y, slices, frames)"
    if not 1 <= num_axes <= 7 or min(sizes[:num_axes]) < 1:
        raise ValueError(f"{expected}, got a header with dim {[num_axes, *sizes]}; export it again")
    sizes = sizes[:num_axes]
    if num_axes < 3 or any(size > 1 for size in sizes[4:]):
        raise ValueError(
            f"{expected}, got a {num_axes}-D file of shape {tuple(sizes)}; "
            "export the whole stack of slices as one volume"
        )
    if math.prod(sizes) > MAX_VOXELS:
        raise ValueError(
            f"{path}: expected at most {MAX_VOXELS} voxels, got a header that claims "
            f"{' x '.join(map(str, sizes))}; the header is damaged, or crop the volume"
        )
    return sizes[0], sizes[1], sizes[2], sizes[3] if num_axes > 3 else 1


def _check_dtype(path: Path, header: Any) -> None:
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError):
        dtype = None
    if dtype is None or dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise ValueError(
            f"{path}: expected integer or real voxels of at most 64 bits, got NIfTI datatype "
            f"{int(header['datatype'])}; convert it, for example to int16 or float32"
        )


def _offset_of(path: Path, header: Any) -> int:
    offset, lowest = float(header["vox_offset"]), len(header.binaryblock) + 4
    if not lowest <= offset <= MAX_EXTENSION_BYTES or not offset.is_integer():
        raise ValueError(
            f"{path}: expected voxels from byte {lowest} on (vox_offset), got {offset:g}; "
            "export it again"
        )
    return int(offset)


def _spacing_of(path: Path, header: Any) -> tuple[float, float, float]:
    sizes = [abs(float(size)) for size in header["pixdim"][1:4]]
    if not all(math.isfinite(size) and size > 0 for size in sizes):
        raise ValueError(
            f"{path}: expected positive voxel sizes in mm (pixdim), got "
            f"{tuple(float(size) for size in header['pixdim'][1:4])}; "
            "set the true spacing in the header"
        )
    unit = _MILLIMETERS.get(int(header["xyzt_units"]) % 8, 1.0)
    x, y, z = (size * unit for size in sizes)
    return x, y, z


def _affine_of(path: Path, header: Any) -> np.ndarray:
    repaired = header.copy()
    if abs(float(repaired["pixdim"][0])) != 1:
        repaired["pixdim"][0] = 1  # the standard reads qfac 0 as 1; nibabel refuses it
    repaired["pixdim"][1:4] = np.abs(repaired["pixdim"][1:4])
    try:
        affine = np.asarray(repaired.get_best_affine(), np.float64)
        is_regular = bool(np.isfinite(affine).all() and np.linalg.det(affine[:3, :3]) != 0)
    except (HeaderDataError, ValueError):
        is_regular = False
    if not is_regular:
        raise ValueError(
            f"{path}: expected an invertible affine (sform or qform), got one that is not; "
            "export it again with its orientation"
        )
    return affine


def _scaling_of(path: Path, header: Any) -> tuple[float, float]:
    try:
        slope, inter = header.get_slope_inter()
    except HeaderDataError as error:
        raise ValueError(
            f"{path}: expected finite scl_slope and scl_inter, got {error}; export it again"
        ) from None
    return (1.0, 0.0) if slope is None else (float(slope), float(inter or 0.0))


def _check_size(path: Path, header: FileHeader, num_bytes: int, is_gzip: bool) -> None:
    on_disk = path.stat().st_size
    most = on_disk * MAX_GZIP_RATIO if is_gzip else on_disk - len(header.prefix)
    if num_bytes > most:
        raise ValueError(_cut_short(path, header.shape, num_bytes, most))


def _cut_short(path: Path, shape: tuple[int, ...], expected: int, got: int) -> str:
    return (
        f"{path}: expected {expected} bytes of voxels for shape {shape}, got at most "
        f"{max(got, 0)}; the file is truncated or its header damaged, copy or export it again"
    )
