"""What a reader has done: the verdict of each exercise, kept between visits on the reader's own disk.

    course.show_exercises("02")  # at the end of notebook 02: its exercises, solved, tried or open
    course.show_exercises()      # in notebook 00: how many of each notebook

The checks call `remember`, which keeps a verdict in a notebook only, so that tests and the grading of a lab
leave no trace. Where the disk cannot be written, nothing is kept and nothing fails.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

from csam_lite.common.errors import InputError
from csam_lite.common.files import whole_file
from csam_lite.course.lab.exercises import read_exercises
from csam_lite.course.lessons import data_folder
from csam_lite.course.notebooks import choose, find_notebooks
from csam_lite.course.tables import Table

STATES = ("solved", "tried", "open")


def remember(check: str, verdict: bool | None) -> None:
    """Keep the verdict on an exercise, such as "n02.statistics": True solves it for good, False is a try."""
    before = verdicts()
    after = "solved" if verdict or before.get(check) == "solved" else "tried"
    if verdict is None or before.get(check) == after or not in_notebook():
        return
    try:
        with whole_file(_file()) as part:
            part.write_text(json.dumps(before | {check: after}, indent=1), encoding="utf-8")
    except (OSError, InputError):
        pass  # a disk that cannot be written keeps nothing


def verdicts() -> dict[str, str]:
    """{check: "solved" or "tried"} of all exercises that the reader has worked on; {} where none is kept."""
    try:
        kept = json.loads(_file().read_text(encoding="utf-8"))
        return {str(check): state for check, state in kept.items() if state in STATES}
    except (OSError, ValueError, AttributeError):
        return {}


def in_notebook() -> bool:
    """Whether this is the process of a notebook."""
    return _shell() is not None


def in_solution_cell() -> bool:
    """Whether the cell that runs is the solution of an exercise, as its first line says."""
    cells = getattr(_shell(), "user_ns", {}).get("In") or [""]
    return cells[-1].startswith("#@title Solution")


def _shell() -> object | None:
    """IPython's shell in the process of a notebook, else None."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell if getattr(shell, "kernel", None) is not None else None


def show_exercises(notebook: str = "") -> Table:
    """The table of the exercises of one notebook, such as "02", or of all notebooks in short."""
    import nbformat

    kept, rows = verdicts(), []
    for path in choose(find_notebooks(), [notebook] if notebook else []):
        exercises = read_exercises(nbformat.read(path, as_version=4), path)
        states = [kept.get(exercise.check, "open") for exercise in exercises]
        if notebook:
            rows += [(exercise.number, exercise.title, state) for exercise, state in zip(exercises, states)]
        else:
            count = Counter(states)
            title = path.stem[3:].replace("_", " ")
            rows.append((path.stem[:2], title, *(str(count[state]) for state in STATES)))
    return Table(("exercise", "title", "state") if notebook else ("notebook", "title", *STATES), rows)


def _file() -> Path:
    return data_folder() / "exercises.json"
