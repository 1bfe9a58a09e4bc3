"""Masks open where their scans open, in nibabel and in ITK; headers that contradict themselves are believed or refused."""

import gzip
import itertools

import nibabel
import numpy as np
import pytest

from csam_lite.common.errors import InputError
from csam_lite.data.geometry import voxel_size
from csam_lite.data.nifti import read_nifti
from csam_lite.data.scan import read_scan, write_like

SPACING = (0.6, 0.7, 3.0)


def tilted(degrees, spacing=SPACING, origin=(-40.0, 25.0, 12.0)):
    """A right-handed affine, LPS-like, turned about two axes."""
    a, b = np.deg2rad(degrees), np.deg2rad(degrees / 3)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = about_z @ about_x * (np.array([-1, -1, 1]) * spacing), origin
    return affine


def save(path, qform=None, sform=None, codes=(1, 1), shape=(12, 10, 5), spacing=SPACING, unit="mm", version=1, big=False,
         slope=None, channels=0, dtype=np.int16, voxels=None):
    """Write a scan whose header says exactly this; qform and sform are affines or None. voxels: other ones than noise."""
    rng = np.random.default_rng(0)
    array = (rng.integers(1, 500, (*shape, channels) if channels else shape) if voxels is None else voxels).astype(dtype)
    kind = nibabel.Nifti2Image if version == 2 else nibabel.Nifti1Image
    header = kind.header_class(endianness=">" if big else "<")
    header.set_data_dtype(dtype)
    header.set_data_shape(array.shape)
    header.set_zooms((*spacing, 1.0)[:array.ndim])
    if qform is not None:
        header.set_qform(qform, codes[0])
    if sform is not None:
        header.set_sform(sform, codes[1])
    header.set_xyzt_units(unit)
    header["cal_max"] = 400
    image = kind(array, None, header)
    if slope:
        image.header.set_slope_inter(*slope)
    nibabel.save(image, path)
    return path


def in_itk(path):
    """(origin, spacing, direction, size) of the first three axes as SimpleITK reads them, or None where it refuses."""
    sitk = pytest.importorskip("SimpleITK")
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        image = reader.Execute()
    except RuntimeError:
        return None
    n = image.GetDimension()
    direction = np.reshape(image.GetDirection(), (n, n))[:3, :3]
    return image.GetOrigin()[:3], image.GetSpacing()[:3], direction, image.GetSize()[:3]


def assert_opens_at_the_same_place(mask, scan):
    there, here = in_itk(scan), in_itk(mask)
    if there is not None:
        assert here is not None, "SimpleITK opens the scan and not the mask"
        for expected, actual in zip(there, here):
            np.testing.assert_allclose(actual, expected, atol=1e-5)
    scan, mask = nibabel.load(scan), nibabel.load(mask)
    np.testing.assert_allclose(mask.affine, scan.affine, atol=1e-6)
    assert mask.shape == scan.shape[:3] and mask.header.get_xyzt_units()[0] == scan.header.get_xyzt_units()[0]
    for code in ("qform_code", "sform_code"):
        assert int(mask.header[code]) == int(scan.header[code])


def sheared(amount):
    affine = tilted(20)
    affine[0, 1] += amount
    affine[:3, :3] *= np.array(SPACING) / voxel_size(affine)
    return affine


STATES = {
    "both equal": dict(qform=tilted(20), sform=tilted(20)),
    "different places": dict(qform=tilted(20), sform=tilted(0)),
    "codes 1 and 2": dict(qform=tilted(20), sform=tilted(0), codes=(1, 2)),
    "codes 1 and 4": dict(qform=tilted(20), sform=tilted(5), codes=(1, 4)),
    "codes 3 and 3": dict(qform=tilted(20), sform=tilted(20), codes=(3, 3)),
    "qform only": dict(qform=tilted(20)),
    "sform only": dict(sform=tilted(20)),
    "neither": dict(),
    "sheared by rounding": dict(qform=tilted(20), sform=sheared(1e-4)),
    "tilted gantry": dict(sform=sheared(0.25)),
    "rounded to three digits": dict(qform=tilted(20), sform=np.round(tilted(20), 3)),
    "metre": dict(qform=tilted(20, np.array(SPACING) / 1000, (-0.04, 0.025, 0.012)), spacing=np.array(SPACING) / 1000,
                  sform=tilted(20, np.array(SPACING) / 1000, (-0.04, 0.025, 0.012)), unit="meter"),
    "micron": dict(qform=tilted(20, np.array(SPACING) * 1000, (-4e4, 2.5e4, 1.2e4)), spacing=np.array(SPACING) * 1000,
                   sform=tilted(20, np.array(SPACING) * 1000, (-4e4, 2.5e4, 1.2e4)), unit="micron"),
    "NIfTI-2": dict(qform=tilted(20), sform=tilted(0), version=2),
    "big-endian": dict(qform=tilted(20), sform=tilted(0), big=True),
    "big-endian NIfTI-2": dict(qform=tilted(20), sform=tilted(0), big=True, version=2),
    "4D": dict(qform=tilted(20), sform=tilted(0), channels=2),
    "scaled": dict(qform=tilted(20), sform=tilted(0), slope=(0.5, 7)),
    "sform of ones": dict(qform=tilted(20), sform=np.diag([-1.0, -1, 1, 1])),
    "left-handed": dict(qform=tilted(20) @ np.diag([-1, 1, 1, 1]), sform=tilted(20) @ np.diag([-1, 1, 1, 1])),
}


@pytest.mark.row("files 2", "files 3", "files 4", "files 8")
@pytest.mark.parametrize("state", STATES)
def test_what_is_written_opens_where_the_scan_opens(state, tmp_path):
    scan = read_scan(save(tmp_path / "scan.nii.gz", **STATES[state]))
    values = np.arange(scan.image[:, 0].size).reshape(scan.image[:, 0].shape)
    mask, spread = (values % 3).astype(np.uint8), (values / values.max()).astype(np.float32)
    write_like(scan, {tmp_path / "mask.nii.gz": mask, tmp_path / "map.nii": spread})
    for name, array in (("mask.nii.gz", mask), ("map.nii", spread)):
        assert_opens_at_the_same_place(tmp_path / name, tmp_path / "scan.nii.gz")
        stored = nibabel.load(tmp_path / name)
        assert stored.get_data_dtype().newbyteorder("=") == array.dtype and float(stored.header["cal_max"]) == 0
        np.testing.assert_array_equal(np.asanyarray(stored.dataobj), scan.to_file_axes(array))
    again = read_scan(tmp_path / "scan.nii.gz", tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(again.label, mask)
    np.testing.assert_allclose(sorted(scan.spacing), sorted(SPACING), rtol=1e-3)  # in mm, whatever the unit


def poke(path, changes):
    """Write other bytes into a file, which nibabel would not write: {place: (type, numbers)}."""
    content = bytearray(path.read_bytes())
    for place, (kind, numbers) in changes.items():
        raw = np.array(numbers, kind).tobytes()
        content[place:place + len(raw)] = raw
    path.write_bytes(content)
    return path


QFORM_ALONE = {254: ("<i2", 0)}
STORED = {  # bytes of a header of version 1 that other programs leave, and nibabel corrects when it writes
    "a hand of 0, qform alone": {76: ("<f4", 0)} | QFORM_ALONE,
    "a hand of 0.5, qform alone": {76: ("<f4", 0.5)} | QFORM_ALONE,
    "a hand that is no number, qform alone": {76: ("<f4", np.nan)} | QFORM_ALONE,
    "negative pixdim": {80: ("<f4", [-0.6, -0.7, -3])},
    "negative pixdim, qform alone": {80: ("<f4", [-0.6, 0.7, 3])} | QFORM_ALONE,
    "codes that nobody knows": {252: ("<i2", [77, 88])},
    "voxels from byte 0": {108: ("<f4", 0)},
    "an sform of zeros beside a qform": {280: ("<f4", [0] * 12)},
    "an sform of NaN beside a qform": {280: ("<f4", [np.nan] * 12)},
}


@pytest.mark.row("files 3")
@pytest.mark.parametrize("state", STORED)
def test_a_header_is_copied_byte_by_byte_also_where_it_is_wrong(state, tmp_path):
    path = poke(save(tmp_path / "scan.nii", **STATES["both equal"]), STORED[state])
    scan = read_scan(path)
    np.testing.assert_allclose(scan.affine, tilted(20), atol=1e-5)
    assert scan.directions == "SPL"
    assert bool(scan.remarks) == ("sform of" in state)
    write_like(scan, {tmp_path / "mask.nii.gz": (scan.image[:, 0] > 250).astype(np.uint8)})
    assert_opens_at_the_same_place(tmp_path / "mask.nii.gz", path)
    stored, written = path.read_bytes(), gzip.decompress((tmp_path / "mask.nii.gz").read_bytes())
    assert written[76:92] == stored[76:92] and written[123] == stored[123] and written[252:328] == stored[252:328]


@pytest.mark.row("reliability 15")
@pytest.mark.parametrize("numbers", [np.nan, 0.0, np.inf])
def test_an_affine_of_nan_or_zeros_is_no_guess(numbers, tmp_path):
    path = poke(save(tmp_path / "scan.nii", sform=tilted(20)), {280: ("<f4", [numbers] * 12)})
    with pytest.raises(InputError, match="its sform gives no place to its voxels .*; export it again with its geometry"):
        read_scan(path)


@pytest.mark.parametrize("version, big", [*itertools.product((1, 2), (False, True))])
def test_a_pair_of_files_is_read_and_its_mask_lies_on_it(version, big, tmp_path):
    single = save(tmp_path / "scan.nii.gz", qform=tilted(20), sform=tilted(0), version=version, big=big)
    image = nibabel.load(single)
    kind = nibabel.Nifti2Pair if version == 2 else nibabel.Nifti1Pair
    header = kind.header_class(endianness=">" if big else "<")
    for field in ("dim", "pixdim", "qform_code", "sform_code", "xyzt_units", "datatype", "bitpix", "srow_x", "srow_y", "srow_z",
                  "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):
        header[field] = image.header[field]
    nibabel.save(kind(np.asanyarray(image.dataobj), None, header), tmp_path / "pair.hdr")
    for name in ("pair.hdr", "pair.img"):
        scan = read_scan(tmp_path / name)
        np.testing.assert_array_equal(scan.image, read_scan(single).image)
        write_like(scan, {tmp_path / "mask.nii.gz": scan.image[:, 0]})
        assert_opens_at_the_same_place(tmp_path / "mask.nii.gz", single)
    (tmp_path / "pair.img").unlink()
    with pytest.raises(InputError, match="other half, pair.img, is missing"):
        read_scan(tmp_path / "pair.hdr")


def random_header(rng):
    """What `save` takes for a scan with any header, believable or not, and its true voxel size in mm."""
    spacing = np.round(np.exp(rng.uniform(np.log(0.2), np.log(8), 3)), 4)
    unit = rng.choice(["mm", "unknown", "meter", "micron"])
    factor = {"meter": 1e-3, "micron": 1e3}.get(unit, 1.0)
    flips = rng.choice([-1, 1], 3)
    qform, sform = (tilted(rng.uniform(-60, 60), spacing * factor, rng.normal(0, 80, 3) * factor) @ np.diag([*flips, 1])
                    for _ in range(2))
    if rng.random() < 0.4:
        sform = np.round(qform, int(rng.integers(2, 7)))
    if rng.random() < 0.2:
        sform[:3, :3] *= rng.uniform(0.2, 5)
    options = dict(codes=tuple(rng.integers(0, 5, 2).tolist()), spacing=spacing * factor, unit=unit,
                   version=int(rng.integers(1, 3)), big=bool(rng.random() < 0.3), channels=int(rng.integers(0, 3)),
                   slope=(0.25, -3) if rng.random() < 0.3 else None, shape=tuple(rng.integers(2, 9, 3).tolist()),
                   dtype=rng.choice([np.uint8, np.int16, np.float32, np.uint16]))
    return dict(qform=qform, sform=sform, **options), spacing


def test_any_header_is_copied_or_refused_in_one_line(tmp_path, seed):
    rng = np.random.default_rng(seed)
    written = 0
    for _ in range(150):
        options, spacing = random_header(rng)
        path = save(tmp_path / "scan.nii.gz", **options)
        try:
            scan = read_scan(path)
        except InputError as error:
            assert "\n" not in str(error) and str(path) in str(error)
            continue
        mask = rng.integers(0, 4, scan.image[:, 0].shape).astype(np.uint8)
        write_like(scan, {tmp_path / "mask.nii.gz": mask})
        assert_opens_at_the_same_place(tmp_path / "mask.nii.gz", path)
        np.testing.assert_array_equal(read_scan(path, tmp_path / "mask.nii.gz").label, mask)
        np.testing.assert_allclose(sorted(scan.spacing), sorted(spacing), rtol=0.05)  # the truth, whichever form said it
        written += 1
    assert written > 75


@pytest.mark.row("files 1")
def test_of_two_forms_that_contradict_each_other_the_believable_one_is_taken_and_said(tmp_path):
    ones = np.diag([-1.0, -1, 1, 1])
    acdc = save(tmp_path / "acdc.nii.gz", qform=tilted(20, (1.3158, 1.3158, 10)), sform=ones, spacing=(1.3158, 1.3158, 10))
    scan = read_scan(acdc)
    np.testing.assert_allclose(scan.spacing, (10, 1.3158, 1.3158), rtol=1e-4)
    assert scan.remarks == ("Its sform gives voxels of 1 x 1 x 1, its pixdim 1.316 x 1.316 x 10; the qform was used, because "
                            "it agrees with pixdim.",)
    scan = read_scan(save(tmp_path / "no_qform.nii.gz", sform=ones, spacing=(1.3158, 1.3158, 10)))
    np.testing.assert_allclose(scan.spacing, (10, 1.3158, 1.3158), rtol=1e-4)
    assert "sizes of pixdim" in scan.remarks[0]
    scan = read_scan(save(tmp_path / "no_pixdim.nii.gz", sform=tilted(20), spacing=(1, 1, 1)))
    np.testing.assert_allclose(scan.spacing, (3, 0.7, 0.6), rtol=1e-4)
    assert "the sform was used" in scan.remarks[0]
    with pytest.raises(InputError, match="its sform gives voxels of 0.6 x 0.7 x 3, its pixdim 0.8 x 0.8 x 3; correct"):
        read_scan(save(tmp_path / "neither.nii.gz", sform=tilted(20), spacing=(0.8, 0.8, 3)))
    assert read_scan(save(tmp_path / "good.nii.gz", **STATES["both equal"])).remarks == ()
    assert "left and right are a guess" in read_scan(save(tmp_path / "none.nii.gz")).remarks[0]
    assert "converted to mm" in read_scan(save(tmp_path / "metre.nii.gz", **STATES["metre"])).remarks[0]
    assert "miss the right angle by up to 18.85 degrees" in read_scan(save(tmp_path / "gantry.nii.gz", **STATES["tilted gantry"])).remarks[0]


@pytest.mark.row("files 8", "reliability 14", "reliability 15")
@pytest.mark.parametrize("spacing, unit", [((0.6, 0.6, 3), "meter"), ((0.6, 0.6, 3), "micron"), ((1e-6, 1, 1), "mm"),
                                           ((1, 1, 1e6), "mm"), ((1, 1e30, 1), "mm"), ((600, 600, 3000), "mm")])
def test_impossible_voxels_are_refused_in_one_line(spacing, unit, tmp_path):
    path = save(tmp_path / "scan.nii.gz", qform=np.diag([*spacing, 1.0]), spacing=spacing, unit=unit)
    with pytest.raises(InputError, match="scan.nii.gz: its header gives voxels of .* mm, which cannot be right") as caught:
        read_scan(path)
    assert "0 x 0" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.row("reliability 15")
@pytest.mark.parametrize("pixdim", [0.0, np.nan, np.inf])
def test_pixdim_that_is_no_number_needs_an_sform(pixdim, tmp_path):
    for name, forms in (("qform", dict(qform=tilted(20))), ("sform", dict(sform=tilted(20)))):
        path = save(tmp_path / f"{name}.nii", **forms)
        content = bytearray(path.read_bytes())
        content[80:84] = np.float32(pixdim).tobytes()  # pixdim[1]
        path.write_bytes(content)
    np.testing.assert_allclose(voxel_size(read_nifti(tmp_path / "sform.nii")[0].affine), SPACING, rtol=1e-5)
    with pytest.raises(InputError, match="no valid voxel size"):
        read_nifti(tmp_path / "qform.nii")


@pytest.mark.row("files 14")
def test_a_mask_of_another_program_is_recognised_by_any_form_of_the_scan(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    for state in ("different places", "codes 1 and 4", "qform only", "sform only", "neither", "sform of ones", "both equal"):
        path = save(tmp_path / "scan.nii.gz", **STATES[state])
        image = sitk.ReadImage(str(path))
        drawn = sitk.Cast(image > 250, sitk.sitkUInt8)
        sitk.WriteImage(drawn, str(tmp_path / "mask.nii.gz"))
        scan = read_scan(path, tmp_path / "mask.nii.gz")
        np.testing.assert_array_equal(scan.label, scan.image[:, 0] > 250, err_msg=state)


@pytest.mark.row("files 14")
def test_a_mask_that_is_elsewhere_is_refused_with_what_fits_the_fault(tmp_path):
    path = save(tmp_path / "scan.nii.gz", **STATES["different places"])
    moved = save(tmp_path / "moved.nii.gz", qform=tilted(20), sform=tilted(0, origin=(-35, 25, 12)), dtype=np.uint8)
    with pytest.raises(InputError, match="5 mm off the image's.*copy the image's header to it, otherwise resample"):
        read_scan(path, moved)
    nibabel.save(nibabel.Nifti1Image(np.ones((12, 10, 5), np.uint8), np.eye(4)), tmp_path / "eye.nii.gz")
    with pytest.raises(InputError, match="gives no position.*copy the image's header to it"):
        read_scan(path, tmp_path / "eye.nii.gz")


@pytest.mark.parametrize("size, moved, same", [(0.5, 0.09, True), (0.5, 0.11, False), (0.05, 0.02, True), (0.05, 0.09, False)])
def test_a_mask_on_the_next_voxel_is_elsewhere_also_where_voxels_are_small(size, moved, same, tmp_path):
    """As in scans of mice."""
    affine, mask = np.diag([-size, -size, 10 * size, 1]), np.zeros((12, 10, 5), np.uint8)
    image = save(tmp_path / "scan.nii.gz", qform=affine, spacing=(size, size, 10 * size))
    mask[2:6, 2:6, 2] = 1
    affine[0, 3] += moved
    label = save(tmp_path / "mask.nii.gz", qform=affine, spacing=(size, size, 10 * size), voxels=mask, dtype=np.uint8)
    if same:
        assert read_scan(image, label).label.sum() == 16
    else:
        with pytest.raises(InputError, match=f"its grid lies up to {moved} mm off"):
            read_scan(image, label)
