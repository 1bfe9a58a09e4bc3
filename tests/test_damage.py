"""Damaged and lying files: each is refused in one line, none is read with other voxels."""

import gzip
import os
import re
import struct
import subprocess
import sys
import tracemalloc

import nibabel
import numpy as np
import pytest
from conftest import blob, write_nifti

from csam_lite.common.errors import InputError
from csam_lite.data.nifti import read_nifti
from csam_lite.data.scan import read_scan

SEED = int(os.environ.get("CSAM_LITE_TEST_SEED", np.random.SeedSequence().entropy % 10**6))


def refusal(path):
    """The message with which `path` is refused, checked to be one line with its name; None if it is read."""
    try:
        read_scan(path)
    except InputError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return str(error)


@pytest.mark.row("reliability 1", "files remark 1")
@pytest.mark.stress(trial="bits flipped in a .nii.gz", found=282, count=340)
def test_no_flipped_bit_changes_a_voxel(tmp_path):
    print(f"seed {SEED}: repeat with CSAM_LITE_TEST_SEED={SEED}")
    rng = np.random.default_rng(SEED)
    image, _ = blob((24, 20, 6), rng)
    good = write_nifti(tmp_path / "good.nii.gz", image.astype(np.int16))
    content = good.read_bytes()
    assert refusal(good) is None
    _, expected = read_nifti(good)
    for position in rng.integers(0, len(content), 340):
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(rng.integers(8))
        (tmp_path / "damaged.nii.gz").write_bytes(damaged)
        if refusal(tmp_path / "damaged.nii.gz") is None:  # a bit without meaning, such as gzip's time: all is as it was
            _, voxels = read_nifti(tmp_path / "damaged.nii.gz")
            np.testing.assert_array_equal(voxels, expected, f"seed {SEED}: byte {position} of {len(content)}")


def test_a_file_that_is_cut_anywhere_is_refused(tmp_path):
    image, _ = blob((24, 20, 6), np.random.default_rng(0))
    for name in ("scan.nii.gz", "scan.nii"):
        content = write_nifti(tmp_path / name, image).read_bytes()
        for length in (0, 1, 2, 10, 200, 348, 352, 400, len(content) // 2, len(content) - 1):
            (tmp_path / name).write_bytes(content[:length])
            assert "cannot be read as NIfTI, truncated or damaged" in refusal(tmp_path / name), (name, length)


@pytest.mark.parametrize("content, why", [
    (b"<!DOCTYPE html><html>" + b"x" * 500, "no gzip file, though its name ends in .gz"),
    (b"version https://git-lfs.github.com/spec/v1\n", "no gzip file"), (gzip.compress(gzip.compress(b"x" * 999)), "it begins with"),
    (gzip.compress(b"<html>" * 99), "it begins with b'<html>")])
def test_what_is_no_nifti_at_all(content, why, tmp_path):
    (tmp_path / "x.nii.gz").write_bytes(content)
    assert why in refusal(tmp_path / "x.nii.gz")


def lying(path, shape, slope=1.0, code=4):
    """A small file whose header promises an array of this shape, int16 unless another datatype code is given."""
    header = nibabel.Nifti1Header()
    header["pixdim"][1:4] = 1
    raw = bytearray(header.binaryblock)
    raw[40:56] = struct.pack("<8h", len(shape), *shape, *[1] * (7 - len(shape)))
    raw[70:74] = struct.pack("<2h", code, 16)
    raw[112:116] = struct.pack("<f", slope)
    content = bytes(raw) + bytes(4) + bytes(73_728)
    path.write_bytes(gzip.compress(content) if path.name.endswith(".gz") else content)
    return path


@pytest.mark.row("reliability 10", "reliability 14")
@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
@pytest.mark.parametrize("shape", [(1000, 1000, 1000, 2), (32767, 32767, 8, 2), (32767,) * 7, (-5, 40, 5), (0, 40, 5), (40, 40)])
def test_a_lying_header_takes_no_memory(shape, name, tmp_path):
    path = lying(tmp_path / name, shape)
    tracemalloc.start()
    assert refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_a_gzip_bomb_takes_no_memory(tmp_path):
    image, _ = blob((24, 20, 6), np.random.default_rng(0))
    content = gzip.decompress(write_nifti(tmp_path / "x.nii.gz", image).read_bytes())
    with gzip.open(tmp_path / "x.nii.gz", "wb") as file:
        file.write(content)
        for _ in range(64):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    assert "far more than the" in refusal(tmp_path / "x.nii.gz")
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


@pytest.mark.row("reliability 14")
def test_random_bytes_in_a_header_never_end_in_a_traceback(tmp_path, recwarn, capfd):
    print(f"seed {SEED}: repeat with CSAM_LITE_TEST_SEED={SEED}")
    rng = np.random.default_rng(SEED)
    image, _ = blob((9, 8, 5), rng)
    content = write_nifti(tmp_path / "x.nii", image.astype(np.int16)).read_bytes()
    capfd.readouterr()
    refused = 0
    for _ in range(400):
        damaged = bytearray(content)
        for position in rng.integers(0, 348, int(rng.integers(1, 6))):
            damaged[position] = int(rng.choice([0, 1, 127, 128, 255, rng.integers(256)]))
        (tmp_path / "x.nii").write_bytes(damaged)
        refused += refusal(tmp_path / "x.nii") is not None
    assert 50 < refused < 400
    assert not recwarn.list and capfd.readouterr().err == ""


@pytest.mark.row("files 18")
@pytest.mark.parametrize("code, why", [(128, "holds colours"), (32, "holds complex numbers"), (9999, "truncated or damaged")])
def test_voxels_that_are_no_grey_values(code, why, tmp_path):
    assert why in refusal(lying(tmp_path / "x.nii", (40, 40, 5), code=code))


@pytest.mark.row("reliability 14")
@pytest.mark.parametrize("name", ["x.mnc", "x.par", "x.rec", "x.gii", "x.png", "x.npy", "x.mgz", "x.BRIK", "x"])
def test_what_is_none_of_our_formats_is_refused(name, tmp_path):
    for content in (b"", b"CDF\x01" + b"x" * 999, b"# DATA DESCRIPTION FILE\n", b"<?xml version='1.0'?><GIFTI/>", b"\x89PNG" * 200):
        (tmp_path / name).write_bytes(content)
        assert "copy" in refusal(tmp_path / name)


@pytest.mark.row("files remark 2", "reliability 14")
@pytest.mark.filterwarnings("error")
def test_numbers_beyond_float32_warn_of_nothing(tmp_path):
    image, _ = blob((9, 8, 5), np.random.default_rng(0))
    for values in (image.astype(np.float64) * 1e300, image * np.float32(1e30), np.where(image > 50, np.float32(3e38), np.float32(-3e38))):
        assert "360 voxels are NaN, infinite or beyond 1e+30" in refusal(write_nifti(tmp_path / "x.nii.gz", values))
    for slope, refused in ((1e38, True), (-1e38, True), (np.inf, False), (1e20, False)):  # a slope of infinity counts as none
        nifti = nibabel.Nifti1Image((image * 100).astype(np.int16), np.diag([0.5, 0.5, 3, 1]))
        nibabel.save(nifti, tmp_path / "y.nii")
        content = bytearray((tmp_path / "y.nii").read_bytes())
        content[112:116] = struct.pack("<f", slope)
        (tmp_path / "y.nii").write_bytes(content)
        assert bool(refusal(tmp_path / "y.nii")) == refused


@pytest.mark.row("files 18")
def test_other_formats_are_read_through_simpleitk(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    image, _ = blob((24, 20, 6), np.random.default_rng(0))
    affine = np.array([[-0.5, 0, 0.1, 40], [0, -0.5, 0, -30], [-0.1, 0, 3.0, 12], [0, 0, 0, 1.0]])
    affine[:3, :3] = np.linalg.qr(affine[:3, :3])[0] * (0.5, 0.5, 3)
    scan = read_scan(write_nifti(tmp_path / "x.nii.gz", image, affine))
    for suffix in (".mha", ".nrrd", ".mhd", ".MHA"):
        sitk.WriteImage(sitk.ReadImage(str(tmp_path / "x.nii.gz")), str(tmp_path / f"x{suffix.lower()}"))
        if suffix == ".MHA":
            (tmp_path / "x.mha").rename(tmp_path / "x.MHA")
        other = read_scan(tmp_path / f"x{suffix}")
        np.testing.assert_allclose(other.affine, scan.affine, atol=1e-4)
        np.testing.assert_array_equal(other.image, scan.image)
    volume = sitk.ReadImage(str(tmp_path / "x.nii.gz"))
    sitk.WriteImage(sitk.JoinSeries([volume]), str(tmp_path / "one.nrrd"))  # a series of one volume
    np.testing.assert_array_equal(read_scan(tmp_path / "one.nrrd").image, scan.image)
    sitk.WriteImage(sitk.JoinSeries([volume, volume]), str(tmp_path / "two.mha"))
    assert refusal(tmp_path / "two.mha") == f"{tmp_path / 'two.mha'}: has 4 dimensions; give a volume with three"
    (tmp_path / "broken.mha").write_bytes(b"ObjectType = Image\nNDims = 3\n")
    assert "does not say in its first 1048576 bytes where its voxels are" in refusal(tmp_path / "broken.mha")


@pytest.mark.row("files 18")
def test_without_simpleitk_the_conversion_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "SimpleITK", None)
    (tmp_path / "x.mha").write_bytes(b"ObjectType = Image\n")
    assert "needs SimpleITK; in the clone, run: pip install -e" in refusal(tmp_path / "x.mha")
    (tmp_path / "dicom").mkdir()
    (tmp_path / "dicom" / "1.dcm").write_bytes(bytes(128) + b"DICM")
    assert f"dcm2niix -z y {tmp_path / 'dicom'}" in refusal(tmp_path / "dicom")


def test_a_pair_is_read_to_its_checksum(tmp_path):
    image, _ = blob((24, 20, 6), np.random.default_rng(0))
    nibabel.save(nibabel.Nifti1Pair(image, np.diag([0.5, 0.5, 3, 1])), tmp_path / "x.img.gz")
    assert read_nifti(tmp_path / "x.img.gz")[1].shape == (24, 20, 6)
    content = bytearray((tmp_path / "x.img.gz").read_bytes())
    content[len(content) // 2] ^= 4
    (tmp_path / "x.img.gz").write_bytes(content)
    assert refusal(tmp_path / "x.img.gz")


LYING = {
    "x.mha": b"ObjectType = Image\nNDims = 3\nDimSize = %d %d %d\nElementType = MET_SHORT\nElementSpacing = 1 1 3\nElementDataFile = LOCAL\n",
    "x.mhd": b"ObjectType = Image\nNDims = 3\nDimSize = %d %d %d\nElementType = MET_SHORT\nElementSpacing = 1 1 3\nElementDataFile = x.raw\n",
    "y.mha": b"ObjectType = Image\nNDims = 3\nCompressedData = True\nDimSize = %d %d %d\nElementType = MET_DOUBLE\nElementDataFile = LOCAL\n",
    "x.nrrd": b"NRRD0004\ntype: short\ndimension: 3\nsizes: %d %d %d\nencoding: raw\nendian: little\nspacings: 1 1 3\n\n",
    "x.nhdr": b"NRRD0004\ntype: short\ndimension: 3\nsizes: %d %d %d\nencoding: raw\nendian: little\nspacings: 1 1 3\ndata file: x.raw\n",
    "y.nrrd": b"NRRD0004\ntype: double\ndimension: 3\nsizes: %d %d %d\nencoding: gzip\nendian: little\nspacings: 1 1 3\n\n"}


@pytest.mark.row("reliability 10")
@pytest.mark.parametrize("name", LYING)
def test_reliability_10_a_lying_header_of_another_format_takes_no_memory(name, tmp_path):
    pytest.importorskip("SimpleITK")
    import resource

    (tmp_path / "x.raw").write_bytes(bytes(73_728))
    for shape in ((1000, 1000, 1000), (10**5, 10**5, 10**4), (10**9, 10**9, 10**9), (10**30, 1, 1), (-5, 4, 4), (0, 4, 4)):
        (tmp_path / name).write_bytes(LYING[name] % shape + bytes(73_728))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert refusal(tmp_path / name)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


METAIMAGE, NRRD = LYING["x.mhd"] % (4, 4, 3), LYING["x.nhdr"] % (4, 4, 3)
READ_BY_NAME = """
import sys
from csam_lite.common.errors import InputError
from csam_lite.data.scan import read_scan
for path in sys.argv[1:]:
    try:
        print(read_scan(path).image.shape, flush=True)
    except InputError as error:
        print(error, flush=True)
"""


def test_a_name_of_a_file_of_voxels_ends_no_process(tmp_path):
    """ITK gives these names to printf: %s, %n and %999d ended Python itself."""
    folder = tmp_path / "50%s"  # of a folder, no % does harm
    folder.mkdir()
    voxels = np.arange(48, dtype=np.int16).tobytes()
    for name, content in {"x.raw": voxels, "s1.raw": voxels[:32], "s2.raw": voxels[32:64], "s3.raw": voxels[64:], "%s.raw": voxels}.items():
        (folder / name).write_bytes(content)
    bad = ["%s.raw", "%s%s%n.raw 1 3 1", "s%999d.raw 1 3 1", "s%999999d.raw 1 3 1", "50%.raw", "%%d.raw 1 3 1", "s%d%d.raw 1 3 1", "%5$d.raw 1 3 1"]
    good = ["x.raw", "s%d.raw 1 3 1", "s%1d.raw 1 3 1"]
    paths = []
    for number, name in enumerate([*bad, *good]):
        for head, suffix in ((METAIMAGE, "mhd"), (NRRD, "nhdr")):
            paths.append(folder / f"{number:02}%s.{suffix}")
            paths[-1].write_bytes(head.replace(b"x.raw", name.encode()))
    paths.append(folder / "long.mha")  # the name lies beyond what we look at
    paths[-1].write_bytes(METAIMAGE.replace(b"ElementDataFile", b"Comment = " + b"x" * 1_050_000 + b"\nElementDataFile").replace(b"x.raw", b"%s.raw"))
    done = subprocess.run([sys.executable, "-c", READ_BY_NAME, *map(str, paths)], capture_output=True, encoding="utf-8")
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) == len(paths), (done.returncode, lines, done.stderr[-500:])
    for path, line in zip(paths, lines):
        number = int(path.name[:2]) if path.name[0].isdigit() else 0
        assert ("rename it" in line or "truncated or damaged" in line) if number < len(bad) else line == "(3, 1, 4, 4)", (path.name, line)


def dicom_folder(folder, places, directions=None, first=0):
    """Write slices of one DICOM series at these places, mm along z; slice k holds the value 10 (k + 1) and a corner of 0."""
    sitk = pytest.importorskip("SimpleITK")
    folder.mkdir(exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, z in enumerate(places, first):
        values = np.full((24, 20), 10 * (number + 1), np.int16)
        values[0, 0] = 0
        slice_ = sitk.GetImageFromArray(values)
        tags = {"0020|000e": "1.2.3", "0020|000d": "1.2", "0008|0018": f"1.2.3.{number}", "0020|0013": str(number), "0008|0060": "MR",
                "0020|0032": f"0\\0\\{z}", "0020|0037": (directions or {}).get(number, "1\\0\\0\\0\\1\\0")}
        for key, value in tags.items():
            slice_.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{number}.dcm"))
        writer.Execute(slice_)
    return folder


@pytest.mark.row("reliability 10")
def test_reliability_10_a_lying_dicom_folder_takes_no_memory(tmp_path):
    dicom_folder(tmp_path / "dicom", [0, 3, 6])
    assert read_nifti(tmp_path / "dicom")[1].shape == (20, 24, 3)
    for path in (tmp_path / "dicom").iterdir():
        content = path.read_bytes()
        for tag in (b"\x10", b"\x11"):  # rows and columns, with or without their type
            content, count = re.subn(b"([(]\x00" + tag + b"\x00(?:US\x02\x00|\x02\x00\x00\x00))..", b"\\1\xff\xff", content, flags=re.DOTALL)
            assert count == 1
        path.write_bytes(content)
    assert refusal(tmp_path / "dicom")


@pytest.mark.parametrize("places, directions, why", [
    ([0, 3, 9, 12], None, "its slices lie 3 to 6 mm apart; some are missing"), ([0, 0, 3, 3], None, "its slices lie 0 to 3 mm apart"),
    ([0, 3, 40, 43], None, "3 to 37 mm apart"), ([0, 3, 6], {1: "1\\0\\0\\0\\0\\1"}, "different directions")])
def test_dicom_slices_that_are_no_even_stack_are_refused(places, directions, why, tmp_path):
    assert why in refusal(dicom_folder(tmp_path / "dicom", places, directions))


@pytest.mark.parametrize("places", [[0, 3.003, 5.998, 9.001], [9, 6, 3, 0], [-4.5, -3, -1.5, 0]])
def test_dicom_slices_of_an_even_stack_are_read_in_their_order(places, tmp_path):
    scan = read_scan(dicom_folder(tmp_path / "dicom", places))
    values = scan.image.max((1, 2, 3))
    np.testing.assert_array_equal(values, 10 * (1 + np.argsort(places)))
    assert abs(scan.spacing[0] - np.ptp(places) / 3) < 0.01


@pytest.mark.parametrize("content", [b"", b"x" * 400, None])
@pytest.mark.parametrize("number", [1, 2])
def test_a_damaged_dicom_slice_is_named_and_not_passed_over(number, content, tmp_path):
    folder = dicom_folder(tmp_path / "dicom", [0, 3, 6])
    path = folder / f"{number}.dcm"
    path.write_bytes(path.read_bytes()[:-300] if content is None else content)
    assert f"{number}.dcm: is no slice of the series beside it, or is damaged" in refusal(folder)


def test_a_dicom_file_alone_is_told_of_its_folder(tmp_path):
    folder = dicom_folder(tmp_path / "dicom", [0, 3, 6])
    assert f"is a DICOM file; give the folder that holds all slices of its series, or convert it to .nii.gz: dcm2niix -z y {folder}" in refusal(
        folder / "1.dcm")


@pytest.mark.parametrize("name, body", [("c.mha", "c.mha"), ("c.nrrd", "c.nrrd"), ("c.mhd", "c.zraw"), ("c.nhdr", "c.raw.gz")])
def test_no_flipped_bit_changes_a_voxel_of_another_format(name, body, tmp_path, capfd):
    sitk = pytest.importorskip("SimpleITK")
    print(f"seed {SEED}: repeat with CSAM_LITE_TEST_SEED={SEED}")
    rng = np.random.default_rng(SEED)
    image = sitk.GetImageFromArray(rng.integers(0, 900, (6, 20, 24)).astype(np.int16))
    sitk.WriteImage(image, str(tmp_path / name), useCompression=True)
    content, expected = (tmp_path / body).read_bytes(), read_nifti(tmp_path / name)[1].copy()
    capfd.readouterr()
    refused = 0
    for position in rng.integers(len(content) * 3 // 4, len(content), 60):  # in the compressed voxels and their checksum
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(rng.integers(8))
        (tmp_path / body).write_bytes(damaged)
        if refusal(tmp_path / name) is None:
            np.testing.assert_array_equal(read_nifti(tmp_path / name)[1], expected)
        else:
            refused += 1
    assert refused > 40 and capfd.readouterr().err == ""  # SimpleITK's own lines would reach the user
