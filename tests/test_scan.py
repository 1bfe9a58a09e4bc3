"""Axes, spacing and geometry of scans, and the way back onto the file's grid."""

import itertools

import nibabel
import numpy as np
import pytest
import torch
from conftest import write_nifti

from csam_lite.data.scan import read_scan, write_like


def oblique(axes, spacing, tilt=0.2):
    """An affine whose voxel axes point along, for example, ("R", "A", "S"), tilted by `tilt` radians."""
    start = nibabel.orientations.axcodes2ornt(axes)
    matrix = np.zeros((3, 3))
    for voxel_axis, (world, sign) in enumerate(start):
        matrix[int(world), voxel_axis] = sign * spacing[voxel_axis]
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ matrix, [7, -11, 13]
    return affine


ORIENTATIONS = ["".join(letters) for order in itertools.permutations([("R", "L"), ("A", "P"), ("S", "I")]) for letters in itertools.product(*order)]


@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_axial_scans_of_any_orientation_come_out_alike_and_go_back_exactly(axes, tmp_path):
    superior = next(i for i, axis in enumerate(axes) if axis in "SI")
    spacing, shape = [0.5, 0.5, 0.5], [8, 8, 8]
    spacing[superior], shape[superior] = 3.0, 5
    voxels = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    affine = oblique(axes, spacing)
    scan = read_scan(write_nifti(tmp_path / "x.nii.gz", voxels, affine))
    assert scan.image.shape == (5, 1, 8, 8) and np.allclose(scan.spacing, (3, 0.5, 0.5))
    # The world coordinates of single voxels tell where the axes point: up, to the back, to the left.
    index = np.moveaxis(np.indices(shape), 0, -1).astype(np.float32)  # (X, Y, Z, 3)
    places = [scan_of_index(tmp_path, index[..., k], affine) for k in range(3)]

    def direction(*voxel):
        """Nearest world axis of a step from voxel (0, 0, 0) of the scan to this one, and its sign."""
        start, end = (affine @ [*(place[at] for place in places), 1] for at in ((0, 0, 0), voxel))
        axis = np.abs((end - start)[:3]).argmax()
        return axis, np.sign((end - start)[axis])

    assert [direction(1, 0, 0), direction(0, 1, 0), direction(0, 0, 1)] == [(2, 1), (1, -1), (0, -1)]
    write_like(scan, {tmp_path / "back.nii.gz": scan.image[:, 0]})
    back = nibabel.load(tmp_path / "back.nii.gz")
    np.testing.assert_array_equal(back.get_fdata(dtype=np.float32), voxels)
    np.testing.assert_allclose(back.affine, affine, atol=1e-5)


def scan_of_index(folder, values, affine):
    return read_scan(write_nifti(folder / "index.nii.gz", values, affine)).image[:, 0]


@pytest.mark.parametrize("axes, plane", [("RSA", "coronal"), ("ASL", "sagittal")])
def test_other_planes_have_superior_up(axes, plane, tmp_path):
    voxels = np.zeros((8, 8, 4), np.float32)
    voxels[:, -1] = 1  # the second voxel axis runs to S: its end is on top
    scan = read_scan(write_nifti(tmp_path / "x.nii.gz", voxels, oblique(axes, (0.5, 0.5, 4))))
    assert scan.image.shape == (4, 1, 8, 8) and scan.image[:, 0, 0].all() and not scan.image[:, 0, 1:].any()


@pytest.mark.row("files 10")
def test_through_plane_axis_without_coarse_spacing(tmp_path):
    voxels = np.random.default_rng(0).normal(size=(6, 20, 20)).astype(np.float32)
    for shape in ((6, 20, 20), (20, 6, 20), (20, 20, 6)):  # crops of one axial scan: axial, whichever side is the shortest
        crop = write_nifti(tmp_path / "crop.nii.gz", np.random.default_rng(0).normal(size=shape).astype(np.float32), np.eye(4))
        scan = read_scan(crop)
        assert scan.image.shape == (shape[2], 1, shape[1], shape[0]) and scan.plane == "axial"
    nifti = nibabel.Nifti1Image(voxels, np.eye(4))
    nifti.header.set_dim_info(slice=2)
    nibabel.save(nifti, tmp_path / "header.nii")
    assert read_scan(tmp_path / "header.nii").image.shape == (20, 1, 20, 6)
    assert read_scan(write_nifti(tmp_path / "last.nii.gz", np.arange(125.0).reshape(5, 5, 5), np.eye(4))).image[0, 0, -1, -1] == 0


def test_channels_and_single_slices(tmp_path):
    voxels = np.random.default_rng(0).normal(size=(9, 8, 1, 2)).astype(np.float32)
    scan = read_scan(write_nifti(tmp_path / "x.nii.gz", voxels))
    assert scan.image.shape == (1, 2, 8, 9) and scan.shape == (9, 8, 1)
    assert read_scan(write_nifti(tmp_path / "vector.nii.gz", voxels[:, :, :, None])).image.shape == (1, 2, 8, 9)


@pytest.mark.parametrize("shape", [(1, 7, 6), (7, 1, 6), (7, 6, 1), (1, 6, 1), (6, 1, 1)])
def test_an_axis_of_one_voxel_that_is_turned_round_is_taken_by_torch(shape, tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    values = np.random.default_rng(0).integers(0, 3, shape)
    for directions in itertools.product((-1, 1), repeat=3):
        affine = np.diag([0.5, 0.6, 3, 1.0]) @ np.diag([*directions, 1])
        image = write_nifti(tmp_path / "i.nii.gz", values.astype(np.float32), affine)
        mask = write_nifti(tmp_path / "l.nii.gz", values.astype(np.uint8), affine)
        for suffix in (".nii.gz", ".nrrd"):
            for path in (image, mask):
                if suffix != ".nii.gz":
                    sitk.WriteImage(sitk.ReadImage(str(path)), str(path).replace(".nii.gz", suffix))
            scan = read_scan(tmp_path / f"i{suffix}", tmp_path / f"l{suffix}")
            for array in (scan.image[:, 0], scan.label):
                np.testing.assert_array_equal(scan.to_file_axes(torch.from_numpy(array).numpy()), values)


def test_the_label_follows_its_image(tmp_path):
    mask = np.zeros((8, 9, 5), np.uint8)
    mask[1, 2, 3] = 2
    affine = oblique("LPS", (0.5, 0.5, 3))
    image = write_nifti(tmp_path / "i.nii.gz", mask + np.random.default_rng(0).uniform(0, 0.5, mask.shape).astype(np.float32), affine)
    scan = read_scan(image, write_nifti(tmp_path / "l.nii.gz", mask, affine), {2: "TZ"})
    assert scan.label.dtype == np.uint8 and scan.label.sum() == 2
    assert np.unravel_index(scan.label.argmax(), scan.label.shape) == np.unravel_index(scan.image[:, 0].argmax(), scan.label.shape)


def test_real_oblique_scans_keep_their_world(shared):
    folder = shared / "data" / "prostate_zonal"
    for path in sorted((folder / "imagesTr").iterdir())[:3]:
        scan = read_scan(path, folder / "labelsTr" / path.name, {1: "PZ", 2: "TZ"})
        nifti = nibabel.load(folder / "labelsTr" / path.name)
        np.testing.assert_array_equal(scan.to_file_axes(scan.label), np.asanyarray(nifti.dataobj))
        # In patients the PZ lies behind the TZ: further down the rows.
        assert np.argwhere(scan.label == 1)[:, 1].mean() > np.argwhere(scan.label == 2)[:, 1].mean()
