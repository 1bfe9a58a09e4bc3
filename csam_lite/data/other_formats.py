"""Formats that nibabel does not read: MetaImage, NRRD and folders of DICOM slices, through SimpleITK."""

from __future__ import annotations

import bz2
import math
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from csam_lite.common.errors import InputError, missing

if TYPE_CHECKING:
    from nibabel import Nifti1Image
    from SimpleITK import Image

OTHER_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
LONGEST_HEAD = 1 << 20  # bytes of a MetaImage or NRRD file in which it must name the file of its voxels
MOST_COMPRESSED = 1032  # no deflated data unpack to more than this many times their size
_BODY = re.compile(rb"(?im)^(?:ElementDataFile|data ?file)[ \t]*[=:][ \t]*([^\r\n]*)")
_NAMED = re.compile(rb"(?i)(?:ElementDataFile|data ?file)[ \t]*[=:]([^\n]*)")
_NUMBERED = re.compile(rb"[^%]*%0?\d?d[^%]*")  # the one pattern of names that ITK may be given
_LOCAL = re.compile(rb"(?im)^ElementDataFile[ \t]*=[ \t]*LOCAL[ \t]*\r?\n")
_BLANK = re.compile(rb"\r?\n\r?\n")  # ends the head of a NRRD file
_PIECE = 1 << 14  # bytes: unpacked, at most 17 MB
_COMPRESSED = re.compile(rb"(?im)^(?:CompressedData[ \t]*=[ \t]*True|encoding:[ \t]*(?:gz|bz))")


def is_dicom_folder(folder: Path) -> bool:
    """Whether a file in a folder is a DICOM file (by the mark "DICM" after 128 bytes)."""
    try:
        return any(_is_dicom(path) for path in folder.iterdir() if path.is_file() and path.name[0] != ".")
    except OSError:
        return False


def _is_dicom(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


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
        raise missing(str(path), "SimpleITK", "data", f"convert it to .nii.gz with {conversion}") from error
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        with _silence():
            if path.is_dir():
                files = _series(path)
                stored = sum(Path(file).stat().st_size for file in files)
                _check_promise(path, "GDCMImageIO", files[0], len(files), stored * MOST_COMPRESSED)
                _check_steps(path, files)
                return as_nifti(SimpleITK.ReadImage(files), path)
            # SimpleITK by itself knows suffixes in lower case only
            kind = "NrrdImageIO" if path.suffix.lower() in (".nrrd", ".nhdr") else "MetaImageIO"
            _check_names(path)
            _check_promise(path, kind, str(path), 1, _most_bytes(path))
            _check_stream(path)
            return as_nifti(SimpleITK.ReadImage(str(path), imageIO=kind), path)
    except (RuntimeError, OSError, ValueError, OverflowError, zlib.error) as error:
        # SimpleITK's message has many lines
        raise InputError(
            f"{path}: SimpleITK cannot read it, truncated or damaged; copy or export it again"
        ) from error


@contextmanager
def _silence() -> Iterator[None]:
    """Keep from the terminal what SimpleITK writes there itself; its errors are raised all the same."""
    try:
        kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # standard error is closed
        yield
        return
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        for handle in (kept, nothing):
            os.close(handle)


def _check_names(path: Path) -> None:
    """Raise InputError where a MetaImage or NRRD file names the file of its voxels with a % that is not the
    number of a slice, as in s%03d.raw.

    ITK hands such a name to C's printf, which may end the process.
    """
    with open(path, "rb") as file:
        head = file.read(LONGEST_HEAD)
    names = _NAMED.findall(head)
    if not names and not (path.suffix.lower() == ".nrrd" and _BLANK.search(head)):
        raise InputError(f"{path}: does not say in its first {LONGEST_HEAD} bytes where its voxels are, "
                         "truncated or damaged; copy or export it again")
    if wrong := [name for name in names if b"%" in name and not _NUMBERED.fullmatch(name)]:
        raise InputError(f"{path}: names the file of its voxels {wrong[0].decode('utf-8', 'replace').strip()}"
                         ", in which % stands for no number of a slice; rename it, or export it again")


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


def _check_steps(folder: Path, files: tuple[str, ...]) -> None:
    """Raise InputError where the slices of a DICOM series, in order, do not lie at equal steps.

    SimpleITK would read them all the same, as a volume with slices at wrong places.
    """
    import SimpleITK

    if len(files) < 2:
        return
    places, normals = [], []
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    for file in files:
        reader.SetFileName(file)
        reader.ReadImageInformation()
        tags = ("0020|0032", "0020|0037")  # position and directions of the slice
        if not all(reader.HasMetaDataKey(tag) for tag in tags):
            raise InputError(f"{file}: does not say where its slice lies (tags 0020,0032 and 0020,0037); "
                             "export the series again with its geometry")
        place, axes = (np.array(reader.GetMetaData(tag).split("\\"), float) for tag in tags)
        places.append(place)
        normals.append(np.cross(axes[:3], axes[3:]))
    if np.abs(np.array(normals) - normals[0]).max() > 0.01:
        raise InputError(
            f"{folder}: its slices have different directions; give each stack a folder of its own"
        )
    steps = np.abs(np.diff(np.array(places) @ normals[0]))
    usual = float(np.median(steps))
    if not np.allclose(steps, usual, rtol=0.05, atol=0.01) or usual < 0.01:
        raise InputError(
            f"{folder}: its slices lie {steps.min():.4g} to {steps.max():.4g} mm apart; some are missing, or "
            "several volumes are mixed; copy the whole series, and each volume into a folder of its own"
        )


def _body_of(path: Path) -> tuple[bytes, Path]:
    """The head of a MetaImage or NRRD file, and the file that holds its voxels, which may be itself."""
    with open(path, "rb") as file:
        head = file.read(LONGEST_HEAD)
    named = _BODY.search(head)
    if not named or named[1].strip().upper() == b"LOCAL":
        return head, path
    return head, path.parent / named[1].decode("utf-8", "replace").strip()


def _check_stream(path: Path) -> None:
    """Read compressed voxels to their checksum, which SimpleITK does not compare.

    Raises zlib.error, OSError or ValueError where it is wrong.
    """
    head, body = _body_of(path)
    if not (kind := _COMPRESSED.search(head)) or not body.is_file():
        return
    start = 0
    if body == path:
        end = _LOCAL.search(head) if path.suffix.lower() == ".mha" else _BLANK.search(head)
        if end is None:
            return
        start = end.end()
    unpack = bz2.BZ2Decompressor() if b"bz" in kind[0].lower() else zlib.decompressobj(zlib.MAX_WBITS | 32)
    with open(body, "rb") as file:
        file.seek(start)
        while not unpack.eof:
            if not (chunk := file.read(_PIECE)):
                raise ValueError("the compressed voxels are cut short")
            unpack.decompress(chunk)


def _most_bytes(path: Path) -> int:
    """How many bytes of voxels a MetaImage or NRRD file, or the file that it names, can hold."""
    head, body = _body_of(path)
    if body.is_file():
        stored = body.stat().st_size
    else:  # a list or a pattern of files
        stored = sum(file.stat().st_size for file in path.parent.iterdir() if file.is_file())
    return stored * (MOST_COMPRESSED if _COMPRESSED.search(head) else 1)


def as_nifti(volume: Image, path: Path) -> Nifti1Image:
    """A SimpleITK volume as a NIfTI image of the same values, spacing, origin and directions.

    Raises InputError, which names `path`, for a volume without three dimensions.
    """
    import nibabel
    import SimpleITK

    if volume.GetDimension() == 4 and volume.GetSize()[3] == 1:
        volume = volume[:, :, :, 0]
    if volume.GetDimension() != 3:
        raise InputError(f"{path}: has {volume.GetDimension()} dimensions; give a volume with three")
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(volume.GetDirection(), (3, 3)) * volume.GetSpacing()
    affine[:3, 3] = volume.GetOrigin()
    # SimpleITK's x and y run to the left and the back (LPS), those of NIfTI to the right and the front.
    affine[:2] *= -1
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
    files = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0])
    used = {Path(file).name for file in files}
    for path in sorted(folder.iterdir()):  # SimpleITK passes over a slice that it cannot read
        is_slice = path.suffix == Path(files[0]).suffix and path.is_file() and path.name != "DICOMDIR"
        if is_slice and path.name not in used and not path.name.startswith("."):
            raise InputError(f"{path}: is no slice of the series beside it, or is damaged; copy it again, or "
                             "take it out of the folder")
    return files
