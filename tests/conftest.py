"""Fixtures. Tests on the released modules or on real scans skip, with the reason, where the folder `../shared` is missing."""

import json
import locale
import os
import shutil
import subprocess
from pathlib import Path

if os.environ.get("PYTEST_XDIST_WORKER"):  # before torch: on two cores the threads of several workers would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / "shared"
SEED = int(os.environ.get("CSAM_LITE_TEST_SEED", np.random.SeedSequence().entropy % 10**6))  # of all random trials


@pytest.fixture
def shared():
    """The folder with golden outputs and real scans beside the repository."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared beside the repository: released outputs and real scans are missing")
    return SHARED


LONGEST = ("test_course.py", "test_explore_browser.py")  # these begin, so that all workers end at about the same time


def pytest_make_parametrize_id(val):
    """Long bytes are named by their length: an archive holds the second in which it was made, and all workers must find the same names."""
    return f"{len(val)} bytes" if isinstance(val, bytes) and len(val) > 30 else None


def pytest_collection_modifyitems(items):
    """The longest files come first; in each file the tests on clocks come last."""
    items.sort(key=lambda item: (item.path.name not in LONGEST, item.path, item.get_closest_marker("timing") is not None))
    for item in items:
        if (trial := item.get_closest_marker("stress")) and trial.kwargs:
            item.user_properties.append(("stress", trial.kwargs))  # reaches stress.py from either worker


@pytest.fixture
def stress(request):
    """Of a long trial, which plain pytest replaces by a sample."""
    if "stress" not in request.config.option.markexpr:
        pytest.skip("minutes; run it with -m stress")


@pytest.fixture
def utf8_locale():
    """torch.compile reads its own files in the encoding of the locale, and fails where this is not UTF-8."""
    before = locale.setlocale(locale.LC_CTYPE)
    if locale.getencoding().lower() not in ("utf-8", "utf8", "cp65001"):
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    yield
    locale.setlocale(locale.LC_CTYPE, before)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def seed():
    """Another one each time, printed where a test fails; CSAM_LITE_TEST_SEED repeats it."""
    seed = int(os.environ.get("CSAM_LITE_TEST_SEED", np.random.SeedSequence().entropy % 10**6))
    print(f"seed {seed}: repeat with CSAM_LITE_TEST_SEED={seed}")
    return seed


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory):
    """Six phantoms in the Decathlon layout."""
    from csam_lite.data.phantom import write_phantoms

    return write_phantoms(tmp_path_factory.mktemp("phantoms"), count=6, seed=3, progress=False)


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    """onnxruntime-web: None where the user's cache has it, else the file that npm brings."""
    from csam_lite.explorer.runtime import SHA256, VERSION, cache_folder

    if all((cache_folder() / name).is_file() for name in SHA256):
        return None
    if (npm := shutil.which("npm")) is None:
        pytest.skip("no onnxruntime-web in the cache, and no npm to bring it: apt-get install npm")
    folder = tmp_path_factory.mktemp("npm")
    done = subprocess.run([npm, "pack", f"onnxruntime-web@{VERSION}", "--silent"], cwd=folder, capture_output=True, encoding="utf-8")
    if done.returncode:
        pytest.skip(f"npm could not bring onnxruntime-web: {done.stderr.strip().splitlines()[-1:]}")
    return next(folder.glob("*.tgz"))


@pytest.fixture(scope="module")
def browser():
    """A headless browser. It ends with the file, because its loop of events would be in the way of asyncio in the files that follow."""
    from browser import chromium

    with chromium() as browser:
        yield browser


TINY = dict(pixels=32, levels=3, base_channels=4, epochs=2, test=2, val=1)


@pytest.fixture(scope="session")
def run(phantoms, tmp_path_factory):
    """A tiny trained run with a drawn slice gate, on the phantoms."""
    from csam_lite.training.config import Config
    from csam_lite.training.trainer import train

    options = dict(uncertain=True, prior=False)  # from the classes' frequencies a training as short as this would see background only
    return train(Config(str(phantoms), str(tmp_path_factory.mktemp("run") / "run"), **options, **TINY), progress=False)


@pytest.fixture(scope="session")
def shipped_network(tmp_path_factory):
    """The network that ships, as an ONNX file with its description."""
    pytest.importorskip("onnxscript", reason="no onnxscript: pip install -e '.[web]'")
    from csam_lite.inference.export import export
    from csam_lite.training.run import pretrained

    return export(pretrained(), tmp_path_factory.mktemp("shipped") / "network.onnx")[0]


def write_nifti(path, voxels, affine=None):
    """Write voxels (X, Y, Z[, C]) with a 0.5 x 0.5 x 3 mm grid unless another affine is given."""
    import nibabel

    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([0.5, 0.5, 3, 1]) if affine is None else affine), path)
    return path


def blob(shape, rng):
    """An image (X, Y, Z) with a bright core (2) in a ring (1), and the mask of both."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes[:2])) + 0.2 * np.abs(axes[2])
    mask = ((radius < 0.7).astype(np.uint8) + (radius < 0.4)).astype(np.uint8)
    return (100 * mask + rng.normal(50, 5, shape)).astype(np.float32), mask


@pytest.fixture
def decathlon(tmp_path):
    """A folder of four small cases, "a" to "d", with PZ (1) and TZ (2); tests then spoil it."""
    rng = np.random.default_rng(0)
    for name in "abcd":
        image, mask = blob((40, 36, 5), rng)
        write_nifti(tmp_path / "set" / "imagesTr" / f"{name}.nii.gz", image)
        write_nifti(tmp_path / "set" / "labelsTr" / f"{name}.nii.gz", mask)
    describe(tmp_path / "set", "abcd")
    return tmp_path / "set"


def describe(folder, names, labels=None, modality=None):
    """Write dataset.json for cases of these names."""
    info = {"name": "test", "modality": modality or {"0": "T2"}, "labels": labels or {"0": "background", "1": "PZ", "2": "TZ"}, "test": [],
            "training": [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in names]}
    (folder / "dataset.json").write_text(json.dumps(info), encoding="utf-8")
