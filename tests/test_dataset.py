"""What a folder holds, who is in which split, and the network's grid."""

import json

import numpy as np
import pytest
import torch
from conftest import blob, describe, write_nifti

from csam_lite.common.errors import InputError
from csam_lite.data.dataset import Case, find_dataset, patient_of, split
from csam_lite.data.grid import Grid
from csam_lite.data.nifti import read_nifti, volumes_in
from csam_lite.data.scan import read_scan
from csam_lite.data.survey import survey


def cases(patients, each=2):
    return [Case(f"{patient}_{visit}", patient, None, None) for patient in map(str, range(patients)) for visit in range(each)]


def test_decathlon_and_plain_folders_hold_the_same(decathlon):
    described = find_dataset(decathlon)
    assert described.labels == {1: "PZ", 2: "TZ"} and described.zones == (1, 2) and len(described.cases) == 4
    (decathlon / "dataset.json").unlink()
    for old, new in (("imagesTr", "images"), ("labelsTr", "labels")):
        (decathlon / old).rename(decathlon / new)
    plain = find_dataset(decathlon)
    assert plain.channels == ("channel 0",)
    assert [case.name for case in plain.cases] == [case.name for case in described.cases] and list(plain.labels) == [1, 2]
    (decathlon / "labels" / "a.nii.gz").unlink()
    assert len(find_dataset(decathlon).cases) == 4 and len(find_dataset(decathlon, labelled=True).cases) == 3


def test_a_folder_of_scans_without_masks(decathlon):
    dataset = find_dataset(decathlon / "imagesTr")
    assert len(dataset.cases) == 4 and dataset.labels == {} and dataset.read(dataset.cases[0]).label is None
    with pytest.raises(InputError, match="no masks"):
        find_dataset(decathlon / "imagesTr", labelled=True)


def test_label_values_with_gaps_become_classes_in_order(decathlon):
    for path in (decathlon / "labelsTr").iterdir():
        import nibabel
        mask = np.asanyarray(nibabel.load(path).dataobj)
        write_nifti(path, np.array([0, 7, 200], np.uint8)[mask])
    describe(decathlon, "abcd", labels={"0": "background", "200": "core", "7": "ring"})
    dataset = find_dataset(decathlon)
    assert dataset.labels == {7: "ring", 200: "core"} and dataset.classes == ("ring", "core")
    assert np.unique(dataset.read(dataset.cases[0]).label).tolist() == [0, 1, 2]


@pytest.mark.parametrize("lone, choices", [(1, {"drop": None, "remap": {2}, "keep": {1}}), (2, {"drop": None, "keep": {2}})])
def test_a_case_with_one_zone_is_found_in_the_data_and_never_passed_over(decathlon, lone, choices):
    image, mask = blob((40, 36, 5), np.random.default_rng(1))
    write_nifti(decathlon / "labelsTr" / "b.nii.gz", (lone * (mask > 0)).astype(np.uint8))
    dataset = find_dataset(decathlon)
    with pytest.raises(InputError, match="b.nii.gz: holds only .*--one-zone"):
        dataset.read(dataset.cases[1])
    for choice, present in choices.items():
        scan = dataset.read(dataset.cases[1], choice)
        assert scan is None if present is None else set(np.unique(scan.label)) - {0} == present
    assert [problem["case"] for problem in survey(decathlon, progress=False)[1]] == ["b"]
    assert not survey(decathlon, one_zone="keep", progress=False)[1]


def test_zones_are_only_asked_of_zonal_sets(decathlon):
    describe(decathlon, "abcd", labels={"0": "background", "1": "RV", "2": "LV"})
    _, mask = blob((40, 36, 5), np.random.default_rng(1))
    write_nifti(decathlon / "labelsTr" / "b.nii.gz", (mask > 0).astype(np.uint8))
    facts, problems = survey(decathlon, progress=False)
    assert not problems and {"fact": "without LV", "value": "1 volumes (remark, no problem)"} in facts


def test_patients_are_never_in_two_parts():
    everyone = cases(20)
    train, val, test = split(everyone, seed=1, test=0.2, val=3)
    names = [{case.patient for case in part} for part in (train, val, test)]
    assert [len(part) for part in names] == [13, 3, 4] and len(set.union(*names)) == 20
    assert sum(len(part) for part in (train, val, test)) == 40
    assert split(everyone, seed=1, test=0.2, val=3) == (train, val, test) != split(everyone, seed=2, test=0.2, val=3)
    assert not split(everyone, seed=1, test=0, val=0)[1] and not split(everyone, seed=1, test=0, val=0)[2]


def test_every_patient_is_tested_in_one_fold():
    tested = [case.patient for fold in range(5) for case in split(cases(13, each=1), seed=0, val=1, folds=5, fold=fold)[2]]
    assert sorted(tested) == sorted(str(i) for i in range(13))
    with pytest.raises(InputError, match="fold 5 of 5"):
        split(cases(13), seed=0, folds=5, fold=5)
    with pytest.raises(InputError, match="too few"):
        split(cases(3), seed=0, test=2, val=1)


def test_patients_are_read_from_names_or_given(decathlon):
    names = {"patient001_frame12": "patient001", "p1_visit2_frame01": "p1", "sub-01_ses-01_T2w": "sub-01", "mri_scan_01": "mri_scan_01",
             "SC-HF-I-01_ph08": "SC-HF-I-01", "prostate_18": "prostate_18", "p7_ED": "p7", "x-visit2": "x"}
    assert {name: patient_of(name) for name in names} == names
    info = json.loads((decathlon / "dataset.json").read_text(encoding="utf-8"))
    for entry in info["training"]:
        entry["patient"] = "same"
    (decathlon / "dataset.json").write_text(json.dumps(info), encoding="utf-8")
    assert {case.patient for case in find_dataset(decathlon).cases} == {"same"}


def test_the_grid_holds_the_masks_and_the_way_back_returns_them(tmp_path):
    image, mask = blob((90, 70, 6), np.random.default_rng(0))
    affine = np.diag([0.8, 0.5, 4, 1])
    scan = read_scan(write_nifti(tmp_path / "i.nii.gz", image, affine), write_nifti(tmp_path / "l.nii.gz", mask, affine))
    for pixels in (48, 65, 128):
        grid = Grid.fit([scan], pixels, num_classes=3)
        assert grid.spacing >= np.sqrt(0.8 * 0.5) - 1e-4
        x, y = grid.image(scan), grid.label(scan)
        assert x.shape == (6, 1, pixels, pixels) and y.shape == (6, pixels, pixels) and x.isfinite().all()
        assert y[:, 0].sum() == y[:, -1].sum() == y[..., 0].sum() == y[..., -1].sum() == 0  # nothing is cut
        ml = [float((y == k).sum()) * 4 * grid.spacing**2 / float((scan.label == k).sum() * 4 * 0.4) for k in (1, 2)]
        assert np.allclose(ml, 1, atol=0.05)
        back = grid.restore(torch.nn.functional.one_hot(y.long(), 3).permute(0, 3, 1, 2).float(), scan).argmax(1).numpy()
        assert back.shape == scan.label.shape and 2 * (back & scan.label > 0).sum() / ((back > 0).sum() + (scan.label > 0).sum()) > 0.95
        core = y == 2
        assert x[:, 0][core].mean() > x[:, 0][~core].mean() + 1  # image and label stay on each other


def test_intensities_do_not_depend_on_scale_offset_or_a_few_hot_pixels(tmp_path):
    image, _ = blob((40, 36, 5), np.random.default_rng(0))
    plain, scaled = (read_scan(write_nifti(tmp_path / f"{i}.nii.gz", a)) for i, a in enumerate((image, 7 * image + 300)))
    image.flat[::1000] = 1e5
    hot = read_scan(write_nifti(tmp_path / "hot.nii.gz", image))
    grid = Grid(32, 0.5, 3)
    x = grid.image(plain)
    assert abs(x.mean()) < 1e-4 and abs(x.std() - 1) < 0.01
    torch.testing.assert_close(grid.image(scaled), x, atol=1e-3, rtol=1e-3)
    assert (grid.image(hot) - x).abs().median() < 0.1


@pytest.mark.parametrize("scale", [1e-12, 1e-9, 1e20])
def test_intensities_of_any_unit_are_seen_alike(scale, tmp_path):
    """A diffusion coefficient in m2/s is of the order of 1e-9."""
    image, _ = blob((40, 36, 5), np.random.default_rng(0))
    plain, scaled = (read_scan(write_nifti(tmp_path / f"{i}.nii.gz", a)) for i, a in enumerate((image, image * np.float32(scale))))
    torch.testing.assert_close(Grid(32, 0.5, 3).image(scaled), Grid(32, 0.5, 3).image(plain), atol=1e-3, rtol=1e-3)


def test_what_stands_on_few_voxels_is_seen(tmp_path):
    image = np.zeros((40, 36, 5), np.float32)
    image[20, 16:20, 2] = 1, 2, 3, 4  # less than 0.5 % of the voxels
    x = Grid(40, 0.5, 2).image(read_scan(write_nifti(tmp_path / "x.nii.gz", image)))
    assert len(x.unique()) == 5 and abs(x.mean()) < 0.01 and x.std() > 0.9


def test_real_sets_pass_the_check(shared):
    for folder in sorted((shared / "data").iterdir()):
        if folder.is_dir():
            facts, problems = survey(folder, progress=False)
            assert not problems and facts, folder.name


def test_duplicate_names_and_wide_labels_are_refused(decathlon):
    info = json.loads((decathlon / "dataset.json").read_text(encoding="utf-8"))
    (decathlon / "dataset.json").write_text(json.dumps(info | {"training": info["training"] * 2}), encoding="utf-8")
    with pytest.raises(InputError, match="several images are named a"):
        find_dataset(decathlon)
    (decathlon / "dataset.json").write_text(json.dumps(info | {"labels": {"0": "background", "1": "PZ", "300": "TZ"}}), encoding="utf-8")
    with pytest.raises(InputError, match="labels must be 0 to 255"):
        find_dataset(decathlon)


def test_a_transposed_mask_is_on_another_grid(tmp_path):
    image, mask = blob((40, 40, 5), np.random.default_rng(0))
    swapped = np.diag([0.5, 0.5, 3, 1.0])[:, [1, 0, 2, 3]]  # its affine is right, but its voxels do not lie on the image's
    with pytest.raises(InputError, match="mm off the image's"):
        read_scan(write_nifti(tmp_path / "i.nii.gz", image), write_nifti(tmp_path / "l.nii.gz", mask.swapaxes(0, 1), swapped))


def test_check_lists_all_missing_files(decathlon):
    (decathlon / "imagesTr" / "a.nii.gz").unlink()
    (decathlon / "labelsTr" / "c.nii.gz").unlink()
    assert [problem["case"] for problem in survey(decathlon, progress=False)[1]] == ["a", "c"]
    with pytest.raises(InputError, match="a.nii.gz: is listed"):
        find_dataset(decathlon, labelled=True)


def test_some_channels_of_a_set(phantoms):
    dataset = find_dataset(phantoms)
    both = dataset.read(dataset.cases[0]).image
    assert dataset.channels == ("T2", "ADC") and both.shape[1] == 2
    for names, columns in ((("ADC",), [1]), (("ADC", "T2"), [1, 0])):
        chosen = dataset.only_channels(names)
        assert chosen.channels == names and np.array_equal(chosen.read(chosen.cases[0]).image, both[:, columns])
    again = dataset.only_channels(("ADC", "T2")).only_channels(("T2",))
    assert np.array_equal(again.read(again.cases[0]).image, both[:, [0]])
    with pytest.raises(InputError, match="has no channel DWI; it has T2, ADC"):
        dataset.only_channels(("DWI",))
    with pytest.raises(InputError, match=r"--channels T2\+T2: name each channel once"):
        dataset.only_channels(("T2", "T2"))


def spoil(decathlon, **entries):
    """Change entries of dataset.json."""
    info = json.loads((decathlon / "dataset.json").read_text(encoding="utf-8"))
    (decathlon / "dataset.json").write_text(json.dumps(info | entries), encoding="utf-8")


def plain(folder, names="abcd", change=None):
    """A plain folder, images/ and labels/; `change` turns the masks into something else."""
    rng = np.random.default_rng(0)
    for name in names:
        image, mask = blob((40, 36, 5), rng)
        write_nifti(folder / "images" / f"{name}.nii.gz", image)
        write_nifti(folder / "labels" / f"{name}.nii.gz", change(mask) if change else mask)
    return folder


def row(folder, fact, **options):
    return {entry["fact"]: entry["value"] for entry in survey(folder, progress=False, **options)[0]}.get(fact)


@pytest.mark.row("files 7")
@pytest.mark.parametrize("change", [
    lambda mask: mask.astype(np.float64) * 1.000015, lambda mask: mask * np.float32(0.9999), lambda mask: mask.astype(np.float32),
    lambda mask: mask.astype(np.int32), lambda mask: mask.astype(">u2")])
def test_whole_numbers_are_read_whatever_type_holds_them(change, tmp_path):
    expected = plain(tmp_path / "good")
    folder = plain(tmp_path / "set", change=change)
    assert find_dataset(folder).labels == {1: "class 1", 2: "class 2"} and not survey(folder, progress=False)[1]
    for one, other in zip(find_dataset(folder).cases, find_dataset(expected).cases):
        np.testing.assert_array_equal(find_dataset(folder).read(one).label, find_dataset(expected).read(other).label)


@pytest.mark.row("files 7")
@pytest.mark.parametrize("value, text", [(1.002, "1.002"), (0.5, "0.5"), (-1, "-1"), (256, "256"), (np.nan, "nan"), (1.00123, "1.00123")])
def test_other_values_are_refused_with_digits_that_tell_why(value, text, tmp_path):
    folder = plain(tmp_path / "set", change=lambda mask: np.where(mask == 2, np.float32(value), mask.astype(np.float32)))
    problems = survey(folder, progress=False)[1]
    assert len(problems) == 4 and all(f"holds the values {text} on " in problem["problem"] for problem in problems)
    assert "no whole numbers from 0 to 255" in problems[0]["problem"]


@pytest.mark.row("files 5")
def test_images_in_place_of_masks_are_refused(tmp_path):
    from scipy.ndimage import gaussian_filter

    def grey(mask):
        return np.round(gaussian_filter((mask > 0) * 255.0, 1)).astype(np.uint8)

    folder = plain(tmp_path / "grey", change=grey)
    assert "different values, as images do" in survey(folder, progress=False)[1][0]["problem"]
    with pytest.raises(InputError, match="different values, as images do; are the folders of images and masks swapped"):
        find_dataset(folder, labelled=True)
    swapped = plain(tmp_path / "swapped")
    for case in swapped.glob("images/*"):
        image = np.clip(read_scan(case).image[:, 0].T, 0, 255).astype(np.uint8)
        write_nifti(case, image)
    (swapped / "images").rename(swapped / "x")
    (swapped / "labels").rename(swapped / "images")
    (swapped / "x").rename(swapped / "labels")
    with pytest.raises(InputError, match="swapped"):
        find_dataset(swapped, labelled=True)
    assert row(swapped, "labels").endswith("more")


@pytest.mark.row("files 5")
def test_a_stray_voxel_is_no_class(tmp_path):
    strays = iter([1, 0, 0, 0])

    def stray(mask):
        mask.flat[0] = 7 * next(strays)
        return mask

    folder = plain(tmp_path / "set", change=stray)
    with pytest.raises(InputError, match=r"the value 7 stands on 1 voxel\(s\) in all masks \(a.nii.gz\)"):
        find_dataset(folder, labelled=True)
    problems = survey(folder, progress=False)[1]
    assert problems[0]["case"] == "all" and row(folder, "label 7 class 7") == "1 volumes, 1 voxels (remark: by mistake?)"
    (folder / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "PZ", "2": "TZ", "7": "stone"}}), encoding="utf-8")
    assert find_dataset(folder, labelled=True).labels == {1: "PZ", 2: "TZ", 7: "stone"}


@pytest.mark.row("files 5")
def test_check_lists_each_label_with_its_cases_and_voxels(tmp_path):
    folder = plain(tmp_path / "set")
    scans = [find_dataset(folder).read(case) for case in find_dataset(folder).cases]
    for value in (1, 2):
        voxels = sum(int((scan.label == value).sum()) for scan in scans)
        assert row(folder, f"label {value} class {value}") == f"4 volumes, {voxels} voxels"
    assert row(folder, "planes") == "axial 4"


def test_names_for_the_labels_of_a_plain_folder(tmp_path):
    folder = plain(tmp_path / "set")
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "PZ": 1, "TZ": 2}, "modality": {"0": "T2"}}), encoding="utf-8")
    dataset = find_dataset(folder, labelled=True)
    assert dataset.labels == {1: "PZ", 2: "TZ"} and dataset.zones == (1, 2) and dataset.channels == ("T2",) and len(dataset.cases) == 4


@pytest.mark.row("files 6")
def test_an_nnunet_folder(tmp_path):
    rng = np.random.default_rng(0)
    stacked = {}
    for name in ("pros_000", "pros_001", "pros_002"):
        image, mask = blob((40, 36, 5), rng)
        stacked[name] = np.stack([image, image[::-1] * 2])
        for channel in range(2):
            write_nifti(tmp_path / "imagesTr" / f"{name}_000{channel}.nii.gz", stacked[name][channel])
        write_nifti(tmp_path / "labelsTr" / f"{name}.nii.gz", mask)
    write_nifti(tmp_path / "imagesTs" / "pros_009_0000.nii.gz", image)
    write_nifti(tmp_path / "imagesTs" / "pros_009_0001.nii.gz", image + 1)
    description = {"channel_names": {"0": "T2", "1": "ADC"}, "labels": {"background": 0, "PZ": 1, "TZ": 2}, "numTraining": 3,
                   "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    dataset = find_dataset(tmp_path)
    assert [case.name for case in dataset.cases] == ["pros_000", "pros_001", "pros_002", "pros_009"]
    assert dataset.channels == ("T2", "ADC") and dataset.labels == {1: "PZ", 2: "TZ"} and dataset.cases[3].label is None
    assert not survey(tmp_path, progress=False)[1] and len(find_dataset(tmp_path, labelled=True).cases) == 3
    for case in dataset.cases[:3]:
        scan = dataset.read(case)
        np.testing.assert_array_equal(np.moveaxis(scan.image, 1, 0)[..., ::-1, ::-1].transpose(0, 3, 2, 1), stacked[case.name])
    assert np.array_equal(dataset.only_channels(["ADC"]).read(case).image, scan.image[:, [1]])
    (tmp_path / "imagesTr" / "pros_001_0001.nii.gz").unlink()
    assert [problem["case"] for problem in survey(tmp_path, progress=False)[1]] == ["pros_001"]
    with pytest.raises(InputError, match="pros_001_0001.nii.gz: is listed or has a partner, but is missing"):
        find_dataset(tmp_path, labelled=True)
    write_nifti(tmp_path / "imagesTr" / "pros_001_0001.nii.gz", image, np.diag([0.5, 0.5, 4, 1]))
    assert "lies on another grid" in survey(tmp_path, progress=False)[1][0]["problem"]
    (tmp_path / "imagesTr" / "pros_001_0001.nii.gz").unlink()
    write_nifti(tmp_path / "imagesTr" / "pros_001_0001.nii.gz", image)
    (tmp_path / "dataset.json").unlink()  # the names alone say it, too
    assert [case.name for case in find_dataset(tmp_path).cases] == ["pros_000", "pros_001", "pros_002"]
    assert find_dataset(tmp_path).channels == ("channel 0", "channel 1")


@pytest.mark.row("files 18")
def test_formats_and_suffixes_are_alike_in_folders(tmp_path):
    import nibabel

    folder = plain(tmp_path / "set")
    for part in ("images", "labels"):
        (folder / part / "a.nii.gz").rename(folder / part / "a.NII.GZ")
        image = nibabel.load(folder / part / "b.nii.gz")
        nibabel.save(nibabel.Nifti1Pair(np.asanyarray(image.dataobj), image.affine), folder / part / "b.img")
        (folder / part / "b.nii.gz").unlink()
        nibabel.save(nibabel.load(folder / part / "c.nii.gz"), folder / part / "c.nii")
        (folder / part / "c.nii.gz").unlink()
    sitk = pytest.importorskip("SimpleITK")
    sitk.WriteImage(sitk.ReadImage(str(folder / "images" / "d.nii.gz")), str(folder / "images" / "d.mha"))
    (folder / "images" / "d.nii.gz").unlink()
    dataset = find_dataset(folder, labelled=True)
    assert [case.name for case in dataset.cases] == ["a", "b", "c", "d"] and not survey(folder, progress=False)[1]


@pytest.mark.row("files 18")
def test_a_folder_of_dicom_slices_is_a_volume(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    image, mask = blob((40, 36, 5), np.random.default_rng(0))
    affine = np.diag([-0.5, -0.5, 3, 1.0])
    write_nifti(tmp_path / "whole.nii.gz", image.astype(np.int16), affine)
    volume = sitk.ReadImage(str(tmp_path / "whole.nii.gz"))
    folder = tmp_path / "set" / "images" / "a"
    folder.mkdir(parents=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(5):
        plane = volume[:, :, k]
        tags = {"0020|000e": "1.2.3", "0020|000d": "1.2", "0008|0018": f"1.2.3.{k}", "0020|0013": str(k), "0008|0060": "MR",
                "0020|0032": f"0\\0\\{3 * k}", "0020|0037": "1\\0\\0\\0\\1\\0", "0018|0050": "3", "0028|0030": "0.5\\0.5"}
        for tag, value in tags.items():
            plane.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{4 - k}.dcm"))  # file names against the order of the slices
        writer.Execute(plane)
    write_nifti(tmp_path / "set" / "labels" / "a.nii.gz", mask, affine)
    dataset = find_dataset(tmp_path / "set", labelled=True)
    scan, expected = dataset.read(dataset.cases[0]), read_scan(tmp_path / "whole.nii.gz")
    np.testing.assert_array_equal(scan.image, expected.image)
    np.testing.assert_allclose(scan.affine, affine, atol=1e-6)


@pytest.mark.row("files 17", "reliability 12")
@pytest.mark.parametrize("content, why", [
    ('{"labels": {"0": "background", "1": ["PZ", "TZ"]}}', "regions of nnU-Net"), ('{"labels": {"prostate": [1, 2]}}', "regions of nnU-Net"),
    ('{"labels": {"0": "background", "1": "PZ", "ignore": 2}}', "is not supported"), ('{"labels": {"1": null}}', "must be text"),
    ('{"modality": {"0": 5}, "labels": {}}', "must be text"), ('[' * 100_000, "dataset.json: is not"), ("[]", "is not a Decathlon"),
    ('{"training": [{"image": "a.nii.gz", "label": {}}]}', "must be text"), ('{"training": [{"label": "a"}]}', "lacks 'image'"),
    ('{"training": [{"image": "a", "label": "b", "patient": ["a"]}]}', "must be text"), ('{"training": "abc"}', "is not"),
    ('{"training": [{"image": "\\ud800", "label": "b"}]}', "printed"), ('{"training": [{"image": "\\u001b[2J", "label": "b"}]}', "printed"),
    ('{"training": [{"image": "' + "a" * 300 + '", "label": "b"}]}', "longer than 255"), ("", "is not"), ('{"one_zone": 5}', "is not"),
    ('{"training": ["a.nii.gz"]}', "a case must be"), ('{"training": {"0": {}}}', "a case must be"), ('{"test": [["a"]]}', "a case must be")])
def test_rubbish_in_dataset_json_is_one_line(decathlon, content, why):
    (decathlon / "dataset.json").write_text(content, encoding="utf-8")
    for labelled in (False, True):
        with pytest.raises(InputError, match=why) as caught:
            find_dataset(decathlon, labelled)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.row("files 17")
def test_encodings_slashes_and_home(decathlon, monkeypatch):
    content = (decathlon / "dataset.json").read_text(encoding="utf-8").replace("PZ", "Außenzone")
    (decathlon / "dataset.json").write_bytes(b"\xef\xbb\xbf" + content.encode())
    assert find_dataset(decathlon).labels[1] == "Außenzone"
    (decathlon / "dataset.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match="Latin-1.*save it again as UTF-8"):
        find_dataset(decathlon)
    (decathlon / "dataset.json").write_text(content.replace("./imagesTr/", ".\\\\imagesTr\\\\"), encoding="utf-8")
    assert not survey(decathlon, progress=False)[1]
    monkeypatch.setenv("HOME", str(decathlon.parent))
    assert len(find_dataset("~/set").cases) == 4 and read_scan("~/set/imagesTr/a.nii.gz", "~/set/labelsTr/a.nii.gz").label.any()
    with pytest.raises(InputError, match="dataset.json: is a file; give the folder"):
        find_dataset(decathlon / "dataset.json")


@pytest.mark.row("files 18")
def test_what_else_lies_in_a_folder_is_named(tmp_path):
    for k in range(3):
        (tmp_path / f"{k}.png").touch()
    with pytest.raises(InputError, match="holds no scans but 3 files .png; expected"):
        find_dataset(tmp_path)


@pytest.mark.row("files 9")
def test_scans_of_one_patient_have_one_patient():
    groups = {
        "sub-01": ["sub-01_run-1_T2w", "sub-01_run-2_T2w", "sub-01_ses-baseline", "sub-01_ses-followup_T2w", "sub-01_acq-tra", "sub-01"],
        "10005": ["10005_1000005", "10005_1000006"], "p7": ["p7_timepoint1", "p7_timepoint2", "p7_pre", "p7_post", "p7_run1", "p7_T2"]}
    for patient, names in groups.items():
        assert {patient_of(name) for name in names} == {patient}
    different = ["prostate_00", "prostate_01", "Case10", "2019_001", "2019_002", "sub-01", "sub-02_T2w", "px_0218"]
    assert len({patient_of(name) for name in different}) == len(different)


@pytest.mark.row("files 9")
def test_check_names_patients_that_may_be_one(tmp_path):
    folder = plain(tmp_path / "set", ("p01_a", "p01_b", "p02_a", "sub-03_run-1", "sub-03_run-2"))
    assert row(folder, "remark on patients").startswith("may be one patient each: p01_a and p01_b; if so")
    assert row(folder, "patients") == "4, with several volumes: sub-03 (2)"
    assert row(plain(tmp_path / "other", ("prostate_00", "prostate_01")), "remark on patients") is None


@pytest.mark.row("files 1", "files 10")
def test_check_remarks_on_planes_and_headers(tmp_path):
    folder = plain(tmp_path / "set", "ab")
    image, mask = blob((40, 36, 5), np.random.default_rng(0))
    sagittal = np.array([[0, 0, 3, 0], [0.5, 0, 0, 0], [0, 0.5, 0, 0], [0, 0, 0, 1.0]])
    write_nifti(folder / "images" / "c.nii.gz", image, sagittal)
    write_nifti(folder / "labels" / "c.nii.gz", mask, sagittal)
    assert row(folder, "planes") == "axial 2, sagittal 1" and "different planes" in row(folder, "remark on planes")
    import nibabel

    acdc = nibabel.Nifti1Image(image, None)
    acdc.header.set_zooms((0.5, 0.5, 3))
    acdc.set_qform(np.diag([0.5, 0.5, 3, 1]), 1)
    acdc.set_sform(np.diag([-1.0, -1, 1, 1]), 1)
    acdc.header.set_zooms((0.5, 0.5, 3))
    nibabel.save(acdc, folder / "images" / "a.nii.gz")
    assert row(folder, "remark on cases 1").startswith("1 case (a): Its sform gives voxels of 1 x 1 x 1, its pixdim 0.5 x 0.5 x 3; the qform")
    assert row(folder, "through-plane spacing") == "3 mm"


# cases without foreground, and remarks on many cases


@pytest.fixture
def lesions(tmp_path):
    """Six lesion scans of one class in Decathlon layout; the masks of b, c and f are empty."""
    rng, folder = np.random.default_rng(0), tmp_path / "lesions"
    for name in "abcdef":
        image, mask = blob((40, 36, 5), rng)
        write_nifti(folder / "imagesTr" / f"{name}.nii.gz", image)
        write_nifti(folder / "labelsTr" / f"{name}.nii.gz", (mask == 2).astype(np.uint8) * (name not in "bcf"))
    describe(folder, "abcdef", labels={"0": "background", "1": "lesion"})
    return folder


@pytest.mark.row("files 12")
def test_files_12_empty_masks_are_refused_kept_or_left_out_as_chosen(lesions):
    dataset = find_dataset(lesions)
    with pytest.raises(InputError, match="b.nii.gz: the mask is empty; draw it, or, .* choose --empty keep, or drop"):
        dataset.read(dataset.cases[1])
    assert not dataset.read(dataset.cases[1], empty="keep").label.any() and dataset.read(dataset.cases[1], empty="drop") is None
    facts, problems = survey(lesions, progress=False)
    assert [problem["case"] for problem in problems] == ["b", "c", "f"]
    for choice, done in (("keep", "kept"), ("drop", "left out")):
        facts, problems = survey(lesions, empty=choice, progress=False)
        assert not problems
        assert {"fact": "remark on cases 1", "value": f"3 cases (b, c, f): The mask is empty; {done} (--empty {choice})."} in facts


@pytest.mark.row("files 12")
def test_files_12_networks_train_on_cases_without_lesions_and_are_measured_on_them(lesions, tmp_path, capsys):
    from csam_lite.cli import main

    tiny = "--pixels 32 --levels 3 --base-channels 4 --epochs 1".split()
    rest = ["train", "--data", str(lesions), *tiny, "--test", "2", "--val", "2", "--split-seed", "1"]
    assert main([*rest, "--out", str(tmp_path / "error")]) == 2 and "the mask is empty" in capsys.readouterr().err
    assert main([*rest, "--out", str(tmp_path / "keep"), "--empty", "keep"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "The mask is empty" in line]
    assert len(lines) == 1 and lines[0].startswith(f"{lesions}: ") and "kept (--empty keep)" in lines[0]
    assert main(["evaluate", str(tmp_path / "keep"), "--part", "all"]) == 0
    out, err = capsys.readouterr()
    assert f"{lesions}: 3 cases (b, c, f): The mask is empty; kept (--empty keep)." in err and "6" in out
    assert len((tmp_path / "keep" / "all.csv").read_text(encoding="utf-8").splitlines()) == 7
    assert main(["evaluate", str(tmp_path / "keep"), "--part", "all", "--empty", "drop"]) == 0
    assert "3 cases (b, c, f): The mask is empty; left out (--empty drop)." in capsys.readouterr().err
    assert len((tmp_path / "keep" / "all.csv").read_text(encoding="utf-8").splitlines()) == 4
    for name in "ade":  # nothing is left to learn from
        _, mask = blob((40, 36, 5), np.random.default_rng(0))
        write_nifti(lesions / "labelsTr" / f"{name}.nii.gz", np.zeros_like(mask))
    assert main([*rest, "--out", str(tmp_path / "nothing"), "--empty", "keep"]) == 2
    assert "the masks of all training cases are empty" in capsys.readouterr().err
    assert main([*rest, "--out", str(tmp_path / "nothing"), "--empty", "drop"]) == 2
    assert "every training case is left out" in capsys.readouterr().err


def test_the_grid_fits_the_masks_that_hold_something(lesions):
    dataset = find_dataset(lesions)
    scans = [dataset.read(case, empty="keep") for case in dataset.cases]
    with_lesion = [scan for scan in scans if scan.label.any()]
    assert Grid.fit(scans, 16, 2) == Grid.fit(with_lesion, 16, 2) and len(with_lesion) == 3
    assert Grid.fit([scans[1]], 16, 2).spacing == 0.5


@pytest.mark.row("files 1")
def test_files_1_train_and_evaluate_say_what_they_believe_of_headers_once_for_each_kind(decathlon, tmp_path, capsys):
    import nibabel

    from csam_lite.cli import main

    for number, name in enumerate("abcd"):  # as in ACDC: each scan has its own voxel size in pixdim, and 1 mm in its sform
        for folder in ("imagesTr", "labelsTr"):
            path = decathlon / folder / f"{name}.nii.gz"
            size = (0.5 + 0.01 * number,) * 2 + (3.0,)
            image = nibabel.Nifti1Image(np.asanyarray(nibabel.load(path).dataobj), None)
            image.set_qform(np.diag([*size, 1]), 1)
            image.set_sform(np.diag([-1.0, -1, 1, 1]), 1)
            image.header.set_zooms(size)
            nibabel.save(image, path)
    tiny = "--pixels 32 --levels 3 --base-channels 4 --epochs 1 --test 1 --val 1".split()
    assert main(["train", "--data", str(decathlon), "--out", str(tmp_path / "run"), *tiny]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "sform" in line]
    assert line.startswith(f"{decathlon}: 3 cases (") and "the qform was used, because it agrees with pixdim" in line
    assert main(["evaluate", str(tmp_path / "run"), "--part", "all"]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "sform" in line]
    assert line.startswith(f"{decathlon}: 4 cases (a, b, c, d): Its sform gives voxels of 1 x 1 x 1")
    assert main(["check", str(decathlon)]) == 0 and "4 cases (a, b, c, d): Its sform" in capsys.readouterr().out


@pytest.mark.parametrize("labels, why", [
    ('["background", "PZ"]', "must give each number a name"), ('{"background": 0, "PZ": 1.5}', "number of 'PZ' is '1.5', and must be"),
    ('{"background": false, "PZ": true}', "must be a whole number"), ('{"background": 0, "PZ": 1, "TZ": 1}', "have the same number 1"),
    ('{"0": "background", "1": "PZ", "2": "PZ"}', "two values have the name PZ"),
    ('{"0": "background", "1": "PZ", "1": "TZ"}', "'1' stands twice"), ('{"0": "background", "²": "PZ"}', "must be a whole number")])
def test_labels_that_are_lost_or_alike_are_refused(decathlon, labels, why):
    (decathlon / "dataset.json").write_text(f'{{"labels": {labels}}}', encoding="utf-8")
    with pytest.raises(InputError, match=why):
        find_dataset(decathlon)


def test_channels_of_one_name_are_read_each_and_not_the_first_one_twice(tmp_path):
    rng = np.random.default_rng(0)
    for name in "ab":
        image, mask = blob((40, 36, 5), rng)
        write_nifti(tmp_path / "imagesTr" / f"{name}.nii.gz", np.stack([image, 3 - image, image * 2], -1))
        write_nifti(tmp_path / "labelsTr" / f"{name}.nii.gz", mask)
    describe(tmp_path, "ab", modality={"0": "MRI", "1": "MRI", "2": "CT"})
    dataset = find_dataset(tmp_path)
    assert dataset.channels == ("MRI 0", "MRI 1", "CT")
    expected = read_scan(tmp_path / "imagesTr" / "a.nii.gz").image
    np.testing.assert_array_equal(dataset.read(dataset.cases[0]).image, expected)
    np.testing.assert_array_equal(dataset.only_channels(["MRI 1"]).read(dataset.cases[0]).image, expected[:, [1]])


@pytest.mark.parametrize("part", ["images", "labels"])
def test_two_files_of_one_name_are_named_and_neither_is_chosen(part, tmp_path):
    import nibabel

    folder = plain(tmp_path / "set")
    nibabel.save(nibabel.load(folder / part / "b.nii.gz"), folder / part / "b.nii")
    with pytest.raises(InputError, match=f"{part}: holds b.nii and b.nii.gz, two volumes of one name; move one of them away"):
        find_dataset(folder)


@pytest.mark.parametrize("part", ["images", "labels"])
def test_a_link_that_leads_nowhere_is_a_problem_and_no_case_less(part, tmp_path):
    folder = plain(tmp_path / "set")
    (folder / part / "b.nii.gz").unlink()
    (folder / part / "b.nii.gz").symlink_to("../.git/annex/objects/b")
    problems = survey(folder, progress=False)[1]
    assert len(problems) == 1 and problems[0]["case"] == "b" and "b.nii.gz: is a link that leads nowhere; bring the file" in problems[0]["problem"]
    with pytest.raises(InputError, match="b.nii.gz: is listed or has a partner, but is missing"):
        find_dataset(folder, labelled=True)


@pytest.mark.row("reliability 12")
@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31mb", "M\udcfcller"])
def test_a_file_name_that_cannot_be_printed_is_refused_in_one_line(name, tmp_path):
    folder = plain(tmp_path / "set", "b")
    try:
        (folder / "images" / "b.nii.gz").rename(folder / "images" / f"{name}.nii.gz")
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system takes no such name")
    with pytest.raises(InputError, match="its name holds a character that cannot be printed; rename it") as caught:
        find_dataset(folder)
    assert str(caught.value).isprintable()


def test_check_remarks_on_images_that_look_like_masks_and_on_masks_of_several_cases(decathlon):
    info = json.loads((decathlon / "dataset.json").read_text(encoding="utf-8"))
    info["training"][0]["label"] = info["training"][1]["label"]
    (decathlon / "dataset.json").write_text(json.dumps(info), encoding="utf-8")
    assert row(decathlon, "remark on masks") == "of several cases: b.nii.gz; if that is a mistake, correct dataset.json"
    assert row(decathlon, "remark on images") is None
    write_nifti(decathlon / "imagesTr" / "c.nii.gz", blob((40, 36, 5), np.random.default_rng(1))[1])
    assert row(decathlon, "remark on images") == "1 images hold few whole numbers only: masks by mistake?"
    info["training"][2]["image"] = info["training"][2]["label"]
    (decathlon / "dataset.json").write_text(json.dumps(info), encoding="utf-8")
    with pytest.raises(InputError, match="c.nii.gz is listed as the image and as the mask of one case"):
        find_dataset(decathlon)


@pytest.mark.row("files remark 4")
def test_check_says_of_test_images_that_were_not_unpacked_in_one_line(decathlon, capsys):
    from csam_lite.cli import main

    spoil(decathlon, test=[f"./imagesTs/t{number:02}.nii.gz" for number in range(16)])
    write_nifti(decathlon / "imagesTs" / "t03.nii.gz", blob((40, 36, 5), np.random.default_rng(1))[0])
    (decathlon / "imagesTs" / "t04.nii.gz").symlink_to("../.git/annex/objects/t04")
    for folder, name in (("imagesTr", "notes.txt"), ("imagesTr", "._a.nii.gz"), ("labelsTr", "a.png"), ("labelsTr", "unlisted.nii.gz")):
        (decathlon / folder / name).write_bytes(b"x")  # what lies about in such folders
    assert main(["check", str(decathlon)]) == 0
    said = capsys.readouterr().out
    assert "15 images without masks are not there: t00, t01, t02, t04," in said and "No problems found" in said
    assert row(decathlon, "volumes") == "5, 4 with masks"
    (decathlon / "imagesTs" / "t03.nii.gz").write_bytes(b"x")  # but one that is there and damaged is a problem
    assert [problem["case"] for problem in survey(decathlon, progress=False)[1]] == ["t03"]
    spoil(decathlon, training=[])  # nothing but test images: then they are what the set is for
    assert len(survey(decathlon, progress=False)[1]) == 16


def test_a_name_that_is_too_long_for_the_system_is_one_line():
    for read in (read_scan, find_dataset):
        with pytest.raises(InputError, match="cannot be read .*; check the name"):
            read("a" * 5000 + ".nii.gz")


@pytest.mark.row("reliability 25")
def test_a_float_image_among_the_masks_is_refused_in_a_moment(tmp_path):
    """It took 13 s where each value was looked up in a range."""
    import time

    from csam_lite.data.scan import mask_values

    path = write_nifti(tmp_path / "x.nii.gz", np.random.default_rng(0).random((320, 320, 20)).astype(np.float32) * 500)
    started = time.process_time()
    with pytest.raises(InputError, match="on 20.* voxels, which are no whole numbers"):
        mask_values(path)
    assert time.process_time() - started < 4


def test_masks_that_are_named_otherwise_than_their_images_are_told(tmp_path):
    folder = plain(tmp_path / "set")
    for path in list((folder / "labels").iterdir()):
        path.rename(path.with_name(path.name.replace(".nii", "_seg.nii")))
    with pytest.raises(InputError, match=r"labels: no mask has the name of an image \(a mask is a_seg.nii.gz, an image a.nii.gz\)"):
        find_dataset(folder)


def test_one_structure_under_two_values_is_no_two_classes(tmp_path):
    """Half of the masks by a program that writes 1, half by one that writes 255."""
    values = iter([1, 255, 1, 255])
    folder = plain(tmp_path / "set", change=lambda mask: ((mask > 0) * next(values)).astype(np.uint8))
    with pytest.raises(InputError, match=r"each mask holds one value only, and not all the same one, such as 1 \(a.nii.gz\) and 255 "):
        find_dataset(folder, labelled=True)
    assert "one value only" in survey(folder, progress=False)[1][0]["problem"]
    (folder / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "left", "255": "right"}}), encoding="utf-8")
    assert find_dataset(folder, labelled=True).classes == ("left", "right")


def test_a_mask_of_several_volumes_is_told_what_a_mask_is(tmp_path):
    folder = plain(tmp_path / "set", change=lambda mask: np.stack([mask == 1, mask == 2], -1).astype(np.uint8))
    assert "holds 2 volumes; a mask is one volume" in survey(folder, progress=False)[1][0]["problem"]


def test_check_remarks_on_files_that_are_left_out_and_masks_of_other_images(decathlon):
    assert row(decathlon, "remark on files") is row(decathlon, "remark on names") is None
    entries = json.loads((decathlon / "dataset.json").read_text(encoding="utf-8"))["training"]
    entries[0]["label"], entries[1]["label"] = entries[1]["label"], entries[0]["label"]
    spoil(decathlon, training=entries[:3])
    assert row(decathlon, "remark on names").startswith("the mask is named as another image: a (b.nii.gz), b (a.nii.gz); if")
    assert row(decathlon, "remark on files") == "beside the listed images lie others, which are left out: d.nii.gz"


def test_check_remarks_on_voxels_of_an_unusual_size(tmp_path):
    folder = plain(tmp_path / "set")
    assert row(folder, "remark on spacing") is None
    for part in ("images", "labels"):  # centimetres for millimetres
        volume = read_nifti(folder / part / "c.nii.gz")[1]
        write_nifti(folder / part / "c.nii.gz", volume, np.diag([0.05, 0.05, 0.3, 1]))
    assert row(folder, "remark on spacing") == "more than 4 times as coarse or as fine as usual: c; is a unit wrong?"


def test_a_file_of_the_system_hides_no_dicom_folder(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    folder = tmp_path / "images" / "case"
    folder.mkdir(parents=True)
    image = sitk.GetImageFromArray(np.arange(30, dtype=np.int16).reshape(5, 6))
    for key, value in {"0020|000e": "1.2.3", "0008|0060": "MR", "0020|0032": "0\\0\\0", "0020|0037": "1\\0\\0\\0\\1\\0"}.items():
        image.SetMetaData(key, value)
    sitk.WriteImage(image, str(folder / "slice.dcm"))
    (folder / "Thumbs.db").write_bytes(b"x")  # before "slice.dcm" in order
    assert [path.name for path in volumes_in(tmp_path / "images")] == ["case"]
