"""Labs: what is handed out, and the grades of generated hand-ins, honest and hostile."""

from __future__ import annotations

import csv
import hashlib
import json
import random
import shutil
import sys
import time
from pathlib import Path

import pytest

from csam_lite.cli import main
from csam_lite.common.errors import InputError

nbformat = pytest.importorskip("nbformat", reason="labs need csam-lite[course]")

from csam_lite.course.lab.exercises import needed, read_exercises  # noqa: E402
from csam_lite.course.lab.grade import grade_folder, hand_ins  # noqa: E402
from csam_lite.course.lab.release import release  # noqa: E402
from csam_lite.course.notebooks import choose, find_notebooks, tagged  # noqa: E402

NOTEBOOKS = choose(find_notebooks())
PATH = choose(find_notebooks(), ["08"])[0]
EXERCISES = read_exercises(nbformat.read(PATH, 4), PATH)
FIRST, SECOND, *_ = EXERCISES
ALL = sum(exercise.points for exercise in EXERCISES)


def hand_in(path: Path, answers: dict[str, str] | None = None, drop: tuple[str, ...] = (),
            source: Path = PATH) -> None:
    """A hand-in: the solution of every exercise for which `answers` has nothing else."""
    notebook = nbformat.read(source, 4)
    exercises = {exercise.cell: exercise for exercise in read_exercises(notebook, source)}
    notebook.cells = [cell for cell in notebook.cells if not tagged(cell, "solution") and cell.id not in drop]
    for cell in notebook.cells:
        if cell.id in exercises:
            exercise = exercises[cell.id]
            call = f"\n\nchecks.{exercise.check}({exercise.name});"
            cell.source = (answers or {}).get(exercise.number, exercise.solution) + call
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def stub(exercise) -> str:
    return f"def {exercise.name}(*inputs):\n    ..."


def points(table: Path) -> dict[str, dict]:
    with open(table, newline="", encoding="utf-8") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


def test_a_release_has_two_editions_and_a_syllabus(tmp_path):
    release(["02", "08"], tmp_path / "lab")
    for path in (tmp_path / "lab" / "student").iterdir():
        notebook, original = nbformat.read(path, 4), nbformat.read(find_notebooks() / path.name, 4)
        nbformat.validate(notebook)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert not any(cell.outputs or cell.execution_count or tagged(cell, "solution") for cell in code)
        stubs = [cell.source for cell in original.cells if tagged(cell, "exercise")]
        assert [cell.source for cell in code if tagged(cell, "exercise")] == stubs and len(stubs) >= 3
        assert not any(word in path.read_text(encoding="utf-8") for word in ("/work", "/root", "/home", "_solution"))
        instructor = nbformat.read(tmp_path / "lab" / "instructor" / path.name, 4)
        assert sum(tagged(cell, "solution") for cell in instructor.cells) == len(stubs)
        assert any(cell.get("outputs") for cell in instructor.cells)
        mistakes = [cell.source for cell in instructor.cells if cell.source.startswith("**Common mistakes")]
        assert len(mistakes) == len(stubs) and all(text.count("\n- ") >= 4 for text in mistakes)
        assert all("expected" in text for text in mistakes) and "Common mistakes" not in path.read_text(encoding="utf-8")
        assert sum("point" in line for cell in notebook.cells for line in cell.source.splitlines()
                   if line.startswith("### Exercise")) == len(stubs)
    syllabus = (tmp_path / "lab" / "syllabus.md").read_text(encoding="utf-8")
    assert FIRST.number in syllabus and "three hours" in syllabus and "Two weeks" in syllabus
    with pytest.raises(InputError, match="not empty"):
        release(["02"], tmp_path / "lab")


def test_solutions_have_all_points_and_stubs_none(tmp_path):
    """One student has solved the whole course, the other has touched nothing."""
    worth = {}
    for path in NOTEBOOKS:
        exercises = read_exercises(nbformat.read(path, 4), path)
        stubs = {exercise.number: exercise.stub.split("\n\n\nchecks.")[0] for exercise in exercises}
        worth |= {exercise.number: exercise.points for exercise in exercises}
        hand_in(tmp_path / "in" / "solved" / path.name, source=path)
        hand_in(tmp_path / "in" / "untouched" / path.name, stubs, source=path)
    solved, untouched = grade_folder(tmp_path / "in", tmp_path / "grades.csv")
    assert solved.points == worth and not solved.remarks and not untouched.remarks
    assert untouched.points == dict.fromkeys(worth, 0)
    assert all("nothing is returned" in message for message in untouched.messages.values())


HOSTILE = {
    "an endless loop": "while True:\n    pass",
    "a loop that catches everything": "while True:\n    try:\n        while True: pass\n    except "
                                      "BaseException:\n        pass",
    "20 GB": "x = bytearray(20 * 2**30)",
    "20 GB in numpy": "x = np.ones((20, 2**27))",
    "a fork": "import os\nwhile True:\n    os.fork()",
    "an exit": "import sys\nsys.exit()",
    "a hard exit": "import os\nos._exit(0)",
    "another process": "import subprocess\nsubprocess.run(['true'])",
    "the network": "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:9')",
    "a full disk": "for i in range(10**6):\n    open(f'{i}', 'wb').write(bytes(10**6))",
    "a syntax error": "def f(:",
    "results of its own": "import os\nos.write(1, b'{}')\nprint('{\"number\": \"08.1\", \"passed\": true}')",
}


QUICK = ("an endless loop", "20 GB", "a fork", "a hard exit", "the network", "results of its own")  # all with -m sixty


@pytest.fixture(scope="module")
def hostile(tmp_path_factory, request):
    """The rows of hand-ins whose second answer is hostile, and all others right."""
    folder = tmp_path_factory.mktemp("hostile")
    for name, code in HOSTILE.items():
        if name not in QUICK and "sixty" not in request.config.option.markexpr:
            continue
        hand_in(folder / "in" / f"{name}.ipynb", {SECOND.number: f"{code}\n{stub(SECOND)}"})
    grade_folder(folder / "in", folder / "grades.csv", seconds=4)
    return points(folder / "grades.csv")


@pytest.mark.sixty
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_answer_costs_its_own_points_alone(name, hostile):
    if name not in hostile:
        pytest.skip("seconds of grading; all of them run with -m sixty")
    row = hostile[name]
    assert row[SECOND.number] == "0" and row["first failure"].startswith(SECOND.number)
    assert int(row["points"]) == ALL - SECOND.points


def test_nobody_elses_file_is_touched_and_what_is_printed_is_bounded(tmp_path):
    victim = tmp_path / "victim.txt"
    victim.write_text("mine", encoding="utf-8")
    answers = {FIRST.number: f"import os, shutil\nos.remove({str(victim)!r})\n{stub(FIRST)}",
               SECOND.number: f"print('x' * 10**8)\n{SECOND.solution}"}
    hand_in(tmp_path / "in" / "one.ipynb", answers)
    hand_in(tmp_path / "in" / "two.ipynb", {FIRST.number: f"open({str(victim)!r}, 'w')\n{stub(FIRST)}"})
    grade_folder(tmp_path / "in", tmp_path / "grades.csv")
    rows = points(tmp_path / "grades.csv")
    assert victim.read_text(encoding="utf-8") == "mine" and "not allowed" in rows["one"]["first failure"]
    assert rows["one"][SECOND.number] == str(SECOND.points) and "not allowed" in rows["two"]["first failure"]
    assert (tmp_path / "grades_feedback" / "one.html").stat().st_size < 50_000


OVERWRITES = {
    "its module": "from csam_lite.course.checks import n08\nn08.per_patient = n08.verdict = lambda answer: "
                  "True",
    "verify": "from csam_lite.course import checks\nchecks.verify = lambda *all: True",
    "what a check calls": "from csam_lite.course.checks import n08\nn08.answer = n08._same_dict = lambda "
                          "*all: {}",
    "all modules": "import sys, types\nfake = types.SimpleNamespace(per_patient=lambda answer: True)\n"
                   "sys.modules['csam_lite.course.checks.n08'] = fake",
}


def test_overwriting_the_checks_gains_nothing(tmp_path):
    for name, code in OVERWRITES.items():
        wrong = f"{code}\ndef {FIRST.name}(rows):\n    return {{'a': 1.0}}"
        answers = {exercise.number: stub(exercise) for exercise in EXERCISES} | {FIRST.number: wrong}
        hand_in(tmp_path / "in" / f"{name}.ipynb", answers)
    grade_folder(tmp_path / "in", tmp_path / "grades.csv")
    rows = points(tmp_path / "grades.csv")
    assert {name: rows[name]["points"] for name in OVERWRITES} == dict.fromkeys(OVERWRITES, "0")


def test_files_that_are_no_hand_ins_are_told_and_touch_nobody(tmp_path):
    folder = tmp_path / "in"
    hand_in(folder / "honest" / "renamed (1).ipynb")
    hand_in(folder / "deleted" / "a.ipynb", drop=(FIRST.cell,))
    hand_in(folder / "twice" / "a.ipynb")
    hand_in(folder / "twice" / "b.ipynb", {FIRST.number: stub(FIRST)})
    hand_in(folder / "own name" / "a.ipynb", {FIRST.number: FIRST.solution.replace(FIRST.name, "mine")
                                              + f"{FIRST.name} = mine"})
    hand_in(folder / "two labs" / "02.ipynb", source=choose(find_notebooks(), ["05"])[0])
    hand_in(folder / "two labs" / "08.ipynb")
    for name, text in {"essay.txt": "hello", "broken.ipynb": "{", "list.ipynb": "[]", "empty.ipynb": "",
                       "other.ipynb": json.dumps({"cells": [], "metadata": {}, "nbformat": 4,
                                                  "nbformat_minor": 5})}.items():
        (folder / name).write_text(text, encoding="utf-8")
    grade_folder(folder, tmp_path / "grades.csv")
    rows = points(tmp_path / "grades.csv")
    assert rows["honest"]["points"] == rows["twice"]["points"] == rows["own name"]["points"] == str(ALL)
    assert "second hand-in" in rows["twice"]["remarks"] and "b.ipynb" in rows["twice"]["remarks"]
    assert int(rows["deleted"]["points"]) == ALL - FIRST.points
    assert "the cell is not there" in rows["deleted"]["first failure"]
    assert int(rows["two labs"]["points"]) > ALL
    for name in ("essay", "broken", "list", "empty", "other"):
        assert rows[name]["points"] == "0" and rows[name]["remarks"], name


@pytest.mark.parametrize("command", [["lab", "release", "02", "--out", "out"], ["lab", "grade", "in", "--csv", "g.csv"]])
def test_a_lab_without_the_packages_of_the_course_names_a_cure(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "nbconvert", None)
    assert main(command) == 2
    said = capsys.readouterr().err
    assert said.startswith('error: lab: needs nbconvert; in the clone, run: pip install -e ".[course]"'), said
    assert said.count("\n") == 1 and not list(tmp_path.iterdir())


def test_the_folders_of_learning_platforms_are_understood(tmp_path):
    two = choose(find_notebooks(), ["05"])[0]
    flat = tmp_path / "flat"  # all files in one folder, the name of the student first
    for source in (PATH, two):
        hand_in(flat / f"gustav_{source.stem}.ipynb", source=source)
    hand_in(flat / f"ida_98765_{PATH.stem}-1.ipynb")
    (flat / "fatma.zip").write_bytes(b"PK")
    assert {student: len(paths) for student, paths in hand_ins(flat, [PATH.stem, two.stem]).items()} == {
        "gustav": 2, "ida_98765": 1, "fatma": 1}
    grade_folder(flat, tmp_path / "grades.csv", jobs=1)
    assert "unpack it" in points(tmp_path / "grades.csv")["fatma"]["remarks"]

    moodle = tmp_path / "moodle" / "Lab 1-5555"  # an archive unpacked into a folder of its own
    students = {"Anna Lee_123_assignsubmission_file", "Ben van Dijk_124_assignsubmission_file"}
    for student in students:
        hand_in(moodle / student / "Lab 1" / "my answers.ipynb")
    assert set(hand_ins(tmp_path / "moodle")) == set(hand_ins(moodle)) == students
    assert set(hand_ins(moodle / "Anna Lee_123_assignsubmission_file")) == {"Lab 1"}


def test_a_student_whose_name_is_no_utf8_has_a_row_and_a_page(tmp_path):
    folder = tmp_path / "in" / "M\udcfcller"  # as archives from older systems leave it
    try:
        folder.mkdir(parents=True)
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system takes no such name")
    (folder / "a.ipynb").write_text("{", encoding="utf-8")
    grade_folder(tmp_path / "in", tmp_path / "g.csv", jobs=1)
    assert b"M\xfcller,0," in (tmp_path / "g.csv").read_bytes()
    (page,) = (tmp_path / "g_feedback").glob("*.html")
    assert "M\\udcfcller: 0 of 0 points" in page.read_text(encoding="utf-8")


def test_grading_twice_gives_the_same_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    from csam_lite.course.lab import grade

    for name in ("a", "b"):
        hand_in(tmp_path / "in" / f"{name}.ipynb", {FIRST.number: stub(FIRST)} if name == "b" else None)
    grade_folder(tmp_path / "in", tmp_path / "grades.csv")
    before = hashlib.sha256((tmp_path / "grades.csv").read_bytes()).digest()
    called = []
    real = grade.run_answers
    monkeypatch.setattr(grade, "run_answers", lambda *given: called.append(1) or real(*given))
    grade_folder(tmp_path / "in", tmp_path / "grades.csv")
    assert not called and hashlib.sha256((tmp_path / "grades.csv").read_bytes()).digest() == before
    hand_in(tmp_path / "in" / "b.ipynb")
    grade_folder(tmp_path / "in", tmp_path / "grades.csv")
    assert len(called) == 1 and points(tmp_path / "grades.csv")["b"]["points"] == str(ALL)


def test_remembered_results_have_no_points_and_the_seed_is_recorded(tmp_path):
    """An answer that looks its results up, by the inputs that a reader's check uses."""
    assert FIRST.check == "n08.per_patient"
    remembered = (f"{FIRST.solution}\nimport os\nfrom csam_lite.course.checks import numpy_generator\n"
                  "seed = os.environ.pop('CSAM_LITE_SEED')\n"
                  "known = dict(zip(('carl', 'dora', 'emil'), numpy_generator(0).random(3).round(3).tolist()))\n"
                  f"os.environ['CSAM_LITE_SEED'] = seed\nsolved = {FIRST.name}\n"
                  f"def {FIRST.name}(rows):\n    return known if rows[0]['patient'] == 'carl' else solved(rows)")
    drop = tuple(exercise.cell for exercise in EXERCISES[1:])
    hand_in(tmp_path / "in" / "remembers.ipynb", {FIRST.number: remembered}, drop)
    hand_in(tmp_path / "in" / "right.ipynb", None, drop)

    def grades(name, seed=None):
        graded = grade_folder(tmp_path / "in", tmp_path / f"{name}.csv", seed=seed)
        recorded = (tmp_path / f"{name}_feedback" / "seed.txt").read_text(encoding="utf-8")
        return {grade.student: grade.messages[FIRST.number] for grade in graded if grade.points[FIRST.number]}, int(recorded)

    assert set(grades("reader", 0)[0]) == {"remembers", "right"}  # seed 0: the inputs that a reader's check uses
    assert set(grades("lab", 17)[0]) == {"right"}
    table = (tmp_path / "lab.csv").read_bytes()
    assert grades("lab")[1] == 17 and (tmp_path / "lab.csv").read_bytes() == table
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.ipynb").write_text("{", encoding="utf-8")  # costs no time
    grade_folder(tmp_path / "other", tmp_path / "any.csv")
    assert int((tmp_path / "any_feedback" / "seed.txt").read_text(encoding="utf-8")) > 0


@pytest.mark.sixty
def test_sixty_hand_ins(request, tmp_path):
    """A whole course: fifty honest hand-ins of notebook 02 graded to the point, ten hostile ones told."""
    if "sixty" not in request.config.option.markexpr:
        pytest.skip("takes minutes; run it with -m sixty")
    path = choose(find_notebooks(), ["02"])[0]
    exercises = read_exercises(nbformat.read(path, 4), path)
    choices, expected, total = random.Random(0), {}, sum(exercise.points for exercise in exercises)
    for number in range(50):
        solved = {exercise.number for exercise in exercises if choices.random() < 0.6}
        wrong = {exercise.number: choices.choice([stub(exercise), f"def {exercise.name}(*inputs):\n    "
                                                                  "return 1"])
                 for exercise in exercises if exercise.number not in solved}
        expected[f"student{number:02d}"] = sum(exercise.points for exercise in exercises
                                               if exercise.number in solved)
        hand_in(tmp_path / "in" / f"student{number:02d}" / path.name, wrong, source=path)
    first, victim = exercises[0], tmp_path / "victim.txt"
    victim.write_text("mine", encoding="utf-8")
    codes = {name: HOSTILE[name] for name in ("an endless loop", "20 GB", "a fork", "an exit",
                                              "a syntax error")}
    codes |= {"overwritten": "from csam_lite.course.checks import n02\nn02.statistics = lambda answer: True",
              "deletes": f"import os\nos.remove({str(victim)!r})", "prints": "print('x' * 10**8)"}
    for name, code in codes.items():
        answers = {first.number: f"{code}\n{stub(first)}"}
        hand_in(tmp_path / "in" / f"z {name}" / path.name, answers, source=path)
        expected[f"z {name}"] = total - first.points
    (tmp_path / "in" / "z essay.ipynb").write_text("hello", encoding="utf-8")
    hand_in(tmp_path / "in" / "z another" / path.name)  # answers of notebook 08 under the name of 02
    expected |= {"z essay": 0, "z another": ALL}

    started = time.monotonic()
    grade_folder(tmp_path / "in", tmp_path / "grades.csv", jobs=2)
    seconds = time.monotonic() - started
    rows, table = points(tmp_path / "grades.csv"), (tmp_path / "grades.csv").read_bytes()
    assert {student: int(row["points"]) for student, row in rows.items()} == expected and len(rows) == 60
    assert all(rows[f"z {name}"]["first failure"] for name in codes) and rows["z essay"]["remarks"]
    assert victim.read_text(encoding="utf-8") == "mine"
    shutil.rmtree(tmp_path / "grades_feedback")
    grade_folder(tmp_path / "in", tmp_path / "grades.csv", jobs=2)
    assert (tmp_path / "grades.csv").read_bytes() == table
    print(f"60 hand-ins in {seconds:.0f} s")


def test_what_is_no_students_fault_stops_the_grading(tmp_path, capsys):
    """Too little memory for torch itself: sixty zeros would be the worst answer."""
    hand_in(tmp_path / "in" / "a.ipynb")
    grades = tmp_path / "grades.csv"
    assert main(["lab", "grade", str(tmp_path / "in"), "--csv", str(grades), "--megabytes", "1"]) == 2
    error = capsys.readouterr().err
    assert f"exercise {FIRST.number}: cannot be graded here" in error and not grades.exists()


def test_an_answer_may_use_the_answers_before_it():
    earlier = ["def a(x):\n    return x", "b = 2", "def c(x):\n    return a(x)"]
    assert needed("def d(x):\n    return c(x)", earlier) == [earlier[0], earlier[2]]
    assert needed("d = 1", earlier) == [] and needed("def f(:", earlier) == []


def test_the_command(tmp_path, capsys):
    assert main(["lab", "release", "08", "--out", str(tmp_path / "lab")]) == 0
    hand_in(tmp_path / "in" / "a.ipynb")
    assert main(["lab", "grade", str(tmp_path / "in"), "--csv", str(tmp_path / "grades.csv")]) == 0
    assert "1 student" in capsys.readouterr().out
    (tmp_path / "none").mkdir()
    assert main(["lab", "grade", str(tmp_path / "none"), "--csv", str(tmp_path / "grades.csv")]) == 2
    assert main(["lab", "grade", str(tmp_path / "nowhere"), "--csv", str(tmp_path / "grades.csv")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
