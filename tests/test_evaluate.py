"""Metrics against cases whose values are known, and the data on which a run is measured."""

import math
import shutil
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from conftest import describe, write_nifti

from csam_lite.common.errors import InputError
from csam_lite.common.tables import write_csv
from csam_lite.data.dataset import find_dataset
from csam_lite.inference.evaluate import evaluate, reliability_of_classes
from csam_lite.inference.gate_spread import gate_spread
from csam_lite.metrics.calibration import calibration_error, organ_box, reliability
from csam_lite.metrics.overlap import mean_dice, measure, measure_slices, summarise, thirds

SPACING = (3.6, 0.5, 0.5)


def boxes(*slices, shape=(12, 30, 30)):
    mask = np.zeros(shape, np.uint8)
    for k, box in enumerate(slices, 1):
        mask[box] = k
    return mask


def test_a_shift_by_one_thick_slice_is_3_6_mm():
    reference, mask = boxes(np.s_[2:8, 5:25, 5:25]), boxes(np.s_[3:9, 5:25, 5:25])
    (row,) = measure(mask, reference, SPACING, ["organ"], is_prostate=True)
    assert row["dice"] == pytest.approx(2 * 5 / 12)
    assert row["hd95_mm"] == pytest.approx(3.6)
    assert 0 < row["assd_mm"] < 3.6
    assert row["reference_ml"] == row["volume_ml"] == pytest.approx(6 * 20 * 20 * 3.6 * 0.25 / 1000)
    # Apex: reference slices 2, 3 against 3. Mid: 4, 5. Base: 6, 7 against 6, 7 and the one too far.
    assert [row[f"dice_{third}"] for third in ("apex", "mid", "base")] == pytest.approx([2 / 3, 1, 4 / 5])


@pytest.mark.parametrize("first, last, cuts", [
    (2, 8, (0, 4, 6, 12)), (0, 12, (0, 4, 8, 12)), (3, 4, (0, 3, 4, 12)), (1, 8, (0, 3, 6, 12)), (5, 5, (0, 0, 0, 12))])
def test_thirds_hold_every_slice_once(first, last, cuts):
    reference = boxes(np.s_[first:last, 5:25, 5:25]) > 0
    assert [(third.start, third.stop) for third in thirds(reference)] == list(zip(cuts, cuts[1:]))


def test_an_in_plane_shift_uses_the_in_plane_spacing():
    row = measure(boxes(np.s_[2:8, 5:25, 7:27]), boxes(np.s_[2:8, 5:25, 5:25]), SPACING, ["organ"])[0]
    assert row["hd95_mm"] == pytest.approx(1.0)


def test_classes_their_union_and_misses():
    reference = boxes(np.s_[2:8, 5:15, 5:25], np.s_[2:8, 15:25, 5:25])
    rows = {row["class"]: row for row in measure((reference > 0).astype(np.uint8), reference, SPACING, ["PZ", "TZ"], is_prostate=True)}
    assert rows["whole gland"]["dice"] == 1 and rows["PZ"]["dice"] == pytest.approx(2 / 3) and rows["TZ"]["dice"] == 0
    assert math.isnan(rows["TZ"]["hd95_mm"]) and rows["TZ"]["volume_ml"] == 0
    nothing = measure(np.zeros_like(reference), np.zeros_like(reference), SPACING, ["PZ", "TZ"])
    assert all(math.isnan(row["dice"]) for row in nothing)


def test_summary_is_the_mean_of_subjects_not_of_voxels(tmp_path):
    small, large = boxes(np.s_[2:4, 5:7, 5:7]), boxes(np.s_[2:8, 5:25, 5:25])
    rows = measure(small, small, SPACING, ["organ"]) + measure(np.zeros_like(large), large, SPACING, ["organ"])
    (line,) = summarise(rows)
    assert line["dice"] == mean_dice(rows) == 0.5 and line["found"] == "1/2" and line["subjects"] == 2 and line["hd95_mm"] == 0
    write_csv(tmp_path / "rows.csv", rows, decimals=4)
    text = (tmp_path / "rows.csv").read_text(encoding="utf-8").splitlines()
    assert text[0].split(",") == list(rows[0]) and len(text) == 3 and text[1].startswith("organ,1.0000")


def test_calibration_counts():
    probability, truth = np.array([0.05, 0.31, 0.39, 1.0]), np.array([False, True, False, True])
    table = reliability(probability, truth)
    assert table[:, 0].tolist() == [1, 0, 0, 2, 0, 0, 0, 0, 0, 1]
    assert table[3].tolist() == pytest.approx([2, 0.7, 1]) and table[9].tolist() == [1, 1, 1]
    assert calibration_error(table) == pytest.approx((0.05 + 0.3 + 0) / 4)
    assert math.isnan(calibration_error(np.zeros((10, 3))))
    rng = np.random.default_rng(0)
    p = rng.uniform(size=200_000)
    assert calibration_error(reliability(p, rng.uniform(size=p.size) < p)) < 0.01  # said as often as it happens
    assert calibration_error(reliability(p, rng.uniform(size=p.size) < p**2)) == pytest.approx(1 / 6, abs=0.01)  # mean of p - p^2


def test_only_the_organs_box_counts_for_calibration():
    label = boxes(np.s_[2:8, 5:15, 5:25])
    right = np.stack([label == 0, label == 1], axis=1).astype(np.float32)
    table, together = reliability_of_classes(right, label)
    assert table[:, 0].sum() == 6 * 10 * 20 and calibration_error(table) == 0 and np.array_equal(table, together)  # one class: the same
    far = right.copy()
    far[0, :, 0, 0] = 0, 1  # one wrong voxel far away widens the box
    assert reliability_of_classes(far, label)[0][:, 0].sum() == 8 * 15 * 25
    empty = np.zeros_like(label)
    assert organ_box(empty) == (slice(None),) * 3


def test_dice_slice_by_slice_and_its_position():
    reference, mask = boxes(np.s_[2:7, 5:25, 5:25]), boxes(np.s_[3:9, 5:25, 5:15])
    rows = measure_slices(mask, reference, ["organ"])
    assert [row["position"] for row in rows] == [0, 0.25, 0.5, 0.75, 1]
    assert [row["dice"] for row in rows] == pytest.approx([0] + [2 / 3] * 4)
    assert measure_slices(mask, boxes(np.s_[2:3, 5:25, 5:25]), ["organ"])[0]["position"] == 0.5


def with_channels(phantoms, folder, order, names):
    """Two phantoms whose channels stand in this order under these names; without names, in a plain folder."""
    parts = ("imagesTr", "labelsTr") if names else ("images", "labels")
    for case in find_dataset(phantoms).cases[:2]:
        image = nibabel.load(case.image)
        write_nifti(folder / parts[0] / case.image.name, np.asanyarray(image.dataobj)[..., order], image.affine)
        (folder / parts[1]).mkdir(exist_ok=True)
        shutil.copy(case.label, folder / parts[1])
    if names:
        describe(folder, [path.name.removesuffix(".nii.gz") for path in sorted((folder / parts[0]).iterdir())], modality=names)
    return folder


def test_channels_are_found_by_their_names_also_in_another_order(run, phantoms, tmp_path, capsys):
    def dice(folder):
        return [row["dice"] for row in evaluate(run, folder, "all", progress=False)]

    expected = dice(with_channels(phantoms, tmp_path / "same", [0, 1], {"0": "T2", "1": "ADC"}))
    swapped = with_channels(phantoms, tmp_path / "swapped", [1, 0], {"0": "ADC", "1": "T2"})
    more = with_channels(phantoms, tmp_path / "more", [1, 1, 0], {"0": "ADC", "1": "b1000", "2": "T2"})
    assert dice(swapped) == dice(more) == expected and capsys.readouterr().err == ""
    assert gate_spread(run, swapped, progress=False) == gate_spread(run, tmp_path / "same", progress=False)
    dice(with_channels(phantoms, tmp_path / "other", [0, 1], {"0": "T1", "1": "DWI"}))
    assert "its channels T1, DWI are read as the network's, T2, ADC" in capsys.readouterr().err


def test_of_channels_without_names_none_is_chosen(run, phantoms, tmp_path):
    plain = replace(run, facts=replace(run.facts, channels=["channel 0"], labels={1: "class 1", 2: "class 2"}))
    folder = with_channels(phantoms, tmp_path, [0, 1], None)
    with pytest.raises(InputError, match="its scans have 2 channels without names, the network was trained on 1"):
        evaluate(plain, folder, "all", progress=False)
