"""What a release needs: builds that give the same bytes, a change log, citation, type check and forms that can be read."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from importlib import metadata
from pathlib import Path

import pytest

import csam_lite

ROOT = Path(__file__).resolve().parents[1]
BUILD = "from setuptools import build_meta as build; build.build_sdist('dist'); build.build_wheel('dist')"


def built(folder, age):
    """{name: hash} of the archive and the wheel built in a copy of the sources whose files are `age` seconds old."""
    for name in ("csam_lite", "notebooks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    (folder / "dist").mkdir()
    moment = time.time() - age
    for path in folder.rglob("*"):
        os.utime(path, (moment, moment))
    environment = os.environ | {"SOURCE_DATE_EPOCH": "1700000000", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", BUILD], cwd=folder, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-2000:]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "dist").iterdir()}


def test_two_builds_give_the_same_bytes(tmp_path):
    first, second = built(tmp_path / "a" / "clone", 5000), built(tmp_path / "b" / "other", 100)
    assert first == second and sorted(Path(name).suffix for name in first) == [".gz", ".whl"]
    with tarfile.open(next((tmp_path / "a" / "clone" / "dist").glob("*.gz"))) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    assert {"pyproject.toml", "setup.py", "notebooks/00_start_here.ipynb", "csam_lite/core/attention.py"} <= names


def test_the_version_is_the_same_everywhere():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.+)$", citation, re.MULTILINE)[1] == csam_lite.__version__
    assert f"## {csam_lite.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_known_good_versions_install_on_the_oldest_python():
    """Two of them asked for 3.11.5, so that the README's lines failed with the 3.11.2 of Debian 12."""
    specifiers = pytest.importorskip("packaging.specifiers")
    pins = dict(re.findall(r"(?m)^([\w.-]+)==(.+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8")))
    oldest = re.search(r'requires-python = ">=(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))[1]
    asked = {name: distribution.metadata["Requires-Python"] or "" for name in pins
             for distribution in metadata.distributions(name=name) if distribution.version.split("+")[0] == pins[name]}
    assert len(asked) > 40
    assert {name: wish for name, wish in asked.items() if f"{oldest}.0" not in specifiers.SpecifierSet(wish)} == {}


def test_types():
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed here; it comes with csam-lite[test]")
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout


def test_forms_and_workflows_can_be_read():
    yaml = pytest.importorskip("yaml", reason="papermill brings PyYAML")
    paths = [*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff", ROOT / "environment.yml"]
    assert len(paths) >= 8
    for path in paths:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if path.parent.name == "ISSUE_TEMPLATE":
            assert {"name", "description", "body"} <= set(content) and all("type" in part for part in content["body"])
        if path.parent.name == "workflows":
            assert content["concurrency"] and all("timeout-minutes" in job for job in content["jobs"].values())


def test_what_workflows_run_is_there():
    """The files and markers that a workflow names."""
    config = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"(?:tests|csam_lite)/[\w/]+\.\w+", text):
            assert (ROOT / name).exists(), f"{path.name}: {name}"
        for words in re.findall(r"pytest -m \"?([\w ]+?)\"?(?: tests/|$)", text, re.MULTILINE):
            assert all(f'"{word}:' in config for word in words.split() if word not in ("not", "or")), f"{path.name}: {words}"
