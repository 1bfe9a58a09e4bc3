"""Two processes of one command that write to the same place at the same time: one whole result of one of them, or a line that says
that the place is busy.

Training, download, unpacking and `compare` are tried in test_training.py, test_download.py and test_compare.py.
"""

import json
import os
import subprocess
import sys

import pytest
from conftest import blob, describe, write_nifti
from test_full_disk import hand_in, runtime

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forked")

# One process imports all, then forks two commands for each trial. It reads JSON, [[name, [arguments, arguments]], ...], and writes
# a line for each trial: the exit codes and what each process said.
HARNESS = r'''
import json, os, sys, time
import torch
torch.set_num_threads(1)
import matplotlib.pyplot, monai.transforms, monai.losses, nibabel, csam_lite.explorer.widget, csam_lite.training.trainer
from csam_lite.cli import main
from csam_lite.data.public_sets import get_msd_prostate
from csam_lite.common.errors import InputError


def quick_site():
    """Leave out the pages of a site and the program that makes them: a second, and a page that says whose it is."""
    from csam_lite.course.site import build

    def generate(work):
        (work / "site").mkdir()
        for name in ("sitemap.xml", "index.html"):
            (work / "site" / name).write_text(str(os.getpid()), encoding="utf-8")
        time.sleep(1)

    build.write_markdown, build._generate = lambda *_: None, generate


def command(arguments):
    if arguments[0] == "quick site":
        quick_site()
        arguments[0] = "site"
    if arguments[0] != "msd":
        return main(arguments)
    try:
        get_msd_prostate(arguments[1], arguments[2])
    except InputError as error:
        print("error:", error, file=sys.stderr)
        return 2
    return 0


for name, both in json.load(sys.stdin):
    start, processes = time.monotonic() + 0.3, []
    for number, arguments in enumerate(both):
        process = os.fork()
        if not process:
            for stream in (1, 2):
                os.dup2(os.open(f"{name}.{number}.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND), stream)
            time.sleep(max(start - time.monotonic(), 0))
            code = command(arguments)
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)
        processes.append(process)
    codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
    print(json.dumps([codes, [open(f"{name}.{number}.log", encoding="utf-8").read() for number in (0, 1)]]), flush=True)
'''


def attempt(trials, folder):
    """{name: (codes, texts)} of trials {name: (arguments, arguments)}; checks what holds for all."""
    listed = [(str(folder / name.replace(" ", "_")), [[str(a) for a in arguments] for arguments in both]) for name, both in trials.items()]
    done = subprocess.run([sys.executable, "-c", HARNESS], input=json.dumps(listed), capture_output=True, encoding="utf-8",
                          env=os.environ | {"OMP_NUM_THREADS": "1"})
    answers = dict(zip(trials, map(json.loads, done.stdout.splitlines())))
    assert len(answers) == len(trials), done.stderr[-2000:]
    for name, (codes, texts) in answers.items():
        assert 0 in codes and set(codes) <= {0, 2}, (name, codes, texts)
        for code, text in zip(codes, texts):
            assert "Traceback" not in text and "unexpected" not in text, (name, text)
            assert code == 0 or "another process" in text.splitlines()[-1] or "is not empty" in text.splitlines()[-1], (name, text)
    assert not [path for path in folder.rglob("*") if path.name.startswith(".part")]
    return answers


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("some", [("predict", "phantom", "lab release"), pytest.param(None, marks=pytest.mark.stress(
    trial="two processes at once", found=18, count=9))])
def test_two_processes_write_one_file_or_folder(some, run, phantoms, tmp_path, request):
    if some is None and "stress" not in request.config.option.markexpr:
        pytest.skip("all commands only with -m stress")
    scans = [phantoms / "imagesTr" / f"prostate_0{k}.nii.gz" for k in (0, 1)]
    out = tmp_path / "out"

    def commands(k, out):
        return {
            "predict": ["predict", scans[k], out / "m.nii.gz", "--run", run.folder, "--uncertainty", out / "u.nii.gz", "--draws", 2],
            "explore": ["explore", run.folder, scans[k], "--out", out / "p.html", "--draws", 2],
            "evaluate": ["evaluate", run.folder, "--csv", out / "t.csv", "--masks", out / "masks"],
            "gates": ["gates", run.folder, "--volumes", 2 + k, "--csv", out / "g.csv"],
            "coverage": ["coverage", "--repeats", 1, "--seed", k, "--csv", out / "c.csv"],
            "tables": ["tables", "--out", out / "t.md"],
            "phantom": ["phantom", out / "set", "--volumes", 2],
            "course copy": ["course", "--copy", out / "nb"],
            "lab release": ["lab", "release", "02", "--out", out / "lab"],
        }

    # what each of them writes alone
    alone, together = [commands(k, tmp_path / "ab"[k]) for k in (0, 1)], [commands(k, out) for k in (0, 1)]
    names = some or list(together[0])
    apart = {f"alone {name}": (alone[0][name], alone[1][name]) for name in names}
    attempt(apart | {name: (together[0][name], together[1][name]) for name in names}, tmp_path)
    first, second, both = (files_of(tmp_path / name) for name in ("a", "b", "out"))
    assert both.keys() == first.keys() == second.keys()
    for name in both:
        assert both[name] in (first[name], second[name]), name


def test_two_gradings_into_one_table_and_two_sites_in_one_folder(tmp_path):
    hand_in(tmp_path / "in")
    grade = ["lab", "grade", tmp_path / "in", "--csv", tmp_path / "g.csv", "--jobs", 1]
    site = ["quick site", tmp_path / "site"]
    answers = attempt({"grade": (grade, grade), "site": (site, site), "site again": (site, site)}, tmp_path)
    for name, says in (("grade", "is grading into this table"), ("site", "is building this site"), ("site again", "is building this site")):
        codes, texts = answers[name]
        assert sorted(codes) == [0, 2] and f"another process {says}" in "".join(texts)
    assert len((tmp_path / "g.csv").read_text(encoding="utf-8").splitlines()) == 2
    pages = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "site").iterdir()}
    assert pages.keys() == {"sitemap.xml", "index.html"} and len(set(pages.values())) == 1


def test_two_choices_for_one_public_set(tmp_path, request):
    """One chooses remap, which rewrites a mask, and one drop: the folder follows one of them, whole."""
    import numpy as np

    from csam_lite.data.public_sets import ZONES, get_msd_prostate, read_dataset

    rng = np.random.default_rng(0)
    for name in "abcd":
        image, mask = blob((40, 36, 5), rng)
        write_nifti(tmp_path / "set" / "imagesTr" / f"{name}.nii.gz", image)
        write_nifti(tmp_path / "set" / "labelsTr" / f"{name}.nii.gz", (mask > 0).astype(np.uint8) if name in "bc" else mask)
    describe(tmp_path / "set", "abcd", labels=ZONES)
    get_msd_prostate(tmp_path / "set")
    published = files_of(tmp_path / "set" / "labelsTr")
    for _ in range(3 if "stress" in request.config.option.markexpr else 1):
        attempt({"msd": (["msd", tmp_path / "set", "remap"], ["msd", tmp_path / "set", "drop"])}, tmp_path)
        dataset = read_dataset(tmp_path / "set")
        assert len(dataset["training"]) == {"remap": 4, "drop": 2}[dataset["one_zone"]["choice"]]
        assert (tmp_path / "set" / "labelsTr_published").exists() == (dataset["one_zone"]["choice"] == "remap")
        get_msd_prostate(tmp_path / "set", "keep")
        assert files_of(tmp_path / "set" / "labelsTr") == published
        (tmp_path / "msd.0.log").unlink(), (tmp_path / "msd.1.log").unlink()


@pytest.mark.stress(trial="two processes at once", found=18)
def test_two_exports_and_two_pages(stress, run, tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    pages = {"page": [["page", tmp_path / "p.html", "--run", tmp_path / "n.onnx", "--runtime", runtime()]] * 2}
    export = ["export", run.folder, tmp_path / "n.onnx"]
    attempt({"export": (export, export)} | pages, tmp_path)
    assert {path.name for path in tmp_path.iterdir() if path.suffix != ".log"} == {"n.onnx", "n.json", "p.html"}


@pytest.mark.stress(trial="two processes at once", found=18)
@pytest.mark.parametrize("name", ["course", "site"])
def test_two_courses_and_two_sites(name, stress, tmp_path):
    pytest.importorskip("zensical")
    command = [name, tmp_path / "out"] if name == "site" else ["course", "--out", tmp_path / "out", "00"]
    codes, texts = attempt({name: (command, command)}, tmp_path)[name]
    assert sorted(codes) == [0, 2] and "another process" in "".join(texts)
    assert (tmp_path / "out" / ("index.html" if name == "site" else "00_start_here.html")).stat().st_size > 1000
