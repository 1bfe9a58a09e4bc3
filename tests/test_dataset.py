"""What a folder holds, who is in which split, and the network's grid."""

import json

import numpy as np
import pytest
import torch
from conftest import blob, describe, write_nifti

from csam_lite.common.errors import InputError
from csam_lite.data.dataset import Case, find_dataset, patient_of, split
from csam_lite.data.grid import Grid
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
    info = json.loads((decathlon / "dataset.json").read_text())
    for entry in info["training"]:
        entry["patient"] = "same"
    (decathlon / "dataset.json").write_text(json.dumps(info))
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


def test_real_sets_pass_the_check(shared):
    for folder in sorted((shared / "data").iterdir()):
        if folder.is_dir():
            facts, problems = survey(folder, progress=False)
            assert not problems and facts, folder.name


def test_duplicate_names_and_wide_labels_are_refused(decathlon):
    info = json.loads((decathlon / "dataset.json").read_text())
    (decathlon / "dataset.json").write_text(json.dumps(info | {"training": info["training"] * 2}))
    with pytest.raises(InputError, match="several images are named a"):
        find_dataset(decathlon)
    (decathlon / "dataset.json").write_text(json.dumps(info | {"labels": {"0": "background", "1": "PZ", "300": "TZ"}}))
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
