"""Formats that nibabel does not read: MetaImage, NRRD and folders of DICOM slices, through SimpleITK."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from csam_lite.common.errors import InputError

if TYPE_CHECKING:
    from nibabel import Nifti1Image
    from SimpleITK import Image

OTHER_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
MOST_COMPRESSED = 1032  # no deflated data unpack to more than this many times their size
_BODY = re.compile(rb"(?im)^(?:ElementDataFile|data ?file)[ \t]*[=:][ \t]*([^\r\n]*)")
_COMPRESSED = re.compile(rb"(?im)^(?:CompressedData[ \t]*=[ \t]*True|encoding:[ \t]*(?:gz|bz))")


def is_dicom_folder(folder: Path) -> bool:
    """Whether the first file in a folder is a DICOM file (by the mark "DICM" after 128 bytes)."""
    try:
        first = next(
            (path for path in sorted(folder.iterdir()) if path.is_file() and path.name[0] != "."), None
        )
        if first is None:
            return False
        with open(first, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def with_simpleitk(path: Path) -> Nifti1Image:
    """The volume at `path`, a MetaImage or NRRD file or a folder with one series of DICOM slices, as a NIfTI
    image.

    Raises InputError where SimpleITK is not installed, the file is broken, or the folder holds several
    series.
    """
    try:
        import SimpleITK
    except ImportError as error:
        conversion = f"dcm2niix -z y {path}" if path.is_dir() else "SimpleITK or 3D Slicer"
        raise InputError(f'{path}: needs SimpleITK to be read; install it (pip install "csam-lite[data]"), '
                         f"or convert it to .nii.gz with {conversion}") from error
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        if path.is_dir():
            files = _series(path)
            stored = sum(Path(file).stat().st_size for file in files)
            _check_promise(path, "GDCMImageIO", files[0], len(files), stored * MOST_COMPRESSED)
            return as_nifti(SimpleITK.ReadImage(files))
        # SimpleITK by itself knows suffixes in lower case only
        kind = "NrrdImageIO" if path.suffix.lower() in (".nrrd", ".nhdr") else "MetaImageIO"
        _check_promise(path, kind, str(path), 1, _most_bytes(path))
        return as_nifti(SimpleITK.ReadImage(str(path), imageIO=kind))
    except (RuntimeError, OSError, ValueError, OverflowError) as error:  # SimpleITK's message has many lines
        raise InputError(
            f"{path}: SimpleITK cannot read it, truncated or damaged; copy or export it again"
        ) from error


def _check_promise(path: Path, kind: str, file: str, count: int, most: int) -> None:
    """Raise InputError where `count` files with the header of `file` would fill more than `most` bytes."""
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO(kind)
    reader.SetFileName(file)
    reader.ReadImageInformation()
    bits = re.search(r"(\d+)-bit", SimpleITK.GetPixelIDValueAsString(reader.GetPixelID()))
    width = int(bits[1]) // 8 if bits else 4
    promised = math.prod(reader.GetSize()) * reader.GetNumberOfComponents() * width * count
    if promised > most:
        raise InputError(f"{path}: its header promises {promised} bytes, which its file cannot hold; it is "
                         "truncated or damaged; copy or export it again")


def _most_bytes(path: Path) -> int:
    """How many bytes of voxels a MetaImage or NRRD file, or the file that it names, can hold."""
    with open(path, "rb") as file:
        head = file.read(1 << 16)
    named = _BODY.search(head)
    body = path.parent / named[1].decode("utf-8", "replace").strip() if named else path
    if named and named[1].strip().upper() == b"LOCAL":
        body = path
    if body.is_file():
        stored = body.stat().st_size
    else:  # a list or a pattern of files
        stored = sum(file.stat().st_size for file in path.parent.iterdir() if file.is_file())
    return stored * (MOST_COMPRESSED if _COMPRESSED.search(head) else 1)


def as_nifti(volume: Image) -> Nifti1Image:
    """A SimpleITK volume as a NIfTI image of the same values, spacing, origin and directions."""
    import nibabel
    import SimpleITK

    if volume.GetDimension() != 3:
        raise InputError(f"a volume of {volume.GetDimension()} dimensions; give one with three")
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(volume.GetDirection(), (3, 3)) * volume.GetSpacing()
    affine[:3, 3] = volume.GetOrigin()
    affine[
        :2
    ] *= (
        -1
    )  # SimpleITK's x and y run to the left and the back (LPS), those of NIfTI to the right and the front
    array = SimpleITK.GetArrayFromImage(volume)
    array = array.transpose(2, 1, 0, *range(3, array.ndim))
    image = nibabel.Nifti1Image(array, affine, dtype=array.dtype)
    image.set_qform(affine, code="scanner")
    image.set_sform(affine, code="scanner")
    image.header.set_xyzt_units("mm")
    return image


def _series(folder: Path) -> tuple[str, ...]:
    """The files of the one series in a folder of DICOM slices, in order."""
    import SimpleITK

    series = SimpleITK.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if len(series) != 1:
        raise InputError(f"{folder}: holds {len(series)} DICOM series; give each series a folder of its own")
    return SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0])
