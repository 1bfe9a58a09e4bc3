"""Readers of the course: one who answers everything rightly, one who answers nothing, and those between.

Plain pytest runs two notebooks with some answers. `pytest -m readers` runs all of them, three times (minutes).
(A reader who answers nothing at all also runs in test_course.py.)
"""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
import torch

from csam_lite import CSAM

nbformat = pytest.importorskip("nbformat", reason="the course needs csam-lite[course]")
pytest.importorskip("papermill", reason="the course needs csam-lite[course]")
pytest.importorskip("nbconvert", reason="the course needs csam-lite[course]")

from csam_lite.course.execute import run_course  # noqa: E402
from csam_lite.course.lab.exercises import CALL, read_exercises  # noqa: E402
from csam_lite.course.notebooks import printed, tagged  # noqa: E402

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("[0-9][0-9]_*.ipynb"))
WRONG = "def {name}(*inputs):\n    return 1 / 0\n"


def reader_of(folder, paths, answers):
    """Notebooks in which a reader has answered; answers(exercise) is True (rightly), False (wrongly) or None."""
    folder.mkdir()
    for path in paths:
        notebook = nbformat.read(path, 4)
        for exercise in read_exercises(notebook, path):
            cell = next(cell for cell in notebook.cells if cell.id == exercise.cell)
            right = answers(exercise)
            if right is not None:
                answer = exercise.solution if right else WRONG.format(name=exercise.name)
                cell.source = f"{answer}\n\n{CALL.search(cell.source)[0]}"
        nbformat.write(notebook, folder / path.name)
    return folder


def run_reader(tmp_path, monkeypatch, paths, answers):
    """What the notebooks of a reader print, {number of the notebook: text}, and the reader's data folder."""
    data = tmp_path / "data"
    monkeypatch.setenv("CSAM_LITE_DATA", str(data))
    out = tmp_path / "out"
    run_course(out=out, notebooks=reader_of(tmp_path / "reader", paths, answers), timeout=1800)
    texts = {}
    for path in paths:
        cells = nbformat.read(out / path.name, 4).cells
        shown = [output.get("data", {}).get("text/plain", "") for cell in cells for output in cell.get("outputs", ())]
        texts[path.stem[:2]] = "\n".join([*(printed(cell) for cell in cells if not tagged(cell, "solution")), *shown])
    return texts, data


def difference_of_own_csam(data):
    """How far the reader's CSAM, read from its file, and the library's differ, in outputs and gradients."""
    make = runpy.run_path(str(data / "my_csam.py"))["MyCSAM"]
    results = []
    for build in (make, CSAM):
        torch.manual_seed(0)
        csam, x = build(8, 16), torch.randn(2, 6, 16, 9, 9, requires_grad=True)
        y = csam(x)
        results.append([y, *torch.autograd.grad(y.square().mean(), [x, *csam.parameters()])])
    return max((mine - ours).abs().max().item() for mine, ours in zip(*results))


def test_right_and_wrong_answers_in_two_notebooks(tmp_path, monkeypatch):
    """In 02 everything is right but the last exercise, which raises; in 05 the reader's gate goes on."""
    paths = [path for path in NOTEBOOKS if path.stem[:2] in ("02", "05")]
    texts, data = run_reader(tmp_path, monkeypatch, paths, lambda exercise: {"02.4": False, "05.2": True}.get(
        exercise.number, exercise.number.startswith("02") or None))
    assert "Your my_attention passed its check" in texts["02"] and "'semantic': '100% of the slices'" in texts["02"]
    assert "your code raised ZeroDivisionError" in texts["02"]
    assert "your my_attention" in texts["05"] and texts["05"].count("the formula of the library") == 2
    assert "Your parameters passed" in texts["05"] and "until your plug passes" in texts["05"] and "CSAM: Dice 1.00" in texts["05"]
    states = json.loads((data / "exercises.json").read_text(encoding="utf-8"))
    assert states == dict.fromkeys(("n02.statistics", "n02.semantic_attention", "n02.by_hand", "n05.parameters"), "solved") | {
        "n02.masked_statistics": "tried"}
    assert difference_of_own_csam(data) < 1e-5


ANSWERS = {"everything right": lambda exercise: True, "everything wrong": lambda exercise: False,
           "some": lambda exercise: (True, False, None)[sum(map(ord, exercise.number)) % 3]}


@pytest.mark.readers
@pytest.mark.parametrize("kind", ANSWERS)
def test_a_reader_of_the_whole_course(kind, tmp_path, monkeypatch, request):
    if "readers" not in request.config.option.markexpr:
        pytest.skip("takes minutes; run it with -m readers")
    texts, data = run_reader(tmp_path, monkeypatch, NOTEBOOKS, ANSWERS[kind])
    exercises = [exercise for path in NOTEBOOKS for exercise in read_exercises(nbformat.read(path, 4), path)]
    wanted = {exercise.check: ANSWERS[kind](exercise) for exercise in exercises}
    states = json.loads((data / "exercises.json").read_text(encoding="utf-8"))
    assert states == {check: "solved" if right else "tried" for check, right in wanted.items() if right is not None}
    for text in texts.values():
        assert "The library's code goes on" not in text  # no right answer fails outside of its check
    if kind == "everything right":
        assert not [number for number, text in texts.items() if "library's code works here" in text]
        assert difference_of_own_csam(data) < 1e-5
        assert "gates with your formula: semantic, positional, slice" in texts["06"] + texts["07"]
    if kind == "everything wrong":
        assert not [number for number, text in texts.items() if "passed its check, so" in text]
        assert not (data / "my_csam.py").exists()
