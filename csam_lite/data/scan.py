"""One scan: from a file to arrays with one order of axes, and back onto the file's own grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from csam_lite.common.errors import InputError
from csam_lite.common.files import whole_file
from csam_lite.data.geometry import Geometry, like, same_place, voxel_size
from csam_lite.data.nifti import read_nifti

# Where the slice, row and column axes of a Scan point, by the world axis (x, y, z) nearest to the through-
# plane axis.
# Axial slices run upwards; a picture of one has anterior up and the patient's left on its right, as
# radiologists
# look at it.
_DIRECTIONS = {0: "LIP", 1: "AIL", 2: "SPL"}
PLANES = {
    "L": "sagittal",
    "A": "coronal",
    "S": "axial",
}  # by the direction in which the slices follow each other

MOST = 1e30  # of an intensity: float32 holds 3e38, and the sum over a volume must fit, too

@dataclass
class Scan:
    """A volume and, for a labelled case, its mask.

    path       the image file (of several channel files, the first) image      (S, C, H, W) float32,
    intensities as stored; for axial slices S inferior to superior, H anterior to
               posterior, W right to left
    spacing    (through-plane, row, column) distances in mm affine     the file's voxel-to-world matrix in mm,
    (4, 4) shape      the file's spatial shape (X, Y, Z) transform  nibabel's orientation change (3, 2) from
    the file's axes to (S, H, W) label      (S, H, W) uint8 or None geometry   the file's header and what we
    believe of it; masks are written with it
    """

    path: Path
    image: np.ndarray
    spacing: tuple[float, float, float]
    affine: np.ndarray
    shape: tuple[int, ...]
    transform: np.ndarray
    label: np.ndarray | None = None
    geometry: Geometry | None = None

    @property
    def directions(self) -> str:
        """Where the slice, row and column axes point in the patient, nearest direction: "SPL" for axial
        slices."""
        import nibabel

        world = nibabel.io_orientation(self.affine)  # of each file axis: world axis and sign
        letters = {int(self.transform[i, 0]): "LPIRAS"[int(axis) + 3 * (sign * self.transform[i, 1] > 0)]
                   for i, (axis, sign) in enumerate(world)}
        return "".join(letters[axis] for axis in range(3))

    @property
    def plane(self) -> str:
        """"axial", "coronal" or "sagittal": the plane nearest to that of the slices."""
        return PLANES[self.directions[0]]

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader should know about the file's geometry, whole sentences; mostly none."""
        return self.geometry.remarks if self.geometry else ()

    def to_file_axes(self, array: np.ndarray) -> np.ndarray:
        """array (S, H, W) -> the same voxels in the axis order of the file, shape `self.shape`."""
        import nibabel

        unchanged = np.array([[0, 1], [1, 1], [2, 1]])
        return nibabel.apply_orientation(
            array, nibabel.orientations.ornt_transform(unchanged, self.transform)
        )


def read_scan(
    image_path: str | Path,
    label_path: str | Path | None = None,
    labels: Mapping[int, str] | None = None,
    channel_files: Sequence[Path] = (),
) -> Scan:
    """Read an image, (X, Y, Z) or (X, Y, Z, C), and, if given, the mask on its grid, as a Scan.

    labels: {value: name} that the mask may hold besides 0; None allows any of 0 to 255. channel_files:
    further channels in files of their own, on the same grid. Raises InputError (one line: file, fault, what
    to do) for a missing or damaged file, a 2D image, NaN or infinite voxels, a constant channel, another grid
    or undeclared values in the mask.
    """
    import nibabel

    geometry, voxels = _read_image(Path(image_path).expanduser())
    for path in channel_files:
        other, more = _read_image(path)
        if more.shape[:3] != voxels.shape[:3] or not same_place(other, geometry)[0]:
            raise InputError(
                f"{path}: is a channel of {image_path}, but lies on another grid; resample it onto that grid"
            )
        voxels = np.concatenate([voxels, more], axis=3)
    through_plane = _through_plane_axis(geometry)
    orientation = nibabel.io_orientation(geometry.affine)
    target = nibabel.orientations.axcodes2ornt(_DIRECTIONS[int(orientation[through_plane, 0])])
    transform = nibabel.orientations.ornt_transform(orientation, target)
    axis_of = np.argsort(transform[:, 0])  # which file axis became S, H, W
    voxels = nibabel.apply_orientation(voxels, transform)  # (S, H, W, C)
    scan = Scan(
        path=Path(image_path), image=_in_order(np.moveaxis(voxels, 3, 1)), affine=geometry.affine,
        spacing=tuple(float(mm) for mm in voxel_size(geometry.affine)[axis_of]), shape=geometry.shape,
        transform=transform, geometry=geometry)
    if label_path is not None:
        scan.label = _read_label(Path(label_path).expanduser(), scan, labels)
    return scan


def write_like(scan: Scan, arrays: Mapping[str | Path, np.ndarray]) -> None:
    """Write arrays, {path: (S, H, W)}, as NIfTI with the header of `scan`'s file: all of them or none.

    Each opens at the same place as the scan in every program, whichever of the header's forms the program
    reads. Raises InputError where one cannot be written.
    """
    with ExitStack() as stack:
        for path, array in arrays.items():
            path = Path(path).expanduser()
            content = like(scan.geometry, scan.to_file_axes(array), path.name.lower().endswith(".gz"))
            stack.enter_context(whole_file(path)).write_bytes(content)


def number_of_slices(path: str | Path) -> int:
    """S of the scan at `path`. Raises InputError as `read_nifti` does."""
    geometry, voxels = read_nifti(path)
    return voxels.shape[_through_plane_axis(geometry)]


def mask_values(path: str | Path) -> tuple[Geometry, np.ndarray]:
    """Geometry and voxels of a mask, (X, Y, Z), its values as whole numbers.

    A value up to 0.001 off a whole number is taken for that number, because some programs write masks as
    floats. Raises InputError as `read_nifti` does, and for other values than 0 to 255.
    """
    geometry, voxels = read_nifti(path)
    if voxels.ndim > 3:
        raise InputError(f"{path}: holds {voxels.shape[3]} volumes; a mask is one volume, in which each "
                         "label is a number of its own; export it so")
    if voxels.dtype.kind in "ub" and voxels.dtype.itemsize == 1:
        return geometry, voxels.astype(np.uint8, copy=False)
    whole = voxels if voxels.dtype.kind in "iu" else np.rint(voxels)
    wrong = ~((np.abs(voxels - whole) <= 1e-3) & (whole >= 0) & (whole <= 255))
    if wrong.any():
        values = ", ".join(f"{value:.6g}" for value in np.unique(voxels[wrong])[:5])
        raise InputError(
            f"{path}: holds the values {values} on {int(wrong.sum())} voxels, which are no whole numbers "
            "from 0 to 255; is it an image, or a mask that was smoothed or resampled? Export the mask again, "
            "with nearest-neighbour interpolation"
        )
    return geometry, whole.astype(np.uint8)


def _read_image(path: Path) -> tuple[Geometry, np.ndarray]:
    """The geometry of an image and its voxels (X, Y, Z, C) float32, none of them beyond MOST."""
    geometry, voxels = read_nifti(path)
    with np.errstate(over="ignore"):
        voxels = voxels.astype(np.float32, copy=False)
    if voxels.ndim == 3:
        voxels = voxels[..., None]
    if bad := int(np.size(voxels) - ((voxels >= -MOST) & (voxels <= MOST)).sum()):
        raise InputError(
            f"{path}: {bad} voxels are NaN, infinite or beyond {MOST:g}; export the scan again, or replace "
            "them by 0"
        )
    for channel in range(voxels.shape[3]):
        if np.ptp(voxels[..., channel]) == 0:
            which = f"channel {channel} " if voxels.shape[3] > 1 else ""
            raise InputError(
                f"{path}: {which}is constant ({voxels[0, 0, 0, channel]:g} everywhere) and shows nothing; "
                "export it again"
            )
    return geometry, voxels


def _through_plane_axis(geometry: Geometry) -> int:
    """The voxel axis across the slices: the coarsest one; if none stands out, what the header says; else the
    axial one.

    The shape of the volume has no say, because two crops of one scan may differ in which side is the
    shortest.
    """
    import nibabel

    spacing = voxel_size(geometry.affine)
    middle, coarsest = np.sort(spacing)[1:]
    if coarsest > 1.2 * middle:
        return int(spacing.argmax())
    header_slice = geometry.header.get_dim_info()[2]
    if header_slice is not None:
        return header_slice
    return int(np.flatnonzero(nibabel.io_orientation(geometry.affine)[:, 0] == 2)[0])


def _read_label(path: Path, scan: Scan, labels: Mapping[int, str] | None) -> np.ndarray:
    """The mask at `path` on the grid of `scan`, (S, H, W) uint8."""
    import nibabel

    geometry, values = mask_values(path)
    if values.shape != scan.shape:
        raise InputError(
            f"{path}: its shape {values.shape} differs from the image's {scan.shape} ({scan.path}); "
            "resample it onto the image's grid"
        )
    same, apart = same_place(geometry, scan.geometry)
    if not same and np.allclose(geometry.affine, np.eye(4)):
        raise InputError(
            f"{path}: its header gives no position (an identity matrix), so it lies up to {apart:.2g} mm off "
            f"the image's ({scan.path}); if it was drawn on these voxels, copy the image's header to it"
        )
    if not same:
        raise InputError(
            f"{path}: its grid lies up to {apart:.2g} mm off the image's ({scan.path}); if it was drawn on "
            "these voxels, copy the image's header to it, otherwise resample it onto the image's grid"
        )
    if labels is not None:
        if undeclared := sorted(set(np.unique(values).tolist()) - {0, *labels}):
            raise InputError(
                f"{path}: holds the values {', '.join(map(str, undeclared[:5]))} that are not declared "
                f"labels ({', '.join(map(str, [0, *labels][:9]))}); correct the mask, or declare them in "
                "dataset.json"
            )
    return _in_order(nibabel.apply_orientation(values, scan.transform))


def _in_order(array: np.ndarray) -> np.ndarray:
    """The array with its values in memory in the order of its axes, as torch reads them.

    For numpy, an axis of one voxel that was turned round is in order; torch refuses it.
    """
    array = np.ascontiguousarray(array)
    return array if min(array.strides) > 0 else array.copy()
