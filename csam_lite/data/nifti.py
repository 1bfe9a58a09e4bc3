"""Read a NIfTI file, whole and checked; other formats go through SimpleITK where it is installed."""

from __future__ import annotations

import gzip
import io
import math
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from csam_lite.common.errors import InputError
from csam_lite.data.geometry import Geometry, geometry_of
from csam_lite.data.other_formats import OTHER_SUFFIXES, is_dicom_folder, with_simpleitk

if TYPE_CHECKING:
    from nibabel import Nifti1Header, Nifti1Image

NIFTI_SUFFIXES = (".nii.gz", ".nii", ".img.gz", ".img", ".hdr.gz", ".hdr")
CHUNK = 1 << 20         # bytes read at a time
MOST_COMPRESSED = 1032  # no gzip file unpacks to more than this many times its size
SURPLUS = 1 << 24       # bytes that a file may hold after its voxels


def suffix_of(path: Path) -> str:
    """The suffix that names the format, in lower case: ".nii.gz" of "a.b.NII.GZ"; empty where we know no such
    format."""
    name = path.name.lower()
    return next((suffix for suffix in NIFTI_SUFFIXES + OTHER_SUFFIXES if name.endswith(suffix)), "")


def stem_of(path: Path) -> str:
    """The name of a file without the suffix that names its format."""
    return path.name[:len(path.name) - len(suffix_of(path))]


def volumes_in(folder: Path) -> list[Path]:
    """The volumes in a folder, sorted by name: files of a known format, of a pair the .hdr, and folders of
    DICOM slices.

    Hidden files are left out, and the raw voxels beside a header that names them (.img beside .hdr, .raw
    beside .mhd). A link that leads nowhere counts as a file, so that reading it tells. Raises InputError for
    two files of one name, such as a.nii and a.nii.gz, and for a name that cannot be printed.
    """
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    files = [path for path in paths
             if (path.is_file() or path.is_symlink() and not path.exists()) and suffix_of(path)]
    headers = {stem_of(path) for path in files if suffix_of(path).startswith(".hdr")}
    volumes = [
        path
        for path in paths
        if path in files
        and not (suffix_of(path).startswith(".img") and stem_of(path) in headers)
        or path.is_dir()
        and is_dicom_folder(path)
    ]
    seen: dict[str, Path] = {}
    for path in volumes:
        # where the system's encoding lacks letters, Python keeps their bytes
        if not os.fsencode(path.name).decode("utf-8", "surrogateescape").isprintable():
            raise InputError(f"{path}: its name holds a character that cannot be printed; rename it")
        if (other := seen.setdefault(stem_of(path), path)) is not path:
            raise InputError(f"{folder}: holds {other.name} and {path.name}, two volumes of one name; "
                             "move one of them away")
    return volumes


def read_nifti(path: str | Path) -> tuple[Geometry, np.ndarray]:
    """The geometry of the file at `path` and its voxels, (X, Y, Z) or (X, Y, Z, C), in the file's data type.

    A compressed file is read to its checksum, so that damage anywhere is found. Where SimpleITK is installed,
    MetaImage and NRRD files and folders of DICOM slices are read too. Raises InputError where the file is
    missing, damaged or no volume, and where its header cannot be believed.
    """
    path = Path(path).expanduser()
    try:
        path.is_dir()
    except OSError as error:
        raise InputError(f"{str(path)[:200]}: cannot be read ({error.strerror}); check the name") from error
    if path.is_dir() and is_dicom_folder(path) or path.is_file() and suffix_of(path) in OTHER_SUFFIXES:
        nifti = with_simpleitk(path)
        header, voxels = nifti.header, np.asanyarray(nifti.dataobj)
    elif path.is_file():
        header, voxels = _read(path)
    else:
        raise InputError(f"{path}: is a folder; give one NIfTI file" if path.is_dir() else
                         f"{path}: is a link that leads nowhere; bring the file that it names"
                         if path.is_symlink() else f"{path}: no such file; check the name")
    if not voxels.size:
        raise InputError(f"{path}: is empty, shape {voxels.shape}; export it again")
    if voxels.ndim == 5 and voxels.shape[3] == 1:
        voxels = voxels[:, :, :, 0]  # NIfTI's vector images keep the fourth axis for time
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    if voxels.dtype.kind not in "iufb":
        kind = "colours" if voxels.dtype.kind == "V" else "complex numbers"
        raise InputError(f"{path}: holds {kind}, not grey values; export the scan as plain intensities")
    if voxels.ndim not in (3, 4):
        raise InputError(f"{path}: shape {voxels.shape} is not a volume (X, Y, Z) or (X, Y, Z, channels); "
                         "stack 2D slices into one NIfTI volume first")
    return geometry_of(header, path), voxels


def _read(path: Path) -> tuple[Nifti1Header, np.ndarray]:
    """Header and voxels of a NIfTI file, or of a pair .hdr and .img of which either is given."""
    import nibabel

    try:
        with (
            warnings.catch_warnings(),
            nibabel.imageglobals.LoggingOutputSuppressor(),
            np.errstate(all="ignore"),
        ):
            # what numpy and nibabel warn of is found by the checks that follow
            warnings.simplefilter("ignore")
            nifti, header = _load(path)
            return header, np.asanyarray(nifti.dataobj)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # zlib, gzip, struct and nibabel raise errors of many kinds for rubbish
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: cannot be read as NIfTI, truncated or damaged ({reason}); "
                         "copy or export it again") from error


def _load(path: Path) -> tuple[Nifti1Image, Nifti1Header]:
    """The image, all its bytes in memory, and its header exactly as stored (nibabel corrects the image's
    own)."""
    import nibabel

    suffix = suffix_of(path)
    if suffix.startswith((".hdr", ".img")):
        head, body = _partner(path, ".hdr"), _partner(path, ".img")
        with _opened(head) as stream:
            first = stream.read(CHUNK)
        header = _header(first, head)
        kind = nibabel.Nifti2Pair if header.sizeof_hdr == 540 else nibabel.Nifti1Pair
        image_bytes = _whole(body, int(header["vox_offset"]) + _promised(header, path), path)
        files = kind.make_file_map({"header": io.BytesIO(first), "image": image_bytes})
        return kind.from_file_map(files), header
    with _opened(path) as stream:
        header = _header(stream.read(540), path)
    kind = nibabel.Nifti2Image if header.sizeof_hdr == 540 else nibabel.Nifti1Image
    return kind.from_stream(_whole(path, int(header["vox_offset"]) + _promised(header, path), path)), header


def _header(first: bytes, path: Path) -> Nifti1Header:
    """The header in the first bytes of a file, as stored. Raises InputError where there is none."""
    import nibabel

    length = {int.from_bytes(first[:4], order) for order in ("little", "big")}
    if 348 in length and len(first) >= 348:
        if first[344:347] not in (b"n+1", b"ni1"):
            raise InputError(
                f"{path}: is an Analyze file, which does not tell left from right; convert the original "
                "scan to NIfTI (for DICOM: dcm2niix)"
            )
        kind = nibabel.Nifti1Header if first[344:347] == b"n+1" else nibabel.nifti1.Nifti1PairHeader
    elif 540 in length and len(first) >= 540:
        kind = nibabel.Nifti2Header if first[4:7] == b"n+2" else nibabel.nifti2.Nifti2PairHeader
    elif first[128:132] == b"DICM":
        raise InputError(f"{path}: is a DICOM file; give the folder that holds all slices of its series, or "
                         f"convert it to .nii.gz: dcm2niix -z y {path.parent}")
    else:
        raise InputError(
            f"{path}: cannot be read as NIfTI, truncated or damaged (it begins with {first[:16]!r}); "
            "copy or export it again"
        )
    return kind(first[:kind.sizeof_hdr], check=False)


def _promised(header: Nifti1Header, path: Path) -> int:
    """How many bytes of voxels the header promises. Raises InputError for an impossible shape."""
    shape = [int(n) for n in header.get_data_shape()]
    if not shape or min(shape) < 0:
        raise InputError(
            f"{path}: its header gives the shape {tuple(shape)}, which is impossible; export it again"
        )
    if 0 in shape:
        raise InputError(f"{path}: is empty, shape {tuple(shape)}; export it again")
    return math.prod(shape) * header.get_data_dtype().itemsize


def _whole(path: Path, promised: int, named: Path) -> io.BytesIO:
    """All bytes of a file, unpacked, in memory. Raises InputError before it takes more memory than the file
    can fill."""
    with _opened(path) as stream:
        stored = path.stat().st_size
        if promised > (stored * MOST_COMPRESSED if isinstance(stream, gzip.GzipFile) else stored):
            raise InputError(
                f"{named}: cannot be read as NIfTI, truncated or damaged (its header promises {promised} "
                f"bytes, the file has {stored}); copy or export it again"
            )
        content, surplus = io.BytesIO(), 0
        while chunk := stream.read(CHUNK):  # to the end, where gzip compares the checksum
            if content.tell() < promised:
                content.write(chunk)
            else:
                surplus += len(chunk)
            if surplus > SURPLUS:
                raise InputError(
                    f"{named}: holds far more than the {promised} bytes that its header promises; "
                    "copy or export it again"
                )
    if content.tell() < promised:
        raise InputError(
            f"{named}: cannot be read as NIfTI, truncated or damaged (its header promises {promised} bytes, "
            f"it holds {content.tell()}); copy or export it again"
        )
    content.seek(0)
    return content


def _opened(path: Path) -> BinaryIO:
    """The file, open for reading, unpacked on the way if its name ends in .gz. Raises InputError where the
    name lies."""
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    if zipped != path.name.lower().endswith(".gz"):
        kind = (
            "a gzip file, but its name does not end in .gz"
            if zipped
            else "no gzip file, though its name ends in .gz"
        )
        raise InputError(f"{path}: cannot be read as NIfTI, truncated or damaged (it is {kind}); "
                         "copy it again, or correct its name")
    return gzip.open(path, "rb") if zipped else open(path, "rb")


def _partner(path: Path, kind: str) -> Path:
    """Of a pair .hdr and .img, the file of this kind. Raises InputError where it is missing."""
    for other in sorted(path.parent.iterdir()):
        if suffix_of(other) in (kind, kind + ".gz") and stem_of(other) == stem_of(path):
            return other
    raise InputError(f"{path}: its other half, {stem_of(path)}{kind}, is missing; copy it there")
