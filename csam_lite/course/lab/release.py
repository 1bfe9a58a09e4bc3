"""Hand out a lab: `python -m csam_lite lab release 02 04 --out DIR`."""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from csam_lite import __version__
from csam_lite.common.files import whole_file
from csam_lite.common.tables import markdown
from csam_lite.course.lab.exercises import Exercise, read_exercises
from csam_lite.course.lab.nbgrader_sources import write_settings, write_source
from csam_lite.course.notebooks import PACKAGE, choose, find_notebooks, tagged
from csam_lite.data.download import whole_folder

if TYPE_CHECKING:
    from nbformat import NotebookNode

LAB_MINUTES = 180  # of a lab of three hours
WEEKS = ("One week", "Two weeks", "Three weeks", "Four weeks")


def release(names: Sequence[str], out: str | Path, notebooks: Path | None = None,
            nbgrader: bool = False) -> list[Path]:
    """Write student/NAME.ipynb, instructor/NAME.ipynb and syllabus.md for notebooks, into a folder; return
    the files.

    The student edition has no solutions, no outputs and no trace of a machine. The instructor edition has
    solutions, the stored outputs and common mistakes. Both have points in the headers. names: numbers or
    names of notebooks; all if there are none. nbgrader: also write a course for nbgrader
    (nbgrader_sources.py). The folder appears when it is whole. Raises InputError for a name that no notebook
    has, and for a folder that holds something already.
    """
    out = Path(out)
    with whole_folder(out) as work:
        written = _write_editions(names, work, notebooks, nbgrader)
    return [out / path.relative_to(work) for path in written]


def _write_editions(names: Sequence[str], out: Path, notebooks: Path | None, nbgrader: bool) -> list[Path]:
    """Write what `release` says into the folder `out`; return the files."""
    import nbformat

    chosen, written, exercises = choose(notebooks or find_notebooks(), names), [], {}
    for path in chosen:
        notebook = nbformat.read(path, as_version=4)
        exercises[path.stem] = read_exercises(notebook, path)
        with_points = _with_points(notebook, exercises[path.stem])
        instructor = instructor_edition(with_points, exercises[path.stem])
        for edition, made in (("student", student_edition(with_points)), ("instructor", instructor)):
            with whole_file(out / edition / path.name) as part:
                part.write_text(nbformat.writes(made) + "\n", encoding="utf-8")
            written.append(out / edition / path.name)
        if nbgrader:
            written.append(write_source(with_points, exercises[path.stem], path, out / "nbgrader"))
    if nbgrader:
        written.append(write_settings(out / "nbgrader"))
    with whole_file(out / "syllabus.md") as part:
        part.write_text(syllabus(exercises), encoding="utf-8")
    return [*written, out / "syllabus.md"]


def student_edition(notebook: NotebookNode) -> NotebookNode:
    """A copy without solutions, outputs, and the metadata that only this repository needs."""
    notebook = copy.deepcopy(notebook)
    notebook.cells = [cell for cell in notebook.cells if not tagged(cell, "solution")]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.metadata.pop("csam_lite", None)
    notebook.metadata["csam_lite_lab"] = {"version": __version__}
    return notebook


def instructor_edition(notebook: NotebookNode, exercises: Sequence[Exercise]) -> NotebookNode:
    """A copy with a cell on common mistakes behind each solution, if the wrong answers of the tests are
    there.
    """
    from nbformat.v4 import new_markdown_cell

    notebook = copy.deepcopy(notebook)
    places = [place for place, cell in enumerate(notebook.cells) if tagged(cell, "solution")]
    for place, exercise in reversed(list(zip(places, exercises))):
        if mistakes := common_mistakes(exercise.check):
            lines = [f"**Common mistakes in {exercise.number}**, and what the check says:", ""]
            lines += [f"- **{what}**: {message}" for what, message in mistakes.items()]
            cell = new_markdown_cell("\n".join(lines), id=f"mistakes-{place}")
            notebook.cells.insert(place + 1, cell)
    return notebook


def common_mistakes(check: str) -> dict[str, str]:
    """{wrong answer: what the check says}, from the tests of a clone; empty where there are none.

    check: such as "n02.statistics".
    """
    module, function = check.split(".")
    path = PACKAGE.parent / "tests" / "answers" / f"{module}.py"
    if not path.exists():
        return {}
    mistakes = {}
    for what, answer in runpy.run_path(str(path))["WRONG"][function].items():
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            getattr(importlib.import_module(f"csam_lite.course.checks.{module}"), function)(answer)
        statement, message = said.getvalue().strip().split("\n", 1)  # property, then what was found
        mistakes[what] = f"{' '.join(message.split())} (fails at: {statement.split(': ', 1)[1].rstrip('.')})"
    return mistakes


def syllabus(exercises: dict[str, list[Exercise]]) -> str:
    """The exercises with points and minutes, and plans: a lab of three hours, some weeks, self-study.
    """
    everything = [exercise for part in exercises.values() for exercise in part]
    table = [{"exercise": exercise.number, "title": exercise.title, "difficulty": exercise.difficulty,
              "points": exercise.points, "minutes": exercise.minutes,
              "important": "yes" if exercise.important else "no"} for exercise in everything]
    total = sum(exercise.minutes for exercise in everything)
    points = sum(exercise.points for exercise in everything)
    return "\n\n".join([
        "# Syllabus",
        f"{len(everything)} exercises, {points} points, {total} minutes of work on exercises. Points: easy "
        "1, medium 2, hard 3.",
        markdown(table),
        "## A lab of three hours", _three_hours(everything),
        f"## {WEEKS[min(len(exercises), len(WEEKS)) - 1]}", _week_by_week(exercises),
        "## Self-study",
        "One notebook after the other, each in one sitting. Do the important exercises first; the solutions "
        "are folded "
        "below each exercise in the full notebooks (`python -m csam_lite course --copy DIR`).",
        "## Grading",
        "Collect the hand-ins in one FOLDER, as FOLDER/STUDENT/NAME.ipynb or as files "
        "FOLDER/STUDENT_NN_name.ipynb, and run `python -m csam_lite lab grade FOLDER --csv GRADES.csv`. "
        "Names may have spaces. From Moodle, download all submissions in folders and unpack the archive: "
        "each folder is one student. Unpack archives that students handed in, too.",
        "The table has one row for each student, and GRADES_feedback/ one page. A second call grades only "
        "what has changed."]) + "\n"


def _three_hours(exercises: list[Exercise]) -> str:
    """The important exercises first, then the others, as long as they fit into two thirds of the time."""
    left, taken = LAB_MINUTES * 2 // 3, []
    for exercise in sorted(exercises, key=lambda exercise: not exercise.important):
        if exercise.minutes <= left:
            left -= exercise.minutes
            taken.append(exercise)
    numbers = ", ".join(exercise.number for exercise in sorted(taken, key=lambda exercise: exercise.number))
    return (f"Two hours for exercises, one for reading and discussion: {numbers} "
            f"({sum(exercise.minutes for exercise in taken)} minutes, "
            f"{sum(exercise.points for exercise in taken)} points). Ask the students to install and to run "
            "the first "
            "notebook before the lab.")


def _week_by_week(exercises: dict[str, list[Exercise]]) -> str:
    """The notebooks in order, divided so that the weeks have nearly the same minutes."""
    total = sum(exercise.minutes for part in exercises.values() for exercise in part)
    weeks: list[list[str]] = [[] for _ in range(min(len(exercises), len(WEEKS)))]
    before = 0
    for stem, part in exercises.items():
        minutes = sum(exercise.minutes for exercise in part)
        middle = before + minutes / 2
        weeks[int(len(weeks) * middle / total)].append(f"{stem} ({minutes} minutes)")
        before += minutes
    return "\n".join(f"{number}. {', '.join(week) or 'discussion'}" for number, week in enumerate(weeks, 1))


def _with_points(notebook: NotebookNode, exercises: list[Exercise]) -> NotebookNode:
    """A copy whose exercise headers say how many points the exercise has."""
    notebook = copy.deepcopy(notebook)
    for exercise in exercises:
        for cell in notebook.cells:
            line = f"### Exercise {exercise.number}: {exercise.title}"
            if cell.cell_type == "markdown" and line in cell.source:
                unit = "point" if exercise.points == 1 else "points"
                cell.source = cell.source.replace(line, f"{line} ({exercise.points} {unit})")
    return notebook
