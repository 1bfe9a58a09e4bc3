"""A disk that is full at any write of any command: one line, exit code 2, nothing half written; with space again, it works.

The n-th file that a command opens to write in its folder is /dev/full in truth, for n = 1, 2, ... until the command is done.
Plain pytest runs the quick commands; -m stress all of them.
"""

import builtins
import importlib
import io
import json
import os
import shutil
from functools import partial
from pathlib import Path

import pytest
from conftest import TINY
from test_download import md5, msd_archive, promise12_archive, prostate158_archive

from csam_lite.cli import main

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
OPEN = io.open
TRAIN = [text for name, value in (TINY | {"epochs": 1}).items() for text in (f"--{name.replace('_', '-')}", str(value))]
PLAN = """data = {data!r}
out = {out!r}
[options]
pixels = 32
levels = 3
base_channels = 4
epochs = 1
test = 2
val = 1
[networks.plain]
attention = "none"
[networks."C$SAM"]
"""
COMMANDS = {  # what is written into `out`; True: quick
    "phantom": (True, lambda out, run, data: ["phantom", out / "set", "--volumes", 1]),
    "train": (True, lambda out, run, data: ["train", "--data", data, "--out", out / "run", *TRAIN]),
    "evaluate": (True, lambda out, run, data: ["evaluate", run, "--masks", out / "masks", "--csv", out / "t.csv"]),
    "predict": (True, lambda out, run, data: ["predict", scan(data), out / "m.nii.gz", "--run", run, "--uncertainty", out / "u.nii.gz",
                                              "--draws", 2]),
    "explore --no-live": (True, lambda out, run, data: ["explore", run, scan(data), "--out", out / "p.html", "--draws", 2, "--no-live"]),
    "explore": (False, lambda out, run, data: ["explore", run, scan(data), "--out", out / "p.html", "--draws", 2]),
    "gates": (True, lambda out, run, data: ["gates", run, "--volumes", 2, "--csv", out / "g.csv"]),
    "coverage": (True, lambda out, run, data: ["coverage", "--repeats", 1, "--csv", out / "c.csv"]),
    "tables": (True, lambda out, run, data: ["tables", "--out", out / "t.md"]),
    "export": (False, lambda out, run, data: ["export", run, out / "n.onnx"]),
    "page": (False, lambda out, run, data: ["page", out / "p.html", "--run", out.parent / "kept.onnx", "--runtime", runtime()]),
    "compare": (False, lambda out, run, data: ["compare", written(out.parent / "plan.toml", PLAN.format(data=str(data), out=str(out / "c")))]),
    "compare --collect": (False, lambda out, run, data: ["compare", out.parent / "plan.toml", "--out", out / "all", "--collect", out / "p"]),
    "course --copy": (True, lambda out, run, data: ["course", "--copy", out / "nb"]),
    "course": (False, lambda out, run, data: ["course", "--out", out / "course", "00"]),
    "lab release": (True, lambda out, run, data: ["lab", "release", "02", "--nbgrader", "--out", out / "lab"]),
    "site": (True, lambda out, run, data: ["site", out / "site"]),
    "bench": (True, lambda out, run, data: ["bench", "--pixels", 16, "--levels", 1, "--slices", 2, "--repeats", 1, "--growth", out / "g.png"]),
    "demo": (False, lambda out, run, data: ["demo", "--volumes", 4, "--out", out / "demo"]),
    "get_msd_prostate.py": (True, lambda out, run, data: [*script("get_msd_prostate", msd_archive(out.parent / "msd.tar"), out),
                                                          "--one-zone", "remap"]),
    "get_prostate158.py": (True, lambda out, run, data: [*script("get_prostate158", prostate158_archive(out.parent / "a.zip")[0], out),
                                                         "--channels", "t2+adc"]),
    "get_promise12.py": (True, lambda out, run, data: script("get_promise12", promise12_archive(out.parent / "p.zip")[0], out)),
    "make_phantom.py": (False, lambda out, run, data: ["make_phantom", "--volumes", 1, "--out", out / "set"]),
    "lab grade": (False, lambda out, run, data: ["lab", "grade", hand_in(out.parent / "in"), "--csv", out / "g.csv", "--jobs", 1, "--seed", 3]),
}


def script(name, archive, out):
    """The call of a script of data_scripts/ for an archive on this disk."""
    return [name, "--archive", archive, "--md5", md5(archive.read_bytes()), "--out", out / "set"]


def call(arguments):
    """The exit code of a command, or of a script of data_scripts/."""
    if arguments[0].startswith(("get_", "make_")):
        return importlib.import_module(arguments[0]).main(arguments[1:])
    return main(arguments)


def small(monkeypatch):
    """Make the long commands short; what they write stays."""
    from csam_lite.course import demo as demo_module
    from csam_lite.course.site import build
    from csam_lite.experiments import benchmark

    def generate(work):
        for name in ("sitemap.xml", "index.html", "in/page.html"):
            (work / "site" / name).parent.mkdir(parents=True, exist_ok=True)
            (work / "site" / name).write_text("x", encoding="utf-8")

    grown = [{"axis": axis, "size": size, "voxels": size, "milliseconds": size} for axis in ("S", "C") for size in (1, 2, 4)]
    monkeypatch.setattr(build, "write_markdown", lambda *_: None)
    monkeypatch.setattr(build, "_generate", generate)
    monkeypatch.setattr(demo_module, "demo", partial(demo_module.demo, epochs=1, pixels=32, levels=3, base_channels=4))
    monkeypatch.setattr(benchmark, "growth", lambda **_: grown)
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "data_scripts")


def scan(data):
    return data / "imagesTr" / "prostate_00.nii.gz"


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def runtime():
    from csam_lite.explorer.runtime import cache_folder

    if not cache_folder().is_dir():
        pytest.skip("onnxruntime-web was never downloaded here")
    package = cache_folder().parent / "package"
    shutil.copytree(cache_folder(), package / "dist", dirs_exist_ok=True)
    return package


def hand_in(folder):
    from csam_lite.course.notebooks import find_notebooks

    (folder / "ann").mkdir(parents=True, exist_ok=True)
    shutil.copy(next(find_notebooks().glob("02_*.ipynb")), folder / "ann" / "x.ipynb")
    return folder


class Disk:
    """Opens files as `open` does, but the `full`-th one that is opened to write below `folder` is /dev/full."""

    def __init__(self, folder):
        self.folder, self.full, self.opened = str(folder), 0, []

    def open(self, file, mode="r", *arguments, **options):
        if isinstance(file, (str, os.PathLike)) and set(mode) & set("wax+") and os.path.abspath(file).startswith(self.folder):
            self.opened.append(os.path.abspath(file))
            if len(self.opened) == self.full:
                return OPEN("/dev/full", mode.replace("x", "w"), *arguments, **options)
        return OPEN(file, mode, *arguments, **options)


def left_parts(folder):
    return [str(path) for path in folder.rglob("*") if path.name.startswith(".part") or path.name.endswith(".part")]


@pytest.fixture
def disk(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    disk = Disk(tmp_path / "out")
    monkeypatch.setattr(builtins, "open", disk.open)
    monkeypatch.setattr(io, "open", disk.open)
    return disk


def fill_at_every_write(arguments, disk, folder, capsys, most=100):
    """Run a command again and again, each time with another write that fails; return the number of writes."""
    for disk.full in range(1, most):
        if arguments[0] == "train" and list(folder.glob("out/run/*.safetensors")) and "--resume" not in arguments:
            arguments = [*arguments, "--resume"]
        disk.opened.clear()
        capsys.readouterr()
        code, said = call([str(argument) for argument in arguments]), capsys.readouterr().err
        if len(disk.opened) < disk.full:
            assert code == 0, said
            assert not left_parts(folder)
            return disk.full - 1
        failed = disk.opened[disk.full - 1]
        if failed.endswith("log.txt") and code == 0:
            continue  # the process of a notebook writes there, and had nothing to say
        lines = [line for line in said.splitlines() if line.startswith("error: ")]
        assert code == 2 and len(lines) == 1 and "Traceback" not in said and "unexpected" not in said, (failed, code, said)
        assert "cannot be written" in lines[0] and "free some space" in lines[0], (failed, lines)
        assert not left_parts(folder), failed
        for path in folder.rglob("*.json"):
            json.loads(path.read_text(encoding="utf-8"))
    raise AssertionError("never done")


def try_command(name, disk, run, phantoms, tmp_path, capsys, monkeypatch):
    small(monkeypatch)
    arguments = COMMANDS[name][1](tmp_path / "out", run.folder, phantoms)
    if name == "demo":  # its phantoms and its training are tried above
        assert call([str(argument) for argument in arguments]) == 0
    if name == "page":
        from csam_lite.inference.export import export

        export(run, tmp_path / "kept.onnx")
    if name == "compare --collect":
        written(tmp_path / "plan.toml", PLAN.format(data=str(phantoms), out=str(tmp_path / "out" / "p")))
        assert main(["compare", str(tmp_path / "plan.toml"), "--part", "1/1"]) == 0
    assert fill_at_every_write(arguments, disk, tmp_path, capsys) >= 1


@pytest.mark.parametrize("name", [name for name, (quick, _) in COMMANDS.items() if quick])
def test_a_disk_that_is_full_at_any_write_of(name, disk, run, phantoms, tmp_path, capsys, monkeypatch):
    try_command(name, disk, run, phantoms, tmp_path, capsys, monkeypatch)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.stress(trial="disk full at every write of a command", found=0))
                                  for name in COMMANDS])
def test_a_disk_that_is_full_at_any_write_of_every_command(name, stress, disk, run, phantoms, tmp_path, capsys, monkeypatch):
    try_command(name, disk, run, phantoms, tmp_path, capsys, monkeypatch)


def test_a_full_disk_of_temporary_files_is_named(disk, tmp_path, monkeypatch, capsys):
    small(monkeypatch)
    (tmp_path / "out" / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "out" / "tmp"))
    disk.full = 1
    assert main(["site", str(tmp_path / "site")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path}/out/tmp: temporary files cannot be written there (No space left on device); free some space")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    assert main(["site", str(tmp_path / "site")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path}/nowhere: temporary files cannot be written there (No such file or directory); free some space")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["out", "tmp"]
