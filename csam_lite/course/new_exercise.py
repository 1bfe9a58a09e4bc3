"""Begin a new exercise: `python -m csam_lite course --new-exercise 05`. CONTRIBUTING.md says what comes next.

The stubs are a small exercise that works: its function doubles x. So the tests pass from the start, and each
of them fails again where a later change forgets a part.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from csam_lite.common.errors import InputError
from csam_lite.common.files import whole_file
from csam_lite.course.notebooks import choose, tagged

if TYPE_CHECKING:
    from nbformat import NotebookNode

HEADER = """### Exercise {number}: {title}
Difficulty: easy - Minutes: 5 - Important: no

Say what the function gets, with the letters of the axes, and what it returns."""
STUB = '''def {name}(x):
    """x of any shape -> the same shape, each number doubled."""
    ...


checks.{module}.{name}({name});'''
HINT = ("<details><summary>Hint: what a reader sees who is stuck here</summary>"
        "One thought that helps, and no solution.</details>")
SOLUTION = """#@title Solution
def {name}_solution(x):
    return 2 * x


assert checks.{module}.{name}({name}_solution)"""
CHECK = '''

@exercise
def {name}(function: Callable) -> bool | None:
    """function(x): x of any shape -> the same shape, each number doubled."""
    x = torch.randn(2, 3, 4, generator=torch_generator(90))  # other numbers for each seed of a lab

    def ours(x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    @states("A number whose double you know")
    def by_hand() -> None:
        same_values(answer(function, torch.tensor([3.0])), torch.tensor([6.0]), "x = [3]")

    @states("Every number of x is doubled, whatever the shape")
    def any_shape() -> None:
        same_values(answer(function, x.clone()), ours(x), "random x (2, 3, 4)", "say what often causes this")

    return verify(
        "{title}", by_hand, any_shape, leaves_inputs(function, x=x), passes_gradients(function, ours, x=x)
    )
'''
NEEDED = ("from collections.abc import Callable", "import torch",
          "from csam_lite.course.checks import answer, exercise, same_values, states",
          "from csam_lite.course.checks import torch_generator, verify",
          "from csam_lite.course.checks._tensors import leaves_inputs, passes_gradients")
ANSWERS = '''

# {number}: at least four wrong answers that the values give away, and two right ones that differ in kind
WRONG["{name}"] = {{
    "as it was": lambda x: x,
    "a number more": lambda x: x + 2,
    "squared": lambda x: x * x,
    "the first row only": lambda x: 2 * x[:1],
}}
RIGHT["{name}"] = {{
    "product": lambda x: 2 * x,
    "sum": lambda x: x + x,
}}
'''


def new_exercise(notebook: str, root: Path, name: str = "") -> list[Path]:
    """Write stubs of an exercise at the end of a notebook: four cells, a check, and answers for the tests.

    notebook: its number, such as "05". name: of the function; new_exercise_K where it is not given. root: the
    clone. Returns the three changed files. Raises InputError where `root` is no clone, or the name is taken.
    """
    import nbformat

    if not (root / "tests" / "answers").is_dir():
        raise InputError(f"{root}: has no tests/answers; run this in a clone of the repository")
    path = choose(root / "notebooks", [notebook])[0]
    made = nbformat.read(path, as_version=4)
    module = f"n{path.stem[:2]}"
    count = 1 + sum(tagged(cell, "exercise") for cell in made.cells)
    name = name or f"new_exercise_{count}"
    check, answers = root / f"csam_lite/course/checks/{module}.py", root / f"tests/answers/{module}.py"
    if not name.isidentifier():
        raise InputError(f"{name}: is no name of a function")
    if f"def {name}(" in check.read_text(encoding="utf-8"):
        raise InputError(f"{check}: has {name} already; give another name")
    words = {"name": name, "module": module, "number": f"{path.stem[:2]}.{count}",
             "title": name.replace("_", " ")}
    _add_cells(made, words)
    texts = {path: nbformat.writes(made) + "\n",
             check: _with_imports(check.read_text(encoding="utf-8")) + CHECK.format(**words),
             answers: answers.read_text(encoding="utf-8") + ANSWERS.format(**words)}
    for changed, text in texts.items():
        with whole_file(changed) as part:
            part.write_text(text, encoding="utf-8")
    return list(texts)


def _add_cells(notebook: NotebookNode, words: dict[str, str]) -> None:
    """Insert header, stub, hint and solution in front of the recap."""
    from nbformat.v4 import new_code_cell, new_markdown_cell

    place = next((place for place, cell in enumerate(notebook.cells) if cell.source.startswith("## Recap")),
                 len(notebook.cells))
    hidden = {"cellView": "form", "jupyter": {"source_hidden": True}, "tags": ["solution"]}
    cells = [new_markdown_cell(HEADER.format(**words)),
             new_code_cell(STUB.format(**words), metadata={"tags": ["exercise"]}),
             new_markdown_cell(HINT), new_code_cell(SOLUTION.format(**words), metadata=hidden)]
    for number, cell in enumerate(cells):
        cell.id = f"e{words['number'].replace('.', '-')}-{number}"  # the same in every clone
    notebook.cells[place:place] = cells


def _with_imports(source: str) -> str:
    """The source of a check with the imports that CHECK needs; ruff joins and sorts them."""
    import ast

    have = {alias.asname or alias.name for node in ast.parse(source).body
            if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names}
    lines = []
    for line in NEEDED:
        start, names = line.rsplit("import ", 1)
        if lacking := [part for part in names.split(", ") if part not in have]:
            lines.append(f"{start}import {', '.join(lacking)}\n")
    first = next(node.lineno for node in ast.parse(source).body
                 if isinstance(node, ast.Import)
                 or isinstance(node, ast.ImportFrom) and node.module != "__future__")
    before = source.splitlines(keepends=True)
    return "".join([*before[:first - 1], *lines, *before[first - 1:]])
