"""Metrics against cases whose values are known."""

import math

import numpy as np
import pytest

from csam_lite.evaluate import mean_dice, measure, summarise, write_rows

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
    write_rows(rows, tmp_path / "rows.csv")
    text = (tmp_path / "rows.csv").read_text().splitlines()
    assert text[0].split(",") == list(rows[0]) and len(text) == 3 and text[1].startswith("organ,1.0000")
