"""The phantom: reproducible bytes, Task05's layout, and ends that a single slice cannot settle (but can in the control)."""

import json
import time
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from csam_lite.common.errors import InputError
from csam_lite.data import phantom
from csam_lite.data.phantom import (
    BLADDER_ABOVE_BASE,
    BULB_BELOW_APEX,
    DEPTHS,
    FINE,
    GLAND,
    GRID,
    LIKE,
    acquire,
    make_anatomy,
    write_phantoms,
)


def files(folder):
    """{name inside the folder: bytes} of every file."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("set") / "phantoms", count=3, seed=5, progress=False)


def test_a_phantom_takes_about_half_a_second_of_computing(tmp_path):
    start = time.process_time()
    write_phantoms(tmp_path, count=3, seed=5, progress=False)
    assert (time.process_time() - start) / 3 < 3


def test_same_seed_same_bytes_and_volume_k_does_not_depend_on_the_count(folder, tmp_path):
    again = files(write_phantoms(tmp_path / "again", count=2, seed=5, progress=False))
    first = files(folder)
    assert {k: v for k, v in again.items() if k != "dataset.json"}.items() <= first.items()
    assert first["imagesTr/prostate_00.nii.gz"] != first["imagesTr/prostate_01.nii.gz"]
    other = files(write_phantoms(tmp_path / "other", count=1, seed=6, progress=False))
    assert other["imagesTr/prostate_00.nii.gz"] != first["imagesTr/prostate_00.nii.gz"]


def test_layout_is_that_of_task05(folder):
    dataset = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    assert dataset["tensorImageSize"] == "4D" and dataset["modality"] == {"0": "T2", "1": "ADC"}
    assert dataset["labels"] == {"0": "background", "1": "PZ", "2": "TZ"}
    assert (dataset["numTraining"], dataset["numTest"], dataset["test"]) == (3, 0, []) and len(dataset["training"]) == 3
    for case in dataset["training"]:
        image, label = nibabel.load(folder / case["image"]), nibabel.load(folder / case["label"])
        X, Y, Z, C = image.shape
        assert C == 2 and label.shape == (X, Y, Z) and X == Y and Z in DEPTHS
        assert image.get_data_dtype() == np.int16 and label.get_data_dtype() == np.uint8
        assert np.array_equal(image.affine, label.affine) and nibabel.aff2axcodes(image.affine) == ("R", "A", "S")
        assert image.header["qform_code"] == image.header["sform_code"] == 1 and image.header.get_dim_info()[2] == 2
        assert np.allclose(image.get_qform(), image.affine, atol=1e-4) and image.header.get_xyzt_units()[0] == "mm"
        column, row, through = nibabel.affines.voxel_sizes(image.affine)
        assert .5 <= column <= .8 and .5 <= row <= .8 and 3 <= round(through, 4) <= 4
        assert np.allclose(image.header.get_zooms()[:3], (column, row, through), atol=1e-4)
        truth, voxels = np.asarray(label.dataobj), np.asarray(image.dataobj)
        assert set(np.unique(truth)) == {0, 1, 2}
        assert voxels[..., 0].std() > 20 and voxels.min() >= 0
        gland_ml = np.count_nonzero(truth) * column * row * through / 1000
        assert 15 < gland_ml < 110
        assert np.median(voxels[..., 1][truth > 0]) > 2 * np.median(voxels[..., 1])   # fat, most of a slice, has next to no ADC


def test_anatomies_cover_the_sizes_of_patients():
    drawn = [make_anatomy(np.random.default_rng([1, k])) for k in range(12)]
    volumes = [a.volume_ml() for a in drawn]
    central = [np.count_nonzero(a.zones() == 2) / np.count_nonzero(a.zones()) for a in drawn]
    assert 18 < min(volumes) < 40 and 60 < max(volumes) < 110
    assert min(central) < .4 and max(central) > .55
    for a in drawn:
        level = (np.flatnonzero(a.zones().any((1, 2))) - (len(a.tissue) - 1) / 2) * a.spacing
        assert abs(level.min() - a.apex) <= FINE and abs(level.max() - a.base) <= FINE


def test_the_label_is_the_fine_truth_seen_in_thick_slices():
    anatomy = make_anatomy(np.random.default_rng(3))
    scan = acquire(anatomy, np.random.default_rng(4), slices=40, spacing=(2, 1, 1), shape=(160, 160))
    assert np.count_nonzero(scan.label) * 2 / 1000 == pytest.approx(anatomy.volume_ml(), rel=.03)
    fine = anatomy.zones() > 0
    for s, (z, y, x) in enumerate(scan.centres):
        k = round(z / FINE + (len(fine) - 1) / 2)
        if fine[k - 2:k + 3].any((1, 2)).all():     # a slice wholly inside the gland
            place = (np.argwhere(fine[k - 1:k + 2].mean(0) >= .5).mean(0) - (np.array(fine.shape[1:]) - 1) / 2) * FINE
            seen = np.argwhere(scan.label[s]).mean(0) - 79.5 + (y, x)
            assert np.abs(place - seen).max() < 1
    assert (scan.column >= (scan.label > 0)).all()
    with pytest.raises(InputError, match="exceed"):
        acquire(anatomy, np.random.default_rng(4), slices=40)


def test_the_control_differs_in_the_look_alikes_only():
    pair = [make_anatomy(np.random.default_rng(8), ambiguous) for ambiguous in (True, False)]
    assert np.array_equal(pair[0].tissue, pair[1].tissue)
    a, b = (acquire(p, np.random.default_rng(9), slices=20, spacing=(3.6, 2, 2), shape=(80, 80), noise=0) for p in pair)
    assert np.array_equal(a.label, b.label)
    changed = (np.abs(a.image - b.image) > 1e-3 * a.image.max()).any(1)
    assert changed.any() and not changed[(a.label > 0).any((1, 2))][2:-2].any()


def changed(a, b):
    """Part of the voxels of two planes (Y, X) whose tissue differs, the column and 8 mm around it left out."""
    column = np.isin(a % LIKE, GLAND) | np.isin(b % LIKE, GLAND)
    outside = ~ndimage.binary_dilation(column, iterations=10)
    return (a != b)[outside].mean()


def test_the_pelvis_stands_still_along_the_ends_and_changes_between_them():
    for k in range(6):
        anatomy = make_anatomy(np.random.default_rng([2, k]))
        plane = {name: anatomy.tissue[round(z / FINE + (GRID[0] - 1) / 2)] for name, z in (
            ("below apex", anatomy.apex - 9), ("above apex", anatomy.apex + 9), ("below base", anatomy.base - 5), ("above base", anatomy.base + 5))}
        between = changed(plane["above apex"], plane["below base"])
        assert changed(plane["below apex"], plane["above apex"]) < between / 5
        assert changed(plane["below base"], plane["above base"]) < between / 5


def test_the_stack_is_off_centre_but_shows_both_landmarks_where_it_is_long_enough():
    off = []
    for k in range(12):
        rng = np.random.default_rng([3, k])
        anatomy = make_anatomy(rng)
        scan = acquire(anatomy, rng, slices=24, spacing=(3.8, 3, 3), shape=(64, 64))
        low, high = scan.centres[[0, -1], 0] + (-1.9, 1.9)
        assert low <= anatomy.apex - BULB_BELOW_APEX - 2.9 and high >= anatomy.base + BLADDER_ABOVE_BASE + 2.9
        off.append((low + high - anatomy.apex - anatomy.base) / 2)
    assert np.std(off) > 2 and np.abs(off).max() <= 8  # a landmark in view can move it on


def end_slices(anatomy, k):
    """{end: features (2, 5)} of the column in the slices next to an end, wholly inside and wholly outside, of a normalised volume."""
    scan = acquire(anatomy, np.random.default_rng([8, k]), slices=24, spacing=(3, 1.6, 1.6), shape=(80, 80))
    volume = np.log1p(scan.image / np.median(scan.image, (0, 2, 3), keepdims=True))
    z, found = scan.centres[:, 0], {}
    for end, depth in (("apex", z - anatomy.apex), ("base", anatomy.base - z)):     # mm inside the gland
        if depth.min() < -1.6:
            pair = np.where(depth > 1.6, depth, 99).argmin(), np.where(depth < -1.6, depth, -99).argmax()
            pixels = [volume[s][:, scan.column[s]] for s in pair]                    # each (2 channels, pixels of the column)
            found[end] = [[*p.mean(1), *p.std(1), np.log(p.shape[1])] for p in pixels]
    return found


def accuracy(pairs, folds=5):
    """Cross-validated accuracy of linear discriminant analysis, inside against outside; both slices of a phantom in one fold."""
    right, fold = [], np.arange(len(pairs)) % folds
    for f in range(folds):
        inside, outside = (pairs[fold != f, i] for i in (0, 1))
        spread = np.cov(np.concatenate([inside - inside.mean(0), outside - outside.mean(0)]).T) + 1e-6 * np.eye(pairs.shape[2])
        direction = np.linalg.solve(spread, inside.mean(0) - outside.mean(0))
        threshold = direction @ (inside.mean(0) + outside.mean(0)) / 2
        scores = pairs[fold == f] @ direction - threshold
        right += [*(scores[:, 0] > 0), *(scores[:, 1] < 0)]
    return np.mean(right)


def test_a_single_end_slice_is_ambiguous_except_in_the_control():
    found = {(end, ambiguous): [] for end in ("apex", "base") for ambiguous in (True, False)}
    for k in range(30):
        anatomy = make_anatomy(np.random.default_rng([7, k]))
        for ambiguous in (True, False):
            for end, pair in end_slices(replace(anatomy, ambiguous=ambiguous), k).items():
                found[end, ambiguous].append(pair)
    for (end, ambiguous), pairs in found.items():
        right = accuracy(np.array(pairs))
        print(f"\n{end}, {'ambiguous' if ambiguous else 'control'}: accuracy {right:.2f} on {len(pairs)} phantoms")
        assert len(pairs) > 24 and (right < .65 if ambiguous else right > .85)


def test_an_interrupted_run_resumes_and_leaves_no_part(folder, tmp_path, monkeypatch):
    target, real = tmp_path / "set", phantom.acquire

    calls = []

    def stop_at_second(*args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(phantom, "acquire", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        write_phantoms(target, count=3, seed=5, progress=False)
    assert sorted(files(target)) == ["imagesTr/prostate_00.nii.gz", "labelsTr/prostate_00.nii.gz"]
    kept = (target / "imagesTr/prostate_00.nii.gz").stat().st_mtime_ns
    monkeypatch.setattr(phantom, "acquire", real)
    assert files(write_phantoms(target, count=3, seed=5, progress=False)) == files(folder)
    assert (target / "imagesTr/prostate_00.nii.gz").stat().st_mtime_ns == kept


def test_a_finished_folder_is_reused(folder, monkeypatch):
    before = files(folder)
    monkeypatch.setattr(phantom, "make_anatomy", None)      # any new volume would fail
    assert files(write_phantoms(folder, count=3, seed=5, progress=False)) == before


def test_foreign_folders_and_impossible_requests_are_refused(folder, tmp_path):
    before = files(folder)
    for settings in ({"seed": 6}, {"seed": 5, "ambiguous": False}):
        with pytest.raises(InputError, match="choose another folder"):
            write_phantoms(folder, count=3, progress=False, **settings)
    assert files(folder) == before
    for name, content in (("notes.txt", "mine"), ("dataset.json", '{"name": "Prostate"}'), ("dataset.json", "[1]"), ("dataset.json", "{")):
        foreign = tmp_path / f"foreign{len(list(tmp_path.iterdir()))}"
        foreign.mkdir()
        (foreign / name).write_text(content, encoding="utf-8")
        with pytest.raises(InputError, match="choose another folder") as error:
            write_phantoms(foreign, count=1, progress=False)
        assert "\n" not in str(error.value) and files(foreign) == {name: content.encode()}
    (tmp_path / "half/imagesTr").mkdir(parents=True)
    (tmp_path / "half/imagesTr/prostate_00.nii.gz").write_bytes(b"not an image")
    with pytest.raises(InputError, match="prostate_00"):
        write_phantoms(tmp_path / "half", count=1, progress=False)
    for count, seed in ((0, 0), (1, -1)):
        with pytest.raises(InputError):
            write_phantoms(tmp_path / "none", count=count, seed=seed, progress=False)


@pytest.mark.row("reliability 20")
def test_a_phantom_that_was_cut_in_half_is_not_taken_for_finished(tmp_path):
    folder = write_phantoms(tmp_path / "set", count=1, progress=False)
    image = folder / "imagesTr" / "prostate_00.nii.gz"
    image.write_bytes(image.read_bytes()[:image.stat().st_size // 2])
    with pytest.raises(InputError, match="prostate_00.nii.gz: is not a readable image .*; delete it"):
        write_phantoms(folder, count=1, progress=False)
