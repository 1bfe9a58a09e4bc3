"""The package as a stranger gets it: a wheel, installed in a clean folder, without the repository beside it."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from csam_lite.course.notebooks import copy_notebooks

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The built wheel. The sources are copied first, because a build leaves folders in them."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "csam_lite", folder / "source" / "csam_lite", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "notebooks", folder / "source" / "notebooks")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(folder), str(folder / "source")]
    subprocess.run(pip, check=True, capture_output=True, encoding="utf-8")
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_every_file_of_the_package(wheel):
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("csam_lite/")}
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "csam_lite").rglob("*")
             if path.is_file() and "__pycache__" not in path.parts}
    notebooks = {f"csam_lite/course/shipped/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert held == there | notebooks


def test_the_installed_wheel_works_in_an_empty_folder(wheel, tmp_path):
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "-q", "--target", str(site), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True, encoding="utf-8")

    def run(*arguments):
        done = subprocess.run([sys.executable, *arguments], cwd=work, capture_output=True, encoding="utf-8",
                              env=os.environ | {"PYTHONPATH": str(site)})
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("-c", "import csam_lite; print(csam_lite.__file__)").startswith(str(site))
    run("-m", "csam_lite", "phantom", "phantoms", "--volumes", "2")
    assert "2, 2 with masks" in run("-m", "csam_lite", "check", "phantoms")
    t2 = ("import nibabel; scan = nibabel.load('phantoms/imagesTr/prostate_00.nii.gz'); "
          "nibabel.save(scan.slicer[..., 0], 't2.nii.gz')")
    run("-c", t2)
    run("-m", "csam_lite", "predict", "t2.nii.gz", "mask.nii.gz")
    shipped = run("-c", "from csam_lite.training.run import PRETRAINED; print(PRETRAINED)").strip()
    run("-m", "csam_lite", "explore", shipped, "t2.nii.gz", "--out", "page.html", "--no-live")
    run("-m", "csam_lite", "course", "--copy", "notebooks")
    copy_notebooks(tmp_path / "expected", ROOT / "notebooks")
    for path in (tmp_path / "expected").iterdir():
        assert (work / "notebooks" / path.name).read_bytes() == path.read_bytes()
    assert (work / "mask.nii.gz").stat().st_size > 100 and (work / "page.html").stat().st_size > 100_000
