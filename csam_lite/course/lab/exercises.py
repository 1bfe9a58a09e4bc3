"""The exercises of a notebook, read from its cells: header, stub, check and solution."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from csam_lite.common.errors import InputError
from csam_lite.course.notebooks import tagged

if TYPE_CHECKING:
    from nbformat import NotebookNode

POINTS = {"easy": 1, "medium": 2, "hard": 3}
HEADER = re.compile(r"### Exercise (\d\d\.\d+): (.+)\n+Difficulty: (\w+) - Minutes: (\d+) - Important: "
                    r"(yes|no)")
CALL = re.compile(r"^(?:assert )?checks\.(n\d\d)\.(\w+)\((.*)\);?\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Exercise:
    """One exercise: what the header says, which check grades it, and the cells of stub and solution."""

    number: str      # such as "02.1"
    title: str
    difficulty: str  # "easy", "medium" or "hard"
    minutes: int
    important: bool
    check: str       # such as "n02.statistics"
    name: str        # of what the reader writes; the check takes it
    cell: str        # id of the stub's cell
    stub: str
    solution: str    # with the reader's name for what is written

    @property
    def points(self) -> int:
        return POINTS[self.difficulty]


def read_exercises(notebook: NotebookNode, path: Path) -> list[Exercise]:
    """The exercises of a notebook of the course, in order.

    Raises InputError where a header, a check or a solution is missing.
    """
    exercises, names = [], {}
    for place, cell in enumerate(notebook.cells):
        if not tagged(cell, "exercise"):
            continue
        header = HEADER.search(notebook.cells[place - 1].source)
        call = CALL.search(cell.source)
        solution = next((later for later in notebook.cells[place + 1:place + 4] if tagged(later,
                                                                                          "solution")), None)
        solved = solution and CALL.search(solution.source)
        if not (header and call and solved):
            raise InputError(f"{path}, cell {place + 1}: an exercise needs a header, a check and a solution")
        number, title, difficulty, minutes, important = header.groups()
        names[solved[3]] = call[3]  # a later solution may use an earlier one
        written = without_checks(solution.source)
        for theirs, ours in names.items():
            written = re.sub(rf"(?<![.\w]){theirs}\b", ours, written)
        exercises.append(Exercise(number, title, difficulty, int(minutes), important == "yes",
                                  f"{call[1]}.{call[2]}", call[3], cell.id, cell.source, written))
    return exercises


def imports_before(notebook: NotebookNode, cell: str) -> str:
    """The import statements of all code cells in front of the cell with this id, and those of the setup
    cell.
    """
    lines = []
    for other in notebook.cells:
        if other.id == cell:
            break
        if other.cell_type == "code":
            lines += [ast.unparse(statement) for statement in ast.parse(other.source).body
                      if isinstance(statement, (ast.Import, ast.ImportFrom))]
    return "\n".join(dict.fromkeys(lines))


def without_checks(source: str) -> str:
    """The source of a cell without the lines that call a check, and without #@title."""
    return re.sub(r"^#@title.*\n", "", CALL.sub("", source)).strip() + "\n"


def needed(source: str, earlier: Sequence[str]) -> list[str]:
    """The earlier sources that define what `source` uses, directly or through one another, in order."""
    chosen: list[str] = []
    used = _names(source, ast.Load)
    for other in reversed(earlier):
        if _names(other, ast.Store) & used:
            chosen.insert(0, other)
            used |= _names(other, ast.Load)
    return chosen


def _names(source: str, context: type) -> set[str]:
    """The names that a source uses (ast.Load) or defines (ast.Store); none if it is no Python."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    names = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, context)}
    if context is ast.Store:
        names |= {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    return names
