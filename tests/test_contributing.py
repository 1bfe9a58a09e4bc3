"""The recipes of CONTRIBUTING.md, followed in a copy of the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("nbformat", reason="the course needs csam-lite[course]")

ROOT = Path(__file__).resolve().parents[1]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture
def clone(tmp_path):
    for name in ("csam_lite", "notebooks", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "golden", "results"))
    for name in ("pyproject.toml", "README.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def python(clone, *arguments, fails=False):
    """What a command printed that was run in the copy with the package of the copy."""
    environment = os.environ | {"PYTHONPATH": str(clone), "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_ADDOPTS": "-n 0"}
    done = subprocess.run([sys.executable, *arguments], cwd=clone, env=environment, capture_output=True, encoding="utf-8")
    assert (done.returncode != 0) is fails, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def block(language, beginning=""):
    """The code block of the guide with this language and first line."""
    return next(text for kind, text in re.findall(r"```(\w+)\n(.*?)```", GUIDE, re.DOTALL)
                if kind == language and text.startswith(beginning))


def edit(path, *pairs):
    text = path.read_text(encoding="utf-8")
    for before, after in pairs:
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    path.write_text(text, encoding="utf-8")


def test_an_exercise(clone):
    """Stubs that pass; a forgotten answer or call names the file to touch."""
    python(clone, "-m", "csam_lite", "course", "--new-exercise", "05", "--name", "double")
    python(clone, "-m", "ruff", "check", "--fix", "-q", "csam_lite")
    chosen = "n05-double or n05.double or (as_the_others and 05_) or enough_answers or every_check_that"
    said = python(clone, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_checks.py", "tests/test_course.py",
                  "tests/test_mutants.py", "-k", f"{chosen} or wrong[n05-double]")
    assert "failed" not in said and int(re.search(r"(\d+) passed", said)[1]) > 40
    made = python(clone, "tests/mutants.py", "n05.double")
    assert "n05.double" in made and "100.0%" in made and "passes" not in made, made
    said = python(clone, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_course.py", "-k", "as_new_as and 05", fails=True)
    assert "python -m csam_lite course --write 05" in said
    answers = clone / "tests" / "answers" / "n05.py"
    answers.write_text(answers.read_text(encoding="utf-8").split("\n\n# 05.4")[0] + "\n", encoding="utf-8")
    said = python(clone, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_checks.py", "-k", "every_check_that", fails=True)
    assert "tests/answers/n05.py: add checks.n05.double" in said
    said = python(clone, "-m", "csam_lite", "course", "--new-exercise", "05", "--name", "double", fails=True)
    assert "has double already" in said and len(said.splitlines()) == 1


def test_stubs_fit_into_every_notebook(clone):
    """The file of the check stays valid Python with all names that it needs."""
    import importlib.util

    import nbformat

    from csam_lite.course.lab.exercises import read_exercises
    from csam_lite.course.new_exercise import new_exercise

    for path in sorted((clone / "notebooks").glob("*.ipynb")):
        notebook, check, answers = new_exercise(path.stem[:2], clone, "double")
        spec = importlib.util.spec_from_file_location("changed", check)
        changed = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(changed)
        assert changed.double(lambda x: 2 * x) is True and changed.double(lambda x: x) is False
        exercise = read_exercises(nbformat.read(notebook, 4), notebook)[-1]
        assert exercise.check == f"n{path.stem[:2]}.double" and 'WRONG["double"]' in answers.read_text(encoding="utf-8")


GATE = """
import torch
from csam_lite.core.gates import override_gates, record_gates
from csam_lite.training.column import ColumnCSAM

torch.manual_seed(0)
csam = ColumnCSAM(6, 8).double()
x = torch.randn(2, 6, 8, 9, 10, dtype=torch.double)
mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
with record_gates(csam) as record:
    fast = csam(x, mask)
assert record[""]["column"].axes == ("B", "W") and record[""]["column"].values.shape == (2, 10)
csam.fast = False
torch.testing.assert_close(csam(x, mask), fast)
with override_gates(csam, {("", "column"): 0.0}):
    assert not csam(x, mask).any()
"""


def test_a_gate(clone, phantoms):
    text = block("python", "# csam_lite/training/column.py")
    (clone / "csam_lite" / "training" / "column.py").write_text(text, encoding="utf-8")
    edit(clone / "csam_lite" / "training" / "ablations.py",
         ('"normalised": NormalisedCSAM}', '"normalised": NormalisedCSAM, "column": ColumnCSAM}'),
         ("from csam_lite.core.masks", "from csam_lite.training.column import ColumnCSAM\nfrom csam_lite.core.masks"))
    python(clone, "-c", GATE)
    small = "--gate-form column --pixels 32 --levels 2 --base-channels 4 --epochs 1 --test 2 --val 1".split()
    python(clone, "-m", "csam_lite", "train", "--data", str(phantoms), "--out", "run", *small)
    assert (clone / "run" / "best.safetensors").exists()


def test_a_baseline(clone, phantoms):
    text = block("python", "# csam_lite/training/baselines.py").split("\n", 1)[1]
    baselines = clone / "csam_lite" / "training" / "baselines.py"
    edit(baselines, ("# All networks by the name", f"{text}\n\n# All networks by the name"),
         ("import centred_slots, without", "import centred_slots, mean_over, without"),
         ('    "self_attention"', '    "mean_slice": MeanSliceUNet,\n    "self_attention"'))
    edit(clone / "tests" / "test_baselines.py", ("SelfAttentionUNet, SliceSelf", "MeanSliceUNet, SelfAttentionUNet, SliceSelf"),
         ("NETWORKS = [UNet2D", "NETWORKS = [MeanSliceUNet, UNet2D"), ("[(UNet2D, False)", "[(MeanSliceUNet, True), (UNet2D, False)"))
    said = python(clone, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_baselines.py", "-k", "MeanSlice")
    assert "failed" not in said and int(re.search(r"(\d+) passed", said)[1]) >= 2
    small = "--network mean_slice --pixels 32 --levels 2 --base-channels 4 --epochs 1 --test 2 --val 1".split()
    python(clone, "-m", "csam_lite", "train", "--data", str(phantoms), "--out", "run", *small)


def test_an_experiment(tmp_path, phantoms):
    from csam_lite.experiments.plan import read_plan

    path = tmp_path / "mine.toml"
    path.write_text(block("toml"), encoding="utf-8")
    plan = read_plan(path, data=str(phantoms), out=str(tmp_path / "out"))
    assert set(plan["networks"]) == {"plain", "csam"} and plan["reference"] == "plain"


def test_every_path_and_command_of_the_guide_exists():
    for path in re.findall(r"`((?:csam_lite|tests|notebooks|data_scripts)/[\w./]+\.\w+)`", GUIDE):
        new = path in ("csam_lite/training/column.py", "notebooks/10_NAME.ipynb", "csam_lite/course/checks/n10.py", "tests/answers/n10.py")
        assert new or "NAME" in path or (ROOT / path).exists(), path
