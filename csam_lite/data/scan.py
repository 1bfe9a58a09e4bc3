"""One scan: from a NIfTI file to arrays with one order of axes, and back onto the file's own grid."""

import zlib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from csam_lite.common.errors import InputError
from csam_lite.common.files import whole_file

# Where the slice, row and column axes of a Scan point, by the world axis (x, y, z) nearest to the through-plane axis. Axial slices
# run upwards; a picture of one has anterior up and the patient's left on its right, as radiologists look at it.
_DIRECTIONS = {0: "LIP", 1: "AIL", 2: "SPL"}


@dataclass
class Scan:
    """A volume and, for a labelled case, its mask.

    image    (S, C, H, W) float32, intensities as stored; for axial slices S inferior to superior, H anterior to posterior, W right to left
    label    (S, H, W) uint8 or None
    spacing  (through-plane, row, column) distances in mm
    path     the image file;  affine, shape: its voxel-to-world matrix (4, 4) and spatial shape
    transform  nibabel's orientation change (3, 2) from the file's axes to (S, H, W)
    """

    path: Path
    image: np.ndarray
    spacing: tuple
    affine: np.ndarray
    shape: tuple
    transform: np.ndarray
    label: np.ndarray | None = None

    @property
    def directions(self):
        """Three letters: where the slice, row and column axes point in the patient, nearest direction, e.g. "SPL" for axial slices."""
        import nibabel

        world = nibabel.io_orientation(self.affine)  # of each file axis: world axis and sign
        letters = {int(self.transform[i, 0]): "LPIRAS"[int(axis) + 3 * (sign * self.transform[i, 1] > 0)] for i, (axis, sign) in enumerate(world)}
        return "".join(letters[axis] for axis in range(3))

    def to_file_axes(self, array):
        """array (S, H, W) -> the same voxels in the axis order of the file, shape `self.shape`."""
        import nibabel

        unchanged = np.array([[0, 1], [1, 1], [2, 1]])
        return nibabel.apply_orientation(array, nibabel.orientations.ornt_transform(unchanged, self.transform))


def read_scan(image_path, label_path=None, labels=None):
    """Read a 3D (X, Y, Z) or 4D (X, Y, Z, C) NIfTI image and, if given, the mask on its grid, as a Scan.

    labels: {value: name} that the mask may hold besides 0; None allows any. Raises InputError (one line: file, fault, mend) for a
    missing or damaged file, a 2D image, NaN or infinite voxels, a constant channel, another grid or undeclared values in the mask.
    """
    import nibabel

    nifti, voxels = read_nifti(image_path)
    voxels = voxels.astype(np.float32, copy=False)
    if voxels.ndim == 3:
        voxels = voxels[..., None]
    if bad := int(np.size(voxels) - np.isfinite(voxels).sum()):
        raise InputError(f"{image_path}: {bad} voxels are NaN or infinite; export the scan again, or replace them by 0")
    for channel in range(voxels.shape[3]):
        if np.ptp(voxels[..., channel]) == 0:
            which = f"channel {channel} " if voxels.shape[3] > 1 else ""
            raise InputError(f"{image_path}: {which}is constant ({voxels[0, 0, 0, channel]:g} everywhere) and shows nothing; export it again")
    through_plane = _through_plane_axis(nifti)
    orientation = nibabel.io_orientation(nifti.affine)
    target = nibabel.orientations.axcodes2ornt(_DIRECTIONS[int(orientation[through_plane, 0])])
    transform = nibabel.orientations.ornt_transform(orientation, target)
    axis_of = np.argsort(transform[:, 0])  # which file axis became S, H, W
    voxels = nibabel.apply_orientation(voxels, transform)  # (S, H, W, C)
    scan = Scan(
        path=Path(image_path), image=np.ascontiguousarray(np.moveaxis(voxels, 3, 1)), affine=nifti.affine, shape=nifti.shape[:3],
        spacing=tuple(float(mm) for mm in nibabel.affines.voxel_sizes(nifti.affine)[axis_of]), transform=transform)
    if label_path is not None:
        scan.label = _read_label(label_path, scan, labels)
    return scan


def write_like(scan, arrays):
    """Write arrays, {path: (S, H, W)}, as NIfTI on the grid of `scan`'s file, same shape and affine: all of them or none.

    Raises InputError where one cannot be written.
    """
    import nibabel

    with ExitStack() as stack:
        for path, array in arrays.items():
            nifti = nibabel.Nifti1Image(scan.to_file_axes(array), scan.affine)
            nifti.header.set_xyzt_units("mm")
            nibabel.save(nifti, stack.enter_context(whole_file(path)))


def read_nifti(path):
    """The NIfTI image at `path` and its voxels, 3D or 4D. Raises InputError where it is missing, damaged, or no volume."""
    import nibabel

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: is a folder; give one NIfTI file" if path.is_dir() else f"{path}: no such file; check the name")
    try:
        nifti = nibabel.load(path)
        voxels = np.asanyarray(nifti.dataobj)
    except (nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError, EOFError, OSError, ValueError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read as NIfTI, truncated or damaged ({error}); copy or export it again".replace("\n", " ")) from error
    if voxels.ndim == 5 and voxels.shape[3] == 1:
        voxels = voxels[:, :, :, 0]  # NIfTI's vector images keep the fourth axis for time
    if voxels.ndim == 4 and voxels.shape[3] == 1:
        voxels = voxels[..., 0]
    if voxels.ndim not in (3, 4) or voxels.dtype.kind not in "iufb":
        raise InputError(f"{path}: shape {nifti.shape} of {voxels.dtype} is not a volume (X, Y, Z) or (X, Y, Z, channels); "
                         "stack 2D slices into one NIfTI volume first")
    if 0 in voxels.shape:
        raise InputError(f"{path}: is empty, shape {nifti.shape}; export it again")
    if not np.isfinite(nifti.affine).all() or abs(np.linalg.det(nifti.affine[:3, :3])) < 1e-9:
        raise InputError(f"{path}: its affine gives no valid voxel size; export it again with its geometry")
    return nifti, voxels


def number_of_slices(path):
    """S of the scan at `path`. Raises InputError as `read_nifti` does."""
    nifti, voxels = read_nifti(path)
    return voxels.shape[_through_plane_axis(nifti)]


def _through_plane_axis(nifti):
    """The voxel axis across the slices: the coarsest one; if none stands out, what the header says; else the shortest, or the last."""
    import nibabel

    spacing, shape = nibabel.affines.voxel_sizes(nifti.affine), nifti.shape[:3]
    middle, coarsest = np.sort(spacing)[1:]
    if coarsest > 1.2 * middle:
        return int(spacing.argmax())
    header_slice = nifti.header.get_dim_info()[2] if hasattr(nifti.header, "get_dim_info") else None
    if header_slice is not None:
        return header_slice
    shortest = int(np.argmin(shape))
    return shortest if sorted(shape)[0] < sorted(shape)[1] else 2


def _read_label(path, scan, labels):
    """The mask at `path` on the grid of `scan`, (S, H, W) uint8."""
    import nibabel

    nifti, voxels = read_nifti(path)
    if voxels.shape != scan.shape:
        raise InputError(f"{path}: its shape {voxels.shape} differs from the image's {scan.shape} ({scan.path}); resample it onto the image's grid")
    corners = np.array([[x, y, z, 1] for x in (0, scan.shape[0]) for y in (0, scan.shape[1]) for z in (0, scan.shape[2])])
    apart = np.abs((nifti.affine - scan.affine) @ corners.T).max()
    if apart > 0.1:
        raise InputError(f"{path}: its grid lies up to {apart:.1f} mm off the image's ({scan.path}); resample the mask onto the image's grid")
    values = np.unique(voxels)
    allowed = [0, *labels] if labels is not None else range(256)
    if undeclared := [f"{value:g}" for value in values if value not in allowed]:
        raise InputError(f"{path}: holds the values {', '.join(undeclared[:5])} that are not declared labels ({', '.join(map(str, allowed[:9]))}); "
                         "correct the mask, or declare them in dataset.json")
    return np.ascontiguousarray(nibabel.apply_orientation(voxels.astype(np.uint8), scan.transform))
