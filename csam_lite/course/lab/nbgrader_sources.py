"""Sources for nbgrader, which some universities run: `python -m csam_lite lab release --nbgrader`.

nbgrader is no dependency of this package. It grades whole notebooks, and what `lab grade` refuses (files,
processes, the network) is open to a hand-in there.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from csam_lite.common.files import whole_file
from csam_lite.course.lab.exercises import CALL, Exercise
from csam_lite.course.notebooks import tagged

if TYPE_CHECKING:
    from nbformat import NotebookNode

SCHEMA = 3  # of nbgrader's metadata: version 0.9 reads this one
SETTINGS = '''"""Settings of nbgrader for this lab. Run its commands in this folder:

    nbgrader generate_assignment NN_name     # release/NN_name, for students
    nbgrader autograde NN_name               # grades submitted/STUDENT/NN_name/NN_name.ipynb
    nbgrader generate_feedback NN_name
    nbgrader export                          # grades.csv
"""

import os
import secrets
from pathlib import Path

c = get_config()
c.CourseDirectory.course_id = "csam-lite"
c.ClearSolutions.code_stub = {"python": "# write your answer in the lines above"}
c.ExecutePreprocessor.timeout = 600  # seconds of a cell: an endless loop costs its own points alone
# one folder for what the notebooks make, so that nbgrader copies no phantoms for each student
os.environ.setdefault("CSAM_LITE_DATA", str(Path(__file__).resolve().parent / "course_data"))
seed = Path(__file__).resolve().parent / "seed.txt"  # of the random inputs of the checks
if not seed.exists():
    seed.write_text(f"{1 + secrets.randbelow(10**6)}\\n", encoding="utf-8")
os.environ.setdefault("CSAM_LITE_SEED", seed.read_text(encoding="utf-8").strip())
'''


def write_source(notebook: NotebookNode, exercises: Sequence[Exercise], path: Path, folder: Path) -> Path:
    """Write a notebook of the course to folder/source/NAME/NAME.ipynb; return that path."""
    import nbformat

    target = folder / "source" / path.stem / path.name
    with whole_file(target) as part:
        part.write_text(nbformat.writes(source_of(notebook, exercises)) + "\n", encoding="utf-8")
    return target


def write_settings(folder: Path) -> Path:
    """Write folder/nbgrader_config.py; return its path."""
    with whole_file(folder / "nbgrader_config.py") as part:
        part.write_text(SETTINGS, encoding="utf-8")
    return folder / "nbgrader_config.py"


def source_of(notebook: NotebookNode, exercises: Sequence[Exercise]) -> NotebookNode:
    """A copy in which each exercise is two cells of nbgrader: an answer, and a locked test with its points.

    The answer holds the stub, then the solution between the marks at which nbgrader cuts it out, then the
    check. The test asks a fresh copy of the check, so that assigning to `checks.n02.statistics` gains
    nothing.
    """
    from nbformat.v4 import new_code_cell

    by_cell = {exercise.cell: exercise for exercise in exercises}
    made = []
    for cell in copy.deepcopy(notebook.cells):
        if tagged(cell, "solution"):
            continue
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        made.append(cell)
        if exercise := by_cell.get(cell.id):
            name = exercise.number.replace(".", "-")
            check = CALL.search(cell.source)[0].strip()
            stub = cell.source[:cell.source.rindex(check)].rstrip()
            cell.source = (f"{stub}\n\n### BEGIN SOLUTION\n{exercise.solution.rstrip()}\n### END SOLUTION"
                           f"\n\n{check}")
            cell.metadata["nbgrader"] = _marks(f"answer-{name}", solution=True)
            test = ("from csam_lite.course.lab.worker import find_check\n\n"
                    f'assert find_check("{exercise.check}")({exercise.name})')
            marks = _marks(f"test-{name}", grade=True, locked=True, points=exercise.points)
            made.append(new_code_cell(test, id=f"test-{name}", metadata={"nbgrader": marks}))
    source = copy.deepcopy(notebook)
    source.cells = made
    source.metadata.pop("csam_lite", None)
    return source


def _marks(name: str, **kinds: bool | int) -> dict[str, bool | int | str]:
    return {"schema_version": SCHEMA, "grade_id": name, "grade": False, "solution": False, "locked": False,
            "task": False, **kinds}
