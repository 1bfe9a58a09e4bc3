"""DATA = "msd" from end to end: a server on this machine serves phantoms in the layout of Task05."""

from __future__ import annotations

import shutil
import tarfile

import nibabel
import numpy as np
import pytest
from test_download import md5, no_waiting, server  # noqa: F401  # fixtures

from csam_lite import course
from csam_lite.common.errors import InputError
from csam_lite.data import public_sets
from csam_lite.data.phantom import write_phantoms

ONE_ZONE = ("prostate_01", "prostate_03")  # published with a gland of class 1 alone, which should be 2


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Task05_Prostate.tar of four phantoms, two of which have one zone."""
    folder = write_phantoms(tmp_path_factory.mktemp("msd") / "Task05_Prostate", count=4, seed=11, progress=False)
    for name in ONE_ZONE:
        path = folder / "labelsTr" / f"{name}.nii.gz"
        image = nibabel.load(path)
        labels = (np.asarray(image.dataobj) > 0).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(labels, image.affine, image.header), path)
    target = folder.with_name("Task05_Prostate.tar")
    with tarfile.open(target, "w") as tar:
        tar.add(folder, "Task05_Prostate")
    return target


@pytest.fixture
def served(archive, server, tmp_path, monkeypatch):  # noqa: F811
    data = archive.read_bytes()
    server.files["Task05_Prostate.tar"] = data
    monkeypatch.setattr(public_sets, "MSD_URL", f"{server.url}/Task05_Prostate.tar")
    monkeypatch.setattr(public_sets, "MSD_MD5", md5(data))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CSAM_LITE_DATA", raising=False)
    return server


def assert_usable():
    dataset = course.load_dataset("msd")
    assert len(dataset.cases) == 4 and dataset.channels == ("T2", "ADC") and dataset.classes == ("PZ", "TZ")
    for k, case in enumerate(dataset.cases):
        scan = course.load_scan(dataset, k)
        assert set(np.unique(scan.label)) == ({0, 2} if case.name in ONE_ZONE else {0, 1, 2}), case.name
    run = course.load_network(dataset)
    assert course.network_input(run, scan).shape == (len(scan.image), 1, 96, 96)


def test_the_set_is_downloaded_once_and_its_labels_corrected(served, tmp_path):
    assert_usable()
    assert_usable()
    assert len(served.asked) == 1 and (tmp_path / "course_data" / "Task05_Prostate" / "dataset.json").exists()


def test_an_answer_that_is_cut_short_is_completed(served):
    served.cut.append(100_000)
    assert_usable()
    assert served.asked == [None, "bytes=100000-"]


def test_a_damaged_archive_or_no_server_names_a_cure_that_works(served, archive, monkeypatch):
    whole = served.files["Task05_Prostate.tar"]
    served.files["Task05_Prostate.tar"] = whole[:-50_000]
    with pytest.raises(InputError, match=r"md5 .*In a notebook: put Task05_Prostate\.tar into the folder course_data") as caught:
        course.load_dataset("msd")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(public_sets, "MSD_URL", "http://127.0.0.1:1/Task05_Prostate.tar")
    with pytest.raises(InputError, match=r'refused.*In a notebook: put .* or choose DATA = "phantom"'):
        course.load_dataset("msd")
    shutil.copy(archive, "course_data/Task05_Prostate.tar")
    assert_usable()
