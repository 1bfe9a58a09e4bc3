"""Masks on the scan's own grid, windows over deep volumes, uncertainty from draws."""

from contextlib import nullcontext
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import torch
from conftest import blob, write_nifti

from csam_lite import UNet, UNetPlusPlus
from csam_lite.cli import main
from csam_lite.common.errors import InputError
from csam_lite.core.windows import probabilities
from csam_lite.inference.predict import predict, read_for, restore
from csam_lite.training.run import PRETRAINED, load_run, pretrained


def test_a_deep_volume_is_covered_by_windows():
    net = UNet(1, 3, num_slices=6, base_channels=4, levels=3).eval()
    for depth in (1, 5, 6, 7, 12, 13, 31):
        p = probabilities(net, torch.randn(depth, 1, 16, 16))
        assert p.shape == (depth, 3, 16, 16)
        torch.testing.assert_close(p.sum(1), torch.ones(depth, 16, 16))
    plain, x = UNet(1, 3, num_slices=6, base_channels=4, levels=3, attention="none").eval(), torch.randn(31, 1, 16, 16)
    with torch.no_grad():  # without attention a window cannot matter
        torch.testing.assert_close(probabilities(plain, x), plain(x[None])[0].softmax(1), atol=1e-5, rtol=1e-4)


def test_probabilities_add_up_to_one_where_the_networks_grid_ends(phantoms):
    """A pixel that lies half outside of it lacked a part, which a map of the entropy showed as a line through healthy tissue."""
    shipped = pretrained()
    scan = read_for(shipped, phantoms / "imagesTr" / "prostate_00.nii.gz")
    scan = replace(scan, image=np.ascontiguousarray(scan.image[:, :, 7:, :-4]))  # so that the edges fall between pixels
    values = torch.full((len(scan.image), 3, 96, 96), 0.25)
    values[:, 0] = 0.5
    p = restore(shipped, scan, values)
    torch.testing.assert_close(p.sum(1), torch.ones_like(p[:, 0]))
    spread = restore(shipped, scan, values, background=0.0)
    for found, expected in ((p[:, 0], [0.5, 1]), (p[:, 1], [0, 0.25]), (spread[:, 0], [0, 0.5])):
        torch.testing.assert_close(found.mul(1000).round().unique(), torch.tensor(expected) * 1000)


def test_the_mask_overlays_a_cropped_oblique_scan_of_any_orientation(run, phantoms, tmp_path):
    source = nibabel.load(phantoms / "imagesTr" / "prostate_00.nii.gz")
    voxels = np.asanyarray(source.dataobj)[40:271, 31:290, 2:15]
    moved = source.affine @ nibabel.affines.from_matvec(np.eye(3), [40, 31, 2])
    turned = np.moveaxis(voxels, (0, 1, 2), (1, 2, 0))[:, ::-1]  # slices first, one axis flipped
    change = np.array([[0, -1, 0, 230], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    straight = predict(run, write_nifti(tmp_path / "a.nii.gz", voxels, moved), tmp_path / "a_mask.nii.gz")
    again = predict(run, write_nifti(tmp_path / "b.nii.gz", turned, moved @ change), tmp_path / "b_mask.nii.gz")
    for name, shape, affine in (("a", voxels.shape[:3], moved), ("b", turned.shape[:3], moved @ change)):
        mask = nibabel.load(tmp_path / f"{name}_mask.nii.gz")
        assert mask.shape == shape and mask.get_data_dtype() == np.uint8
        np.testing.assert_allclose(mask.affine, affine, atol=1e-4)
    assert straight.any()
    np.testing.assert_array_equal(straight, again)  # the same anatomy, however it is stored
    a, b = (np.asanyarray(nibabel.load(tmp_path / f"{name}_mask.nii.gz").dataobj) for name in "ab")
    np.testing.assert_array_equal(np.moveaxis(a, (0, 1, 2), (1, 2, 0))[:, ::-1], b)


def test_uncertainty_is_the_spread_of_draws(run, phantoms, tmp_path):
    image = phantoms / "imagesTr" / "prostate_00.nii.gz"
    predict(run, image, tmp_path / "m.nii.gz", tmp_path / "u.nii.gz", draws=4)
    spread = nibabel.load(tmp_path / "u.nii.gz")
    values = spread.get_fdata()
    assert spread.shape == nibabel.load(image).shape[:3] and 0 <= values.min() and 0 < values.max() <= 0.5
    predict(run, image, tmp_path / "m.nii.gz", tmp_path / "one.nii.gz", draws=1)
    assert not nibabel.load(tmp_path / "one.nii.gz").get_fdata().any()
    assert not run.network.csam[0].slice.training
    before = torch.random.get_rng_state()
    predict(run, image, tmp_path / "m.nii.gz", tmp_path / "again.nii.gz", draws=4)
    assert (tmp_path / "again.nii.gz").read_bytes() == (tmp_path / "u.nii.gz").read_bytes()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_prediction_twice_is_identical(run, phantoms, tmp_path):
    for name in "ab":
        predict(load_run(run.folder), phantoms / "imagesTr" / "prostate_01.nii.gz", tmp_path / f"{name}.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_what_cannot_be_predicted_is_said_and_nothing_is_written(run, phantoms, tmp_path):
    image = phantoms / "imagesTr" / "prostate_00.nii.gz"
    one_channel = write_nifti(tmp_path / "one.nii.gz", np.asanyarray(nibabel.load(image).dataobj)[..., 0])
    out = tmp_path / "out"
    for arguments, match in [
        ((one_channel, out / "m.nii.gz"), r"has 1 channel.* trained on 2 \(T2, ADC\)"), ((image, out / "m.png"), "end in .nii.gz"),
        ((image, image), "need a name each"), ((out / "none.nii.gz", out / "m.nii.gz"), "no such file"),
    ]:
        with pytest.raises(InputError, match=match):
            predict(run, *arguments)
    run = load_run(run.folder)
    for csam in run.network.csam:
        csam.slice.normal = None  # as in a network trained without --uncertain
    with pytest.raises(InputError, match="train one with --uncertain"):
        predict(run, image, out / "m.nii.gz", out / "u.nii.gz")
    assert not out.exists()


def test_channels_are_chosen_by_their_names(run, phantoms, tmp_path, capsys):
    image = phantoms / "imagesTr" / "prostate_00.nii.gz"  # T2 and ADC; the network that ships takes T2
    voxels = np.asanyarray(nibabel.load(image).dataobj)
    affine = nibabel.load(image).affine
    t2 = write_nifti(tmp_path / "t2" / "x.nii.gz", voxels[..., 0], affine)
    both = write_nifti(tmp_path / "both" / "x.nii.gz", voxels, affine)
    swapped = write_nifti(tmp_path / "swapped" / "x.nii.gz", voxels[..., ::-1], affine)
    shipped = pretrained()
    expected = predict(shipped, t2, tmp_path / "m.nii.gz")
    assert expected.any()
    for path, channels in ((image, "T2"), (image, "T2+ADC"), (both, "T2+ADC"), (swapped, "ADC+T2"), (t2, "T2")):
        np.testing.assert_array_equal(predict(shipped, path, tmp_path / "m.nii.gz", channels=channels), expected)
    assert (predict(shipped, both, tmp_path / "m.nii.gz", channels="ADC+T2") != expected).any()  # the names are believed
    straight = predict(run, both, tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(predict(run, swapped, tmp_path / "m.nii.gz", channels="ADC+T2"), straight)
    for path, channels, says in (
        (both, "T2", r"has 2 channel\(s\) without names"), (both, "T2+T2", "name each of them once"),
        (image, "T1", "has no channel T1; it has T2, ADC"), (image, "", "or their names with --channels")):
        with pytest.raises(InputError, match=says):
            predict(shipped, path, tmp_path / "n.nii.gz", channels=channels)
    assert main(["predict", str(image), str(tmp_path / "c.nii.gz"), "--channels", "T2"]) == 0
    assert main(["explore", str(run.folder), str(image), "--channels", "ADC", "--out", str(tmp_path / "p.html")]) == 2
    assert "trained on 2 (T2, ADC)" in capsys.readouterr().err
    assert main(["explore", str(PRETRAINED), str(image), "--channels", "T2", "--out", str(tmp_path / "p.html"),
                 "--label", str(phantoms / "labelsTr" / "prostate_00.nii.gz"), "--no-live"]) == 0
    assert not (tmp_path / "n.nii.gz").exists() and (tmp_path / "p.html").stat().st_size > 1e5


@pytest.mark.row("reliability 3")
def test_a_network_that_answers_with_nan_writes_no_mask(run, phantoms, tmp_path):
    broken = load_run(run.folder)
    broken.network.down[0][0].weight.data.fill_(torch.nan)
    with pytest.raises(InputError, match="answers with NaN; train it again"):
        predict(broken, phantoms / "imagesTr" / "prostate_00.nii.gz", tmp_path / "m.nii.gz")
    assert not (tmp_path / "m.nii.gz").exists()


@pytest.mark.parametrize("D, S", [(D, S) for D in (1, 2, 3, 5, 7, 8) for S in (D, D + 1, 2 * D, 3 * D + 1, 40)])
def test_windows_cover_every_slice_and_overlap_by_half(D, S):
    seen = []

    def during(start, stop):
        seen.append((start, stop))
        return nullcontext()

    network = torch.nn.Conv2d(1, 2, 1)
    network.num_slices = D
    network.forward = lambda x: torch.nn.functional.pad(x, (0, 0, 0, 0, 0, 1))  # (B, S, 2, H, W)
    assert probabilities(network, torch.zeros(S, 1, 3, 3), during).shape == (S, 2, 3, 3)
    assert seen[0][0] == 0 and seen[-1][1] == S and all(stop - start == min(D, S) for start, stop in seen)
    assert D == 1 or all(2 * (stop - later) >= D for (_, stop), (later, _) in zip(seen, seen[1:]))


def test_a_network_with_several_answers_is_asked_for_the_last():
    network, image = UNetPlusPlus(1, 3, 6, base_channels=4, levels=3), torch.randn(5, 1, 16, 16)
    assert probabilities(network.train(), image).shape == (5, 3, 16, 16)
    torch.testing.assert_close(probabilities(network, image), probabilities(network.eval(), image))


@pytest.mark.row("files 10")
@pytest.mark.parametrize("change, says", [
    (dict(), None),
    (dict(axes=(2, 0, 1)), "Its slices are coronal; the network was trained on axial slices, so do not trust the mask."),
    (dict(spacing=(0.5, 0.5, 8)), "Its through-plane spacing is 8 mm, that of the training scans"),
    (dict(spacing=(0.02, 0.02, 3.5)), "Its in-plane spacing is 0.02 mm, that of the training scans"),
    (dict(spacing=(0.5, 0.5, 4.5)), None)])
def test_a_scan_far_from_the_training_data_is_said(change, says, run, tmp_path, capsys):
    assert run.facts.planes == ["axial"] and 3 <= run.facts.through_plane[0] <= run.facts.through_plane[1] <= 4
    voxels = np.random.default_rng(0).normal(100, 20, (40, 40, 10, 2)).astype(np.float32)
    axes = change.get("axes", (0, 1, 2))  # the world axis of each voxel axis
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    affine[axes[2], 2], affine[axes[0], 0], affine[axes[1], 1] = np.array(change.get("spacing", (0.6, 0.6, 3.5)))[[2, 0, 1]]
    predict(run, write_nifti(tmp_path / "scan.nii.gz", voxels, affine), tmp_path / "mask.nii.gz")
    err = capsys.readouterr().err
    assert (f"{tmp_path / 'scan.nii.gz'}: {says}" in err) if says else err == ""


@pytest.mark.row("files 8")
@pytest.mark.parametrize("size, says", [(60, "its pixels of 60 x 60 mm would make"), (90, "its pixels of 90 x 90 mm would make")])
def test_a_voxel_size_that_needs_a_huge_grid_is_named_before_the_grid_is_made(size, says, run, tmp_path, capsys):
    import resource

    image, _ = blob((200, 180, 4), np.random.default_rng(0))
    path = write_nifti(tmp_path / "x.nii.gz", np.stack([image, image + image.T.T * 2], -1), np.diag([size, size, 95.0, 1]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=f"x.nii.gz: {says} .* correct the voxel size in its header"):
        predict(run, path, tmp_path / "m.nii.gz")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000 and not (tmp_path / "m.nii.gz").exists()


@pytest.mark.parametrize("shift, told", [(0, False), (30, True)])
def test_a_mask_that_ends_where_the_network_reads_no_further_is_said(shift, told, run, tmp_path, capsys):
    """The network is one that finds what is bright. Its grid holds some 80 mm of an image of 120 mm."""
    class Bright(torch.nn.Conv2d):
        num_slices = 5

        def forward(self, x, mask=None):
            return torch.stack([torch.zeros_like(x[:, :, 0]), 9 * (x[:, :, 0] - 1), torch.full_like(x[:, :, 0], -9)], 2)

    bright, voxels = replace(run, network=Bright(1, 1, 1)), np.zeros((120, 120, 5, 2), np.float32)
    voxels[40 + shift:80 + shift, 40:80] = 1
    image = write_nifti(tmp_path / "scan.nii.gz", voxels, np.diag([-1, -1, 3.3, 1]))
    assert predict(bright, image, tmp_path / "mask.nii.gz").any()
    assert ("scan.nii.gz: Its mask reaches the edge of what the network reads, 8" in capsys.readouterr().err) == told
