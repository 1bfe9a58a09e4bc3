"""Sources for nbgrader: what a release holds, and the whole way of a hand-in through nbgrader where it is installed."""

from __future__ import annotations

import ast
import csv
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="labs need csam-lite[course]")

from csam_lite.course.lab.exercises import read_exercises  # noqa: E402
from csam_lite.course.lab.nbgrader_sources import source_of  # noqa: E402
from csam_lite.course.lab.release import release  # noqa: E402
from csam_lite.course.notebooks import choose, find_notebooks, tagged  # noqa: E402

PATH = choose(find_notebooks(), ["02"])[0]
EXERCISES = read_exercises(nbformat.read(PATH, 4), PATH)


def test_each_exercise_is_an_answer_and_a_locked_test():
    for path in choose(find_notebooks()):
        exercises = read_exercises(nbformat.read(path, 4), path)
        source = source_of(nbformat.read(path, 4), exercises)
        nbformat.validate(source)
        assert not any(tagged(cell, "solution") or cell.get("outputs") for cell in source.cells)
        marks = [cell.metadata.nbgrader for cell in source.cells if "nbgrader" in cell.metadata]
        assert len({mark.grade_id for mark in marks}) == len(marks) == 2 * len(exercises)
        assert [mark.points for mark in marks if mark.grade] == [exercise.points for exercise in exercises]
        for exercise in exercises:
            place = next(place for place, cell in enumerate(source.cells) if cell.id == exercise.cell)
            answer, test = source.cells[place:place + 2]
            assert answer.metadata.nbgrader.solution and test.metadata.nbgrader.locked
            before, rest = answer.source.split("### BEGIN SOLUTION\n")
            solution, after = rest.split("### END SOLUTION")
            assert (before + after).split() == exercise.stub.split() and solution == exercise.solution
            ast.parse(answer.source)
            ast.parse(test.source)


def test_a_release_has_sources_for_nbgrader_where_asked(tmp_path):
    release(["08"], tmp_path / "lab")
    assert not (tmp_path / "lab" / "nbgrader").exists()
    written = release(["08"], tmp_path / "more", nbgrader=True)
    course = tmp_path / "more" / "nbgrader"
    assert {course / "source" / "08_does_it_help" / "08_does_it_help.ipynb", course / "nbgrader_config.py"} <= set(written)
    compile((course / "nbgrader_config.py").read_text(encoding="utf-8"), "nbgrader_config.py", "exec")


@pytest.mark.nbgrader
def test_the_whole_way_through_nbgrader(request, tmp_path):
    """All right, untouched, a mix, and checks that were overwritten: released, graded, with pages of feedback."""
    if "nbgrader" not in request.config.option.markexpr:
        pytest.skip("takes minutes; run it with -m nbgrader")
    if importlib.util.find_spec("nbgrader") is None:
        pytest.skip("nbgrader is not installed here; it belongs into an environment of its own")
    release(["02"], tmp_path / "lab", nbgrader=True)
    course = tmp_path / "lab" / "nbgrader"
    nbgrader(course, "generate_assignment", PATH.stem)
    released = course / "release" / PATH.stem / PATH.name
    text = released.read_text(encoding="utf-8")
    assert "BEGIN SOLUTION" not in text and not any(
        line.strip() in text for exercise in EXERCISES for line in exercise.solution.splitlines()
        if len(line) > 30 and line not in exercise.stub), "a solution is in the release"
    right = {exercise.number for exercise in EXERCISES}
    fooled = "import csam_lite.course.checks.n02 as n02\nn02.statistics = lambda answer: True\n"
    for student, solved, start in (("all", right, ""), ("none", set(), ""), ("mix", set(sorted(right)[::2]), ""),
                                   ("fooled", set(), fooled)):
        hand_in = course / "submitted" / student / PATH.stem / PATH.name
        hand_in.parent.mkdir(parents=True)
        notebook = nbformat.read(released, 4)
        by_cell = {exercise.cell: exercise for exercise in EXERCISES}
        for cell in notebook.cells:
            if (exercise := by_cell.get(cell.id)) and exercise.number in solved:
                cell.source = exercise.solution
            elif exercise and start:
                cell.source = start + cell.source
        nbformat.write(notebook, hand_in)
    nbgrader(course, "autograde", PATH.stem)
    nbgrader(course, "generate_feedback", PATH.stem)
    nbgrader(course, "export")
    with open(course / "grades.csv", newline="", encoding="utf-8") as file:
        scores = {row["student_id"]: (float(row["raw_score"]), float(row["max_score"])) for row in csv.DictReader(file)}
    total = sum(exercise.points for exercise in EXERCISES)
    part = sum(exercise.points for exercise in EXERCISES[::2])
    assert 0 < part < total
    assert scores == {"all": (total, total), "none": (0, total), "mix": (part, total), "fooled": (0, total)}
    for student in scores:
        folder = course / "feedback" / student / PATH.stem
        assert folder.joinpath(f"{PATH.stem}.html").stat().st_size > 10_000
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 20_000_000


def nbgrader(course: Path, *arguments: str) -> None:
    here = Path(sys.executable).parent
    path = os.pathsep.join([str(here), os.environ["PATH"]])  # nbgrader starts alembic by its name
    done = subprocess.run([here / "nbgrader", *arguments], cwd=course, capture_output=True, encoding="utf-8", timeout=900,
                          env=os.environ | {"PATH": path})
    assert done.returncode == 0, done.stderr[-3000:]
