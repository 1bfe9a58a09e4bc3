"""Where the voxels of a NIfTI file lie, in mm: its header may say it in two forms, which may contradict each
other.

The sform is a whole matrix; the qform is a rotation whose voxel size is `pixdim`. Each has a code, and code 0
means "not given". Programs choose between the two in different ways: nibabel takes the sform, ITK (so
ITK-SNAP, 3D Slicer, ANTs and nnU-Net) takes the voxel size from pixdim whatever the sform says.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from csam_lite.common.errors import InputError

if TYPE_CHECKING:
    from nibabel import Nifti1Header

SMALLEST, LARGEST = 0.01, 100.0  # mm, the side of a voxel that we believe
TOLERANCE = 0.03                 # by how much (relative) the sform's voxel size may differ from pixdim
ROUNDING = 0.1                   # mm by which two grids may lie apart and be one; of small voxels, half
SHEAR = 1.0                      # degrees by which axes may miss the right angle without a remark
_MILLIMETRES = {
    1: 1000.0,
    3: 0.001,
}  # of one unit, by NIfTI's codes for metre and micron; all else counts as mm


@dataclass(frozen=True)
class Geometry:
    """The grid of a file.

    header: the header as stored, which `like` copies. affine: voxel to world, mm, (4, 4), the form that is
    believed. shape: of the volume, (X, Y, Z). forms: every affine in mm by which some program may place these
    voxels. remarks: what a reader should know about the choice, whole sentences without the file's name.
    """

    header: Nifti1Header
    affine: np.ndarray
    shape: tuple[int, ...]
    forms: tuple[np.ndarray, ...]
    remarks: tuple[str, ...] = ()


@np.errstate(all="ignore")  # NIfTI-2 holds numbers whose squares overflow; the checks find them
def geometry_of(header: Nifti1Header, path: Path) -> Geometry:
    """The geometry of a header. Of two forms that contradict each other, the believable one is taken, with a
    remark.

    Raises InputError where no form can be believed, or where a voxel is smaller than 0.01 mm or larger than
    100 mm.
    """
    shape = tuple(int(n) for n in header.get_data_shape()[:3])
    unit = _MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    sizes = np.abs(header["pixdim"][1:4].astype(float))
    has_sizes = bool(np.isfinite(sizes).all() and (sizes > 0).all())
    sform = _valid(header.get_sform()) if header["sform_code"] > 0 else None
    qform = _qform(header, sizes) if header["qform_code"] > 0 and has_sizes else None
    broken = [name for name, form in (("sform", sform), ("qform", qform))
              if header[f"{name}_code"] > 0 and form is None]
    affine, remarks = _believed(sform, qform, sizes, has_sizes, shape, broken, path)
    if unit != 1:
        remarks.append(f"Its unit is the {'metre' if unit > 1 else 'micron'}; lengths were converted to mm.")
    forms = [affine, sform, qform]
    if has_sizes and sform is not None:  # ITK's choice: directions of the sform, sizes of pixdim
        forms.append(_with_sizes(sform, sizes))
    if has_sizes and sform is None and qform is None:  # the standard's way without orientation, and ITK's
        forms += [np.diag([*sizes, 1.0]), np.diag([-sizes[0], -sizes[1], sizes[2], 1.0])]
    to_mm = np.diag([unit, unit, unit, 1.0])
    forms = tuple(to_mm @ form for form in forms if form is not None)
    spacing = voxel_size(forms[0])
    if not ((spacing >= SMALLEST) & (spacing <= LARGEST)).all():
        raise InputError(
            f"{path}: its header gives voxels of {_product(spacing)} mm, which cannot be right; "
            "correct the voxel size (pixdim, sform) or its unit (xyzt_units), or export it again"
        )
    if (shear := _shear(forms[0])) > SHEAR:
        remarks.append(f"Its axes miss the right angle by up to {shear:.4g} degrees, as after a scan with a "
                       "tilted gantry; distances and volumes are measured as if they did not.")
    return Geometry(header, forms[0], shape, forms, tuple(remarks))


def like(geometry: Geometry, array: np.ndarray, zipped: bool = False) -> bytes:
    """A NIfTI file of array, (X, Y, Z) or (X, Y, Z, C), that opens where the file of `geometry` opens, in
    every program.

    It carries the file's own header: qform, sform, codes, units, byte order and version, also where they are
    wrong, because nibabel would correct them, and another program would then place the two files differently.
    What describes the intensities of the file (scaling, display range, intent, extensions) is left out.
    zipped: compressed, for a name that ends in .gz, without a time, so that equal arrays give equal files.
    """
    import nibabel

    stored = geometry.header
    kind = nibabel.Nifti2Header if stored.sizeof_hdr == 540 else nibabel.Nifti1Header
    header = kind(stored.binaryblock, stored.endianness, check=False)
    header["cal_min"] = header["cal_max"] = 0
    header["intent_p1"] = header["intent_p2"] = header["intent_p3"] = header["intent_code"] = 0
    header["intent_name"] = b""
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header["pixdim"][array.ndim + 1:] = 1
    header.set_slope_inter(1, 0)
    header["magic"] = kind().default_structarr()["magic"]
    header["vox_offset"] = stored.sizeof_hdr + 4
    voxels = array.astype(array.dtype.newbyteorder(stored.endianness)).tobytes("F")
    content = header.binaryblock + bytes(4) + voxels  # four zeros: no extensions
    return gzip.compress(content, 1, mtime=0) if zipped else content


@np.errstate(all="ignore")
def same_place(geometry: Geometry, other: Geometry) -> tuple[bool, float]:
    """Whether the grid of `geometry` (a mask) is one by which some program places the voxels of `other` (its
    image).

    The shapes must agree. Also returns how far apart the corners lie at most, in mm, for the grids that are
    believed: up to 0.1 mm, but less than half a voxel, is rounding.
    """
    corners = np.array([[x, y, z, 1] for x in (0, other.shape[0]) for y in (0, other.shape[1])
                        for z in (0, other.shape[2])])
    apart = [float(np.abs((geometry.affine - form) @ corners.T).max()) for form in other.forms]
    return min(apart) <= min(ROUNDING, voxel_size(other.affine).min() / 2), apart[0]


def voxel_size(affine: np.ndarray) -> np.ndarray:
    """Length of a step along each voxel axis, (3,), in the affine's unit."""
    return np.sqrt((affine[:3, :3] ** 2).sum(0))


def _shear(affine: np.ndarray) -> float:
    """By how many degrees two voxel axes miss the right angle, at most."""
    directions = affine[:3, :3] / voxel_size(affine)
    cosines = (directions.T @ directions)[np.triu_indices(3, 1)]
    return float(np.degrees(np.arcsin(np.abs(cosines).max().clip(max=1))))


def _believed(sform: np.ndarray | None, qform: np.ndarray | None, sizes: np.ndarray, has_sizes: bool,
              shape: tuple[int, ...], broken: list[str], path: Path) -> tuple[np.ndarray, list[str]]:
    """The form that is believed, in the file's unit, and the remarks on it. broken: the forms that are given
    but place nothing."""
    if sform is None and qform is None:
        if not has_sizes:
            raise InputError(f"{path}: its affine gives no valid voxel size (pixdim {_product(sizes)}); "
                             "export it again with its geometry")
        if broken:
            raise InputError(f"{path}: its {' and its '.join(broken)} gives no place to its voxels (numbers "
                             "that are not finite, or axes that do not span the space); export it again with "
                             "its geometry")
        base = np.diag([-sizes[0], sizes[1], sizes[2], 1.0])
        base[:3, 3] = -base[:3, :3] @ ((np.array(shape) - 1) / 2)
        return base, ["Its header gives no orientation (both codes are 0); left and right are a guess."]
    if sform is None:
        return qform, ["Its sform gives no place to its voxels; the qform was used."] if broken else []
    lengths = voxel_size(sform)
    if has_sizes and (np.abs(lengths / sizes - 1) <= TOLERANCE).all():
        return sform, []
    contradiction = f"Its sform gives voxels of {_product(lengths)}, its pixdim {_product(sizes)}"
    if not has_sizes or _ones(sizes) and qform is None:
        return sform, [f"{contradiction}; the sform was used."]
    if qform is not None and not _ones(sizes):
        return qform, [f"{contradiction}; the qform was used, because it agrees with pixdim."]
    if _ones(lengths):
        return _with_sizes(sform, sizes), [f"{contradiction}; the sizes of pixdim were used."]
    raise InputError(f"{path}: {contradiction[0].lower()}{contradiction[1:]}; correct the one that is wrong, "
                     "or export the file again with its geometry")


def _qform(header: Nifti1Header, sizes: np.ndarray) -> np.ndarray | None:
    """The qform, or None where its quaternion is no rotation.

    Takes negative sizes for positive ones, and, as the standard says, a pixdim[0] of 0 for 1.
    """
    header = header.copy()
    header["pixdim"][1:4] = sizes
    header["pixdim"][0] = -1 if header["pixdim"][0] < 0 else 1
    try:
        return _valid(header.get_qform())
    except Exception:  # nibabel's errors for rubbish in a header are of many kinds
        return None


def _valid(affine: np.ndarray) -> np.ndarray | None:
    """The affine, or None where it is not finite or its axes do not span the space."""
    if not np.isfinite(affine).all():
        return None
    affine = affine.astype(float)
    lengths = voxel_size(affine)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        return None
    return affine if abs(np.linalg.det(affine[:3, :3] / lengths)) > 1e-3 else None


def _with_sizes(affine: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The affine with its directions and origin, and other voxel sizes."""
    scaled = affine.copy()
    scaled[:3, :3] *= sizes / voxel_size(affine)
    return scaled


def _ones(sizes: np.ndarray) -> bool:
    """Whether all sizes are 1, as in a header in which nobody set them."""
    return bool((np.abs(sizes - 1) < 1e-3).all())


def _product(sizes: np.ndarray) -> str:
    return " x ".join(f"{size:.4g}" for size in sizes)
