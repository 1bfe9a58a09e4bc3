"""The saved page and the drop page in Firefox, from disk, with the network cut: masks, gates and the saved file, against Python."""

import gzip

import nibabel
import numpy as np
import pytest
import torch
from browser import Shown, gates_of, replaced_by, wait
from firefox import firefox
from test_drop_page import Dropped, t2_of
from test_explore import unpack
from test_live_page import answer_of_kernel, expected_probabilities, questions, same_mask

from csam_lite import UNet, explore
from csam_lite.data.dataset import find_dataset
from csam_lite.explorer.drop_page import write_drop_page
from csam_lite.explorer.examine import examine
from csam_lite.inference.predict import predict
from csam_lite.training.run import pretrained

pytest.importorskip("onnxruntime", reason="no onnxruntime: pip install -e '.[web]'")


def test_a_saved_page_answers_as_the_kernel_does(package, tmp_path):
    torch.manual_seed(2)
    network = UNet(1, 3, num_slices=6, base_channels=4, levels=3).eval()
    explorer = explore(network, torch.randn(6, 1, 24, 40), spacing=(3, 1, 0.5))
    explorer.save(tmp_path / "attention.html", package=package)
    view, masks = explorer.examination, []
    with firefox(tmp_path) as page:
        shown = Shown(page, tmp_path / "attention.html").ready()
        for asked in questions(view):
            shown.change(asked)
            _, kernel = unpack(answer_of_kernel(explorer, asked))
            masks.append(shown.array("prediction"))
            same_mask(masks[-1], kernel["prediction"], view, expected_probabilities(view, asked))
            np.testing.assert_allclose(shown.array("csam.0/slice/0", np.float32), kernel["csam.0/slice/0"], atol=1e-4)
    assert any((mask != masks[0]).any() for mask in masks)


def test_a_dropped_scan_is_segmented_and_saved_as_predict_does(shipped_network, package, phantoms, tmp_path):
    write_drop_page(shipped_network, tmp_path / "segment.html", package)
    scan = t2_of(nibabel.load(find_dataset(phantoms).cases[0].image), tmp_path / "scan.nii.gz")
    mask = predict(pretrained(), scan, tmp_path / "expected.nii.gz")
    view = examine(pretrained(), scan, draws=0)
    with firefox(tmp_path) as page:
        shown = Dropped(page, tmp_path / "segment.html")
        assert shown.drop(scan).startswith("scan.nii.gz: done in ")
        np.testing.assert_array_equal(shown.array("prediction"), mask)
        page.click('[data-part="save"]')
        saved = tmp_path / "downloads" / "scan_mask.nii.gz"
        wait(lambda: saved.exists() and saved.stat().st_size > 0)
        with gzip.open(saved) as file, gzip.open(tmp_path / "expected.nii.gz") as expected:
            assert file.read() == expected.read()
        asked = {"csam.1": {"slice": (gates_of(view.as_trained)["csam.1", "slice"] * 0.3).tolist()}}
        shown.change(asked)
        changed = view.answer(replaced_by(asked)).mask
        np.testing.assert_array_equal(shown.array("prediction"), changed)
        assert (changed != mask).any()
        (tmp_path / "broken.nii.gz").write_bytes(saved.read_bytes()[:500])
        assert "broken.nii.gz" in shown.drop(tmp_path / "broken.nii.gz")
