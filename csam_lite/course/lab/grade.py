"""Grade the notebooks that came back: `python -m csam_lite lab grade FOLDER --csv GRADES.csv`.

Of each hand-in only the exercise cells are run, each alone, in a process with limits (worker.py). So a
hand-in that crashes, hangs or fills the memory costs its own points for one exercise and nobody else's.
"""

from __future__ import annotations

import hashlib
import html
import json
import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from csam_lite.common.errors import InputError, printable
from csam_lite.common.files import temporary_folder, whole_file
from csam_lite.common.locks import only_process
from csam_lite.common.progress import progress_bar
from csam_lite.common.tables import write_csv
from csam_lite.course.lab.exercises import (
    CALL,
    Exercise,
    imports_before,
    needed,
    read_exercises,
    without_checks,
)
from csam_lite.course.notebooks import PACKAGE, choose, find_notebooks, tagged

if TYPE_CHECKING:
    from nbformat import NotebookNode

ARCHIVES = (".zip", ".gz", ".tgz", ".tar", ".7z", ".rar")
LARGEST_NOTEBOOK = 20_000_000  # bytes
WAITING = 5   # by the clock, an answer may take so many times longer than it may compute
LOADING = 60  # seconds for the imports
MOST_SEED = 10**6


@dataclass
class Lab:
    """A notebook of the course as it is graded: its exercises and the imports that each of them needs."""

    stem: str
    exercises: list[Exercise]
    imports: dict[str, str]  # exercise number -> import statements


@dataclass
class Grade:
    """What one student has: {exercise: points}, {exercise: message}, and remarks on the files."""

    student: str
    points: dict[str, int] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)


def grade_folder(folder: str | Path, table: str | Path, seconds: float = 20.0, megabytes: int = 2000,
                 jobs: int = 0, seed: int | None = None, notebooks: Path | None = None) -> list[Grade]:
    """Grade all notebooks below `folder`, write one row for each student to the CSV file `table`, return the
    grades.

    A hand-in is FOLDER/STUDENT/ANYTHING.ipynb or FOLDER/STUDENT.ipynb (also STUDENT_NN_name.ipynb, where
    NN_name is a notebook of the course). Where an archive was unpacked into a folder of its own, and FOLDER
    holds this folder alone, the students are looked for in it.

    Beside the table, NAME_feedback/ gets one page for each student. seconds (of computing) and megabytes are
    the limits of one exercise; jobs is the number of processes at a time (0: one for each processor). seed
    chooses the random inputs of the checks; None takes the one of an earlier call, or else a random one.
    It is recorded in NAME_feedback/seed.txt. A second call grades only what has changed. Raises InputError
    for a folder without notebooks, and where another process grades into the same table.
    """
    folder, table = Path(folder), Path(table)
    if not table.name or table.is_dir():
        raise InputError(f"{table}: is a folder; give the name of a file")
    chosen = choose(notebooks or find_notebooks())
    handed_in = hand_ins(folder, [path.stem for path in chosen])
    if not handed_in:
        raise InputError(f"{folder}: has no hand-ins; expected FOLDER/STUDENT/NAME.ipynb or "
                         "FOLDER/STUDENT.ipynb")
    labs = [read_lab(path) for path in chosen]
    feedback = table.with_name(f"{table.stem}_feedback")
    busy = f"{table}: another process is grading into this table; wait for it, or choose another --csv"
    with only_process(feedback, busy):
        return _grade_all(handed_in, table, feedback, labs, (seconds, megabytes, jobs), seed)


def _grade_all(handed_in: dict[str, list[Path]], table: Path, feedback: Path, labs: Sequence[Lab],
               limits: tuple[float, int, int], seed: int | None) -> list[Grade]:
    """Grade the files of each student, {student: paths}, and write the table and the pages."""
    seconds, megabytes, jobs = limits
    seed = _recorded_seed(feedback / "seed.txt", seed)

    def grade_or_read(student: str) -> Grade:
        key = _key(handed_in[student], labs, seconds, megabytes, seed)
        stored = feedback / "stored" / f"{_safe(student)}.json"
        if (grade := _stored(stored, key)) is None:
            grade = grade_student(student, handed_in[student], labs, seconds, megabytes, seed)
            with whole_file(stored) as part:
                part.write_text(json.dumps({"key": key, "grade": asdict(grade)}, indent=1), encoding="utf-8")
        with whole_file(feedback / f"{_safe(student)}.html") as part:
            part.write_text(feedback_page(grade, labs), encoding="utf-8")
        return grade

    with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
        graded = pool.map(grade_or_read, handed_in)
        grades = list(progress_bar(graded, total=len(handed_in), desc="grading", unit="student"))
    write_csv(table, rows(grades, labs))
    return grades


def hand_ins(folder: Path, notebooks: Sequence[str] = ()) -> dict[str, list[Path]]:
    """The files of each student, {student: paths}, in alphabetical order. Hidden files do not count.

    notebooks: such as "02_semantic_attention"; from there on, the name of a file is not the student's. Raises
    InputError where there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    folder = _without_wrapper(folder)
    students: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if not path.is_file() or any(part.startswith((".", "__")) for part in inside.parts):
            continue
        student = inside.parts[0] if len(inside.parts) > 1 else _student_of(inside.stem, notebooks)
        students.setdefault(student, []).append(path)
    return dict(sorted(students.items()))


def _without_wrapper(folder: Path) -> Path:
    """`folder`, or the only thing in it, where this is a folder with one folder for each student."""
    inside = [path for path in folder.iterdir() if not path.name.startswith((".", "__"))]
    if len(inside) == 1 and inside[0].is_dir() and sum(path.is_dir() for path in inside[0].iterdir()) > 1:
        return inside[0]
    return folder


def _student_of(stem: str, notebooks: Sequence[str]) -> str:
    """The student in the name of a file: "anna" in anna_02_semantic_attention-1 and in anna__lab."""
    ends = [stem.find(f"_{name}") for name in notebooks] + [stem.find("__")]
    return stem[:min((end for end in ends if end > 0), default=len(stem))]


def read_lab(path: Path) -> Lab:
    """A notebook of the course, read for grading."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    exercises = read_exercises(notebook, path)
    imports = {exercise.number: imports_before(notebook, exercise.cell) for exercise in exercises}
    return Lab(path.stem, exercises, imports)


def grade_student(student: str, paths: Sequence[Path], labs: Sequence[Lab], seconds: float,
                  megabytes: int, seed: int) -> Grade:
    """Grade all files of one student; for the numbers see grade_folder."""
    grade, tasks = Grade(student), []
    origin: dict[str, Path] = {}   # stem of the lab -> file
    for path in paths:
        notebook, problem = read_hand_in(path)
        lab, sources = (None, {}) if notebook is None else match(notebook, labs)
        if problem or lab is None:
            grade.remarks.append(f"{path.name}: {problem or 'has no exercise of the course'}")
        elif lab.stem in origin:
            grade.remarks.append(f"{path.name}: a second hand-in of {lab.stem}; {origin[lab.stem].name} was "
                                 "graded")
        else:
            origin[lab.stem] = path
            tasks += tasks_of(lab, sources)
            grade.sources |= {number: source for number, (source, _) in sources.items()}
            grade.messages |= {exercise.number: "the cell is not there" for exercise in lab.exercises}
    worth = {exercise.number: exercise.points for lab in labs for exercise in lab.exercises}
    results = run_answers(tasks, seconds, megabytes, seed)
    grade.messages |= {number: message for number, (_, message) in results.items()}
    passed = {number for number, (right, _) in results.items() if right}
    grade.points = {number: worth[number] if number in passed else 0 for number in grade.messages}
    return grade


def tasks_of(lab: Lab, sources: dict[str, tuple[str, str]]) -> list[dict]:
    """The worker's task for each answer of a hand-in; sources: {exercise: (source, name of the answer)}."""
    tasks, earlier = [], []
    for exercise in lab.exercises:
        if exercise.number in sources:
            source, name = sources[exercise.number]
            tasks.append({"number": exercise.number, "source": source, "name": name, "check": exercise.check,
                          "imports": lab.imports[exercise.number], "earlier": needed(source, earlier)})
            earlier.append(source)
    return tasks


def read_hand_in(path: Path) -> tuple[NotebookNode | None, str]:
    """(the notebook, "") or (None, what is wrong with the file)."""
    import nbformat

    if path.suffix != ".ipynb":
        archive = "; unpack it, and grade again" if path.suffix.lower() in ARCHIVES else ""
        return None, f"is no notebook (.ipynb){archive}"
    if path.stat().st_size > LARGEST_NOTEBOOK:
        return None, f"is larger than {LARGEST_NOTEBOOK // 1_000_000} MB; clear its outputs"
    try:
        notebook = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
        for cell in notebook.cells:
            cell.source + cell.cell_type  # noqa: B018
        return notebook, ""
    except Exception as error:  # nbformat raises errors of many types for what is no notebook
        return None, f"cannot be read as a notebook ({type(error).__name__})"


def match(notebook: NotebookNode, labs: Sequence[Lab]) -> tuple[Lab | None, dict[str, tuple[str, str]]]:
    """The lab that a hand-in belongs to, and {exercise: (source, name of the answer)}.

    A cell belongs to the exercise whose check it calls, or else to that whose cell id it has. The name of the
    file does not count. Of two cells for one exercise, the last counts.
    """
    best: tuple[Lab | None, dict] = (None, {})
    for lab in labs:
        by_check = {exercise.check: exercise for exercise in lab.exercises}
        by_cell = {exercise.cell: exercise for exercise in lab.exercises}
        answers = {}
        for cell in notebook.cells:
            if cell.cell_type != "code" or tagged(cell, "solution"):
                continue
            calls = list(CALL.finditer(cell.source))
            called = [f"{call[1]}.{call[2]}" for call in calls]
            exercise = next((by_check[name] for name in called if name in by_check), None)
            if exercise is None and not calls and tagged(cell, "exercise"):
                exercise = by_cell.get(cell.get("id"))
            if exercise:
                argument = next((call[3] for call, name in zip(calls, called) if name == exercise.check), "")
                name = argument if argument.isidentifier() else exercise.name
                answers[exercise.number] = (without_checks(cell.source), name)
        if len(answers) > len(best[1]):
            best = lab, answers
    return best


def run_answers(tasks: list[dict], seconds: float, megabytes: int,
                seed: int) -> dict[str, tuple[bool, str]]:
    """Run answers in a process; where it dies or hangs, note that for the answer and go on with the next
    ones.
    """
    results: dict[str, tuple[bool, str]] = {}
    waiting = list(tasks)
    while waiting:
        results |= _run_worker(waiting, seconds, megabytes, seed)
        waiting = [task for task in tasks if task["number"] not in results]
    return results


def _run_worker(tasks: list[dict], seconds: float, megabytes: int,
                seed: int) -> dict[str, tuple[bool, str]]:
    """The results of the first tasks: of all, or up to the one at which the process ended.

    Raises InputError where not even the first answer could be started, which is no student's fault.
    """
    results: dict[str, tuple[bool, str]] = {}
    running, broken = "", "the grading process did not start"
    with temporary_folder() as folder:
        process = _start_worker(folder, seed)
        lines: queue.Queue = queue.Queue()
        work = {"megabytes": megabytes, "seconds": seconds, "exercises": tasks}
        reader = threading.Thread(target=_read, args=(process, work, lines))
        reader.start()
        try:
            while (line := lines.get(timeout=WAITING * seconds + LOADING)) is not None:
                event = json.loads(line)
                if "broken" in event:
                    broken = event["broken"]
                elif "started" in event:
                    running = event["started"]
                elif event["number"] == running:
                    results[running] = bool(event["passed"]), str(event["message"])
                    running = ""
                else:
                    raise ValueError("a result that nobody asked for")
        except queue.Empty:
            ended = "stopped, because it waited for something"
        except (ValueError, KeyError, TypeError):
            ended = "disturbed the grading process"
        else:
            ended = "ended the process (too much memory, or a forced exit)"
        finally:
            process.kill()
            process.wait()
            reader.join()
            process.stdout.close()
    if process.returncode == -getattr(signal, "SIGXCPU", 0):
        ended = f"stopped after {seconds:g} seconds of computing"
    if running:
        results[running] = False, ended
    if not results:
        raise InputError(f"exercise {tasks[0]['number']}: cannot be graded here ({broken})")
    return results


def _start_worker(folder: Path, seed: int) -> subprocess.Popen:
    search_path = os.pathsep.join(filter(None, (str(PACKAGE.parent), os.environ.get("PYTHONPATH"))))
    kept = ("PATH", "SYSTEMROOT", "LANG", "TMPDIR")  # no secret in an answer's environment
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {"PYTHONPATH": search_path, "HOME": str(folder), "OMP_NUM_THREADS": "1",
                    "MPLBACKEND": "agg", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1",
                    "CSAM_LITE_SEED": str(seed)}
    return subprocess.Popen(
        [sys.executable, "-m", "csam_lite.course.lab.worker"], cwd=folder, env=environment, encoding="utf-8",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)


def _read(process: subprocess.Popen, task: dict, lines: queue.Queue) -> None:
    try:
        process.stdin.write(json.dumps(task))
        process.stdin.close()
        for line in process.stdout:
            lines.put(line)
    except OSError:
        pass  # the process has ended
    lines.put(None)


def rows(grades: Sequence[Grade], labs: Sequence[Lab]) -> list[dict]:
    """One row for each student: points of all exercises that anybody handed in, and the first failure."""
    used = {number for grade in grades for number in grade.points}
    numbers = [exercise.number for lab in labs for exercise in lab.exercises if exercise.number in used]
    table = []
    for grade in grades:
        failures = [f"{number}: {grade.messages[number]}" for number in numbers
                    if number in grade.messages and not grade.points[number]]
        table.append({"student": grade.student, "points": sum(grade.points.values()),
                      **{number: grade.points.get(number, "") for number in numbers},
                      "first failure": failures[0] if failures else "", "remarks": "; ".join(grade.remarks)})
    return table


def feedback_page(grade: Grade, labs: Sequence[Lab]) -> str:
    """One page for a student: points, what each check said, and the code that was graded."""
    graded = [exercise for lab in labs for exercise in lab.exercises if exercise.number in grade.points]
    total = sum(exercise.points for exercise in graded)
    parts = ["<!DOCTYPE html><html lang='en'><meta charset='utf-8'>"
             "<meta name='viewport' content='width=device-width'><title>Feedback</title>"
             "<style>body{font:16px/1.5 sans-serif;max-width:50em;margin:2em auto;padding:0 1em}"
             "pre{background:#f4f4f4;padding:.6em;overflow:auto}</style>",
             f"<h1>{html.escape(printable(grade.student))}: {sum(grade.points.values())} of {total} points"
             "</h1>"]
    parts += [f"<p>{html.escape(printable(remark))}</p>" for remark in grade.remarks]
    for exercise in graded:
        number = exercise.number
        parts.append(f"<h2>{number} {html.escape(exercise.title)}: {grade.points[number]} of "
                     f"{exercise.points}</h2>"
                     f"<p>{html.escape(grade.messages[number])}</p>"
                     f"<pre>{html.escape(grade.sources.get(number, 'nothing'))}</pre>")
    return "\n".join(parts)


def _recorded_seed(path: Path, seed: int | None) -> int:
    """The seed asked for, or the one of an earlier call, or a random one; written to `path`."""
    if seed is None:
        try:
            seed = int(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            seed = 1 + secrets.randbelow(MOST_SEED)
    with whole_file(path) as part:
        part.write_text(f"{seed}\n", encoding="utf-8")
    return seed


def _key(paths: Sequence[Path], labs: Sequence[Lab], seconds: float, megabytes: int, seed: int) -> str:
    """A hash of everything that a grade depends on."""
    digest = hashlib.sha256(f"{seconds} {megabytes} {seed}".encode())
    for path in paths:
        digest.update(os.fsencode(path.name) + b"\0")
        if path.stat().st_size <= LARGEST_NOTEBOOK:
            digest.update(path.read_bytes())
    for path in sorted((PACKAGE / "course").rglob("*.py")):
        digest.update(path.read_bytes())
    digest.update(repr([lab.exercises for lab in labs]).encode())
    return digest.hexdigest()


def _stored(path: Path, key: str) -> Grade | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Grade(**content["grade"]) if content["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _safe(student: str) -> str:
    """A file name for a student, another one for each student."""
    plain = "".join(letter if letter.isalnum() or letter in "-_. " else "_" for letter in student)
    return plain if plain == student else f"{plain}_{hashlib.sha256(os.fsencode(student)).hexdigest()[:6]}"
