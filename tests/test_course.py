"""The runner on tiny notebooks, what notebooks share, the structure of all notebooks, and all of them run."""

import ast
import base64
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb

from csam_lite import Config, course
from csam_lite.common.errors import InputError

nbformat = pytest.importorskip("nbformat", reason="the course needs csam-lite[course]")
pytest.importorskip("papermill", reason="the course needs csam-lite[course]")
pytest.importorskip("nbconvert", reason="the course needs csam-lite[course]")

from csam_lite.course.execute import run_course  # noqa: E402
from csam_lite.course.notebooks import folded, printed, sources_hash, tagged  # noqa: E402
from csam_lite.course.stamp import read_address  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
ADDRESS = read_address(ROOT)
SETUP = '''\
import importlib.util, subprocess, sys

if importlib.util.find_spec("csam_lite") is None:  # on Colab: installs only what is missing, replaces nothing that is loaded
    wanted = "ADDRESS"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--upgrade-strategy", "only-if-needed", wanted], check=True)

import matplotlib.pyplot as plt
import numpy as np
import torch

from csam_lite import course
from csam_lite.course import checks

torch.manual_seed(0);'''.replace("ADDRESS", ADDRESS.install)
PARAMETERS = ('DATA = "phantom"  # "phantom", "msd" (downloads MSD Task05), or a folder of scans\n'
              'QUICK = True\nSEED = 0')
SLIDER = "from ipywidgets import interact\ndef draw(x):\n    {}\ninteract(draw, x=(0, 3))"


def write_notebook(folder, *cells, parameters=PARAMETERS, name="00_tiny"):
    """A notebook of code cells, each its source or (source, tag), after a cell of parameters."""
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    folder.mkdir(exist_ok=True)
    made = [new_markdown_cell("# 00 Tiny\n\nAn equation: $g_c = \\sigma(x_c)$ and `cost $1`."),
            new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    for cell in cells:
        source, tags = (cell, []) if isinstance(cell, str) else (cell[0], [cell[1]])
        made.append(new_code_cell(source, metadata={"tags": tags}))
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(new_notebook(cells=made, metadata=kernel), folder / f"{name}.ipynb")
    return folder


def test_a_run_leaves_pages_that_open_offline_and_a_table(tmp_path, capsys):
    """Two notebooks share the working directory; the page has the equation, and loads nothing."""
    notebooks = write_notebook(tmp_path / "nb", "open('made.txt', 'w').write(f'{DATA} {QUICK} {SEED}')",
                               SLIDER.format("print(x)"))
    write_notebook(tmp_path / "nb", "print(open('made.txt').read())", name="01_second")
    outcomes = run_course(out=tmp_path / "out", notebooks=notebooks, full=True, seed=7)
    assert {outcome.notebook: outcome.problem for outcome in outcomes} == {"00_tiny": None, "01_second": None}
    second = nbformat.read(tmp_path / "out" / "01_second.ipynb", 4)
    assert "phantom False 7" in printed(second.cells[-1])
    page = (tmp_path / "out" / "00_tiny.html").read_text(encoding="utf-8")
    assert "<math" in page and "cost $1" in page
    assert not re.findall(r'(?:src|href|import)\s*=?\s*"https?://[^"]*"', page)
    printed_lines = capsys.readouterr().out
    assert re.search(r"00_tiny \.\.\. ok, \d+\.\d s", printed_lines) and "| together" in printed_lines


FAILURES = {
    "an error": ("1 / 0", r"00_tiny\.ipynb, cell 3 \(1 / 0\): ZeroDivisionError: division by zero"),
    "an error that interact hides": (
        SLIDER.format("raise ValueError('hidden')"), r"cell 3 .*ValueError: hidden"),
    "an error that an Output widget hides": (
        "import ipywidgets\nwith ipywidgets.Output():\n    raise KeyError('hidden')", r"cell 3 .*KeyError"),
    "a printed traceback": (
        "import traceback\ntry:\n    1 / 0\nexcept Exception:\n    traceback.print_exc()",
        r"cell 3 .*ZeroDivisionError"),
    "the kernel's end": ("import os\nos._exit(1)", r"cell 3 "),
    "a silent exit": ("raise SystemExit", r"cell 3 .*SystemExit"),
    "a solution that fails": (
        ("print('[FAIL] gate: values')", "solution"), r"cell 3 .*\[FAIL\] gate: values"),
}


@pytest.mark.stress(trial="rude notebooks", found=8)
@pytest.mark.parametrize("cell, message", FAILURES.values(), ids=FAILURES)
def test_a_notebook_fails_by(cell, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run_course(out=tmp_path / "out", notebooks=write_notebook(tmp_path / "nb", cell))


def has_ended(process):
    """Whether a process ends within five seconds; where there is no /proc, it is believed."""
    state = Path("/proc") / str(process) / "stat"
    for _ in range(50 if Path("/proc/self").exists() else 0):
        if not state.exists() or state.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return not Path("/proc/self").exists()


RUDE = {  # what a cell does: (its source, what the runner says)
    "imports what is not there": ("import not_there_at_all", r"cell 3 .*ModuleNotFoundError"),
    "does not parse": ("def f(:", r"cell 3 .*SyntaxError"),
    "asks for input": ("input('who?')", r"cell 3 .*StdinNotImplementedError"),
    "ends in a signal": ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", r"cell 3 "),
    "reads address 0": ("import ctypes\nctypes.string_at(0)", r"cell 3 "),
    "recurses without end": ("def f():\n    return f() + 1\nf()", r"cell 3 .*RecursionError"),
    "asks for more memory than there is": ("x = bytearray(1 << 60)", r"cell 3 .*MemoryError"),
    "raises an error without a message": ("raise ValueError", r"cell 3 .*ValueError"),
    "raises an error of many lines": ("raise ValueError('a\\nb\\n' * 50)", r"cell 3 .*ValueError: a b"),
    "raises an error that cannot be printed": (
        "class E(Exception):\n    def __str__(self):\n        1 / 0\nraise E", r"cell 3 .*"),
    "deletes the folder in which it runs": (
        "import os, shutil\nshutil.rmtree(os.getcwd())", r": deleted the folder in which it ran"),
    "prints 100 MB at once": ("print('x' * 100_000_000)", r"cell 3 .*the cell puts out more than 20 MB; let it print less"),
    "prints 60 MB in lines": (
        "for _ in range(600):\n    print('x' * 100_000)", r"cell 3 .*the cell puts out more than 20 MB"),
    "has a value of 100 MB": ("'x' * 100_000_000", r"cell 3 .*the cell puts out more than 20 MB"),
    "closes its standard output": ("import sys\nsys.stdout.close()\nprint('x')", r"cell 3 "),
    "forgets a solution's check": (("print('[FAIL] gate: nothing')", "solution"), r"cell 3 .*\[FAIL\] gate: nothing"),
}
HARMLESS = {
    "a thread that never ends": "import threading, time\nthreading.Thread(target=time.sleep, args=(3600,), daemon=True).start()",
    "a child process": "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(2)'])",
    "a fork": "import os\nif os.fork() == 0:\n    os._exit(0)",
    "a changed directory": "import os\nos.chdir('/')",
    "text that is no UTF-8": "import os\nos.write(1, b'\\xff\\xfe')\nprint('\\udcff'.encode('utf-8', 'replace'))",
    "control letters": "print('\\x1b[31mred\\x1b[0m\\x00\\x07')",
    "html that closes the page": "from IPython.display import HTML, display\ndisplay(HTML('</script></body></html>'))",
    "warnings": "import warnings\nwarnings.warn('old')",
    "an empty cell": "",
    "a magic command": "%time 1 + 1",
}


def run_rude(cells, tmp_path, capsys):
    """Run a notebook for each rude cell, and one after them; each must be named in one line, and the last one run."""
    for number, (cell, _) in enumerate(cells):
        notebooks = write_notebook(tmp_path / "nb", cell, name=f"{number:02}_tiny")
    write_notebook(tmp_path / "nb", "print('on')", name="99_last")
    with pytest.raises(InputError) as caught:
        run_course(out=tmp_path / "out", notebooks=notebooks)
    said = capsys.readouterr().out
    lines = {line[:2]: line for line in said.splitlines() if "_tiny ... " in line}
    for number, (cell, message) in enumerate(cells):
        assert re.search(rf"FAILED, [0-9.]+ s: {number:02}_tiny\.ipynb.*{message}", lines[f"{number:02}"]), (cell, lines[f"{number:02}"])
    assert "\n" not in str(caught.value) and "99_last ... ok" in said and "Traceback" not in said
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file()) < 60e6


@pytest.mark.row("reliability 11")
def test_rude_cells_are_named_and_the_next_notebook_runs(tmp_path, capsys):
    run_rude([RUDE[name] for name in ("deletes the folder in which it runs", "prints 60 MB in lines")], tmp_path, capsys)


@pytest.mark.stress(trial="rude notebooks", found=8, count=len(RUDE))
def test_all_rude_cells(stress, tmp_path, capsys):
    run_rude(list(RUDE.values()), tmp_path, capsys)


def run_strange(cells, tmp_path):
    folder = tmp_path / "a {y} b's"  # papermill formats paths
    for number, cell in enumerate(cells):
        write_notebook(folder, cell, "print('done')", name=f"{number:02}_tiny")
    outcomes = run_course(out=tmp_path / "out {x}", notebooks=folder)
    assert len(outcomes) == len(cells) and not [outcome.problem for outcome in outcomes if outcome.problem]


@pytest.mark.row("files 16")
def test_a_strange_cell_in_a_folder_with_braces_fails_nobody(tmp_path):
    run_strange(["\n".join(HARMLESS[name] for name in ("a changed directory", "control letters", "html that closes the page"))], tmp_path)


@pytest.mark.stress(trial="rude notebooks", found=8, count=len(HARMLESS))
def test_cells_that_are_strange_but_fail_nobody(stress, tmp_path):
    run_strange(list(HARMLESS.values()), tmp_path)


FILES = {"text": b"hello", "empty": b"", "a list": b"[1, 2]", "not UTF-8": b'{"cells": "\xff"}', "null": b"null",
         "of nbformat 99": b'{"cells": [], "metadata": {}, "nbformat": 99, "nbformat_minor": 0}',
         "of nbformat 'x'": b'{"cells": [], "metadata": {}, "nbformat": "x", "nbformat_minor": 0}',
         "without cells": b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}',
         "cells that are numbers": b'{"cells": [1], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
         "of an unknown language": json.dumps({
             "cells": [{"cell_type": "code", "id": "a", "source": "x = 1", "outputs": [], "execution_count": None,
                        "metadata": {"tags": ["parameters"]}}], "nbformat": 4, "nbformat_minor": 5,
             "metadata": {"kernelspec": {"name": "klingon", "language": "klingon", "display_name": "K"}}}).encode(),
         "deep": b'{"cells": ' + b"[" * 100_000}


@pytest.mark.row("reliability 11")
@pytest.mark.stress(trial="rude notebooks", found=8, count=len(FILES))
def test_files_that_are_no_notebooks_are_named_and_the_others_run(tmp_path, capsys):
    (tmp_path / "nb").mkdir()
    for number, content in enumerate(FILES.values()):
        (tmp_path / "nb" / f"{number:02}_tiny.ipynb").write_bytes(content)
    write_notebook(tmp_path / "nb", "print('on')", name="99_last")
    with pytest.raises(InputError, match=rf"00_tiny\.ipynb: is no notebook that can be read .*and {len(FILES) - 1} more"):
        run_course(out=tmp_path / "out", notebooks=tmp_path / "nb")
    said = capsys.readouterr().out
    assert said.count("is no notebook that can be read") == len(FILES) and "99_last ... ok" in said
    assert "Traceback" not in said


ENDLESS = {"sleeps": "import time\nwhile True:\n    time.sleep(0.1)",
           "holds the interpreter lock": "sum(range(10**12))"}  # this kernel cannot even hear that it should stop


@pytest.mark.row("reliability 11")
@pytest.mark.stress(trial="rude notebooks", found=8)
@pytest.mark.parametrize("cell", ENDLESS.values(), ids=ENDLESS)
def test_an_endless_notebook_is_ended_with_its_kernel(cell, tmp_path, request):
    if "sleep" in cell and "stress" not in request.config.option.markexpr:
        pytest.skip("the harder one runs; both with -m stress")
    notebooks = write_notebook(tmp_path / "nb", "import os, pathlib\npathlib.Path('pid').write_text(str(os.getpid()))", cell)
    with pytest.raises(InputError, match=r"cell 4 .*not done after \d+ s"):
        run_course(out=tmp_path / "out", notebooks=notebooks, timeout=12)  # the first cells are done by then; on a busy machine it is longer
    assert has_ended(int((tmp_path / "out" / "pid").read_text(encoding="utf-8")))


@pytest.mark.row("reliability 11")
def test_a_busy_machine_gives_a_notebook_more_time(monkeypatch):
    from csam_lite.course import execute

    monkeypatch.setattr(os, "getloadavg", lambda: (15.0 * os.cpu_count(), 0, 0))
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(2)"])
    assert execute._wait(process, 1) == 0  # five seconds, because the machine has 15 times the work it can do
    monkeypatch.setattr(os, "getloadavg", lambda: (0.5, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    started = time.monotonic()
    assert execute._wait(process, 0.5) is None and time.monotonic() - started < 5
    process.kill()
    process.wait()


@pytest.mark.row("files 15")
def test_the_kernel_is_this_python_whatever_is_installed_as_python3(tmp_path, monkeypatch):
    spec = tmp_path / "share" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": ["/bin/false", "{connection_file}"], "display_name": "x", "language": "python"}),
                    encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    cell = f"import sys\nassert sys.executable == {sys.executable!r}"
    run_course(out=tmp_path / "out", notebooks=write_notebook(tmp_path / "nb", cell))


@pytest.mark.parametrize("out", ["file/x", "file"])
def test_a_place_for_the_course_that_cannot_be_written(out, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file.*: (cannot be (written|read)|holds something other)"):
        run_course(out=tmp_path / out, notebooks=write_notebook(tmp_path / "nb", "1"))


def test_a_parameter_that_the_notebook_lacks_fails(tmp_path):
    notebooks = write_notebook(tmp_path / "nb", "print(DATA)", parameters="DATA = 'phantom'\nSEED = 0")
    with pytest.raises(InputError, match=r"00_tiny\.ipynb: has no parameter QUICK"):
        run_course(out=tmp_path / "out", notebooks=notebooks)


def test_the_other_notebooks_run_where_one_fails(tmp_path, capsys):
    notebooks = write_notebook(tmp_path / "nb", "1 / 0")
    write_notebook(tmp_path / "nb", "print('on')", name="01_second")
    with pytest.raises(InputError, match="00_tiny"):
        run_course(out=tmp_path / "out", notebooks=notebooks)
    assert "01_second ... ok" in capsys.readouterr().out


EXERCISE = ("def gate(x):\n    ...\nprint('{}')", "exercise")


def test_a_learner_sees_no_solution_and_is_told_what_to_do(tmp_path):
    stub = (EXERCISE[0].format("[..] gate: complete the cell"), "exercise")
    notebooks = write_notebook(tmp_path / "nb", stub, ("1 / 0", "solution"))
    run_course(out=tmp_path / "out", notebooks=notebooks, learner=True)
    notebooks = write_notebook(tmp_path / "nb", (EXERCISE[0].format("[OK] gate"), "exercise"))
    with pytest.raises(InputError, match="cell 3 .*untouched exercise"):
        run_course(out=tmp_path / "out", notebooks=notebooks, learner=True)


def test_a_cell_that_needs_the_solution_fails_for_a_learner_and_is_named_by_its_number(tmp_path):
    notebooks = write_notebook(tmp_path / "nb", ("answer = 1", "solution"), "print(answer)")
    with pytest.raises(InputError, match=r"cell 4 \(print\(answer\)\): NameError"):
        run_course(out=tmp_path / "out", notebooks=notebooks, learner=True)


def test_outputs_are_saved_in_place_with_the_hash_of_their_sources(tmp_path):
    notebooks = write_notebook(tmp_path / "nb", SLIDER.format("print('moved', x)"))
    run_course(out=tmp_path / "out", notebooks=notebooks, write=True)
    saved = nbformat.read(notebooks / "00_tiny.ipynb", 4)
    assert saved.metadata.csam_lite.sources == sources_hash(saved)
    assert len(saved.cells) == 3 and printed(saved.cells[2]) == "moved 1\n"
    assert "widget" not in json.dumps(saved.metadata)
    assert [output.output_type for output in saved.cells[2].outputs] == ["stream"]
    saved.cells[2].source += "  # changed"
    assert saved.metadata.csam_lite.sources != sources_hash(saved)


def test_a_folder_of_someone_else_is_not_emptied(tmp_path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(InputError, match="holds something other than"):
        run_course(out=tmp_path, notebooks=write_notebook(tmp_path / "nb", "1"))
    assert (tmp_path / "mine.txt").exists()


def test_a_second_run_starts_clean_but_keeps_a_download(tmp_path):
    notebooks, out = write_notebook(tmp_path / "nb", "1"), tmp_path / "out"
    run_course(out=out, notebooks=notebooks)
    for name in ("course_data/Task05_Prostate/x", "course_data/run_1/x", "left.txt"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).touch()
    run_course(out=out, notebooks=notebooks)
    assert (out / "course_data/Task05_Prostate/x").exists()
    assert not (out / "course_data/run_1").exists() and not (out / "left.txt").exists()


@pytest.mark.row("reliability 17")
@pytest.mark.parametrize("arguments, message", [
    (dict(names=["7"]), "7: no such notebook; choose from 00_tiny"),
    (dict(names=[""]), "'': no such notebook"), (dict(timeout=float("nan")), "--timeout nan"), (dict(timeout=-1.0), "--timeout -1"),
    (dict(data="nowhere"), "no such folder"),
    (dict(write=True, learner=True), "--write"),
    (dict(write=True, seed=1), "--write")])
def test_arguments_that_cannot_be_used(arguments, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run_course(out=tmp_path / "out", notebooks=write_notebook(tmp_path / "nb", "1"), **arguments)


def test_the_command_tells_of_a_failure_in_one_line_and_with_its_exit_code(tmp_path, monkeypatch, capsys):
    from csam_lite.cli import main
    from csam_lite.course import execute

    monkeypatch.setattr(execute, "find_notebooks", lambda: write_notebook(tmp_path / "nb", "1 / 0"))
    assert main(["course", "--out", str(tmp_path / "out"), "00"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_data_and_networks_of_the_course(tmp_path, monkeypatch, phantoms):
    """The shipped network is used where it fits, on two channels too; otherwise one is trained, once."""
    monkeypatch.chdir(tmp_path)
    dataset = course.load_dataset(str(phantoms))
    scan = course.load_scan(dataset, k=len(dataset.cases) + 1)
    assert scan.name == dataset.cases[1].name
    assert scan.channels == ("T2", "ADC") and scan.classes == ("PZ", "TZ")
    shipped = course.load_network(dataset)
    assert course.network_input(shipped, scan).shape == (len(scan.image), 1, 96, 96)
    short = dict(pixels=32, levels=3, base_channels=4, epochs=1, test=4)
    run = course.load_network(dataset, train=True, **short)
    stamp = (run.folder / "best.safetensors").stat().st_mtime_ns
    assert course.network_input(run, scan).shape == (len(scan.image), 2, 32, 32)
    again = course.load_network(dataset, attention="all", **short)
    assert again.folder == run.folder and (run.folder / "best.safetensors").stat().st_mtime_ns == stamp
    assert course.load_network(dataset, attention="none", **short).folder != run.folder


def test_data_and_runs_lie_where_the_environment_says(tmp_path, monkeypatch):
    """On Colab the folder is one on Drive, which outlives the machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CSAM_LITE_DATA", str(tmp_path / "drive" / "data"))
    dataset = course.load_dataset("phantom")
    run = course.load_network(dataset, train=True, pixels=32, levels=3, base_channels=4, epochs=1)
    assert dataset.root.parent == run.folder.parent == tmp_path / "drive" / "data"
    assert not (tmp_path / "course_data").exists()
    monkeypatch.setenv("CSAM_LITE_DATA", "")
    assert course.data_folder() == Path("course_data")


def test_a_scan_without_the_networks_channel_is_refused(tmp_path, monkeypatch, phantoms):
    monkeypatch.chdir(tmp_path)
    dataset = course.load_dataset(str(phantoms)).only_channels(["ADC"])
    short = dict(pixels=32, levels=3, base_channels=4, epochs=1, test=4)
    two = course.load_network(course.load_dataset(str(phantoms)), **short)
    with pytest.raises(InputError, match="has no channel T2; it has ADC"):
        course.network_input(two, course.load_scan(dataset))


# The structure of the notebooks

MOST_CODE = 18  # lines of a cell; the aim is ten
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@every_notebook
def test_the_notebook_is_as_the_others(path):
    """Cells, lines and words within the targets; the required parts, in order; exercises and knobs whole."""
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    cells, number = notebook.cells, path.stem[:2]
    code, prose = ([cell for cell in cells if cell.cell_type == kind] for kind in ("code", "markdown"))
    problems = []

    def hold(true, text):
        problems.extend([] if true else [text])

    lengths = sorted(len(cell.source.splitlines()) for cell in code)
    unfolded = (re.sub(r"<details>.*?</details>", "", cell.source, flags=re.DOTALL) for cell in prose)
    words = sum(len(_words(text)) for text in unfolded)
    most = 38 + 4 * sum(tagged(cell, "exercise") for cell in cells)  # an exercise has four cells, and all have a table
    hold(25 <= len(cells) <= most, f"{len(cells)} cells, more than {most}")
    median = lengths[len(lengths) // 2]
    hold(lengths[-1] <= 40 and median <= 12, f"code cells of {lengths[-1]} lines, {median} in the median")
    hold(800 <= words <= 1800, f"{words} words outside of folds")
    for k, cell in enumerate(cells, 1):
        if cell.cell_type == "code" and not tagged(cell, "setup"):
            wide = max(map(len, cell.source.splitlines()), default=0)
            hold(wide <= 110, f"cell {k} has a line of {wide} characters")

    first = cells[0].source
    parts = [rf"# {number} ",
             re.escape(f"/github/{ADDRESS.repository}/blob/{ADDRESS.tag}/notebooks/{path.name})"),
             r"\*\*You will be able to\*\*", r"\*\*You need\*\*",
             r"\*\*Minutes\*\*: read \S+ / (do \S+ / run|CPU \S+ / T4) \S+"]
    at = [match.start() if (match := re.search(part, first)) else -1 for part in parts]
    lacking = [part for part, place in zip(parts, at) if place < 0]
    hold(not lacking and at == sorted(at), f"the first cell lacks, or has in another order: {lacking or at}")
    hold(tagged(cells[1], "setup") and cells[1].source.strip() == SETUP, "the second cell is no setup cell")
    names = re.findall(r"^(\w+) =", cells[2].source, re.MULTILINE)
    more = ["MY_SCAN", "MY_MASK", "MY_CLASSES"] if number == "09" else []
    hold(tagged(cells[2], "parameters") and names == ["DATA", "QUICK", "SEED", *more],
         "the third cell is not that of the parameters")
    problems += _exercise_problems(cells, number)
    hold(any("interact(" in cell.source for cell in code), "no knob: interact(")

    text = "\n".join(cell.source for cell in prose)
    recap, questions = text.find("## Recap"), text.find("## Five questions")
    hold(0 < recap < questions, "no Recap, or not before Five questions")
    count = text[questions:].count("<summary>")
    hold(count == 5, f"{count} questions at the end")
    hold(text.count("<details>") == text.count("</details>"), "a <details> is not closed")
    for following in NOTEBOOKS[NOTEBOOKS.index(path) + 1:][:1]:
        hold(f"({following.name})" in text[questions:], "no link to the next notebook at the end")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", text):
        hold((path.parent / target).exists(), f"a link to nowhere: {target}")
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


def _exercise_problems(cells, number):
    """Each exercise has a header, a stub with a check, a folded hint, and a hidden, checked solution."""
    exercises = [i for i, cell in enumerate(cells) if tagged(cell, "exercise")]
    problems = [] if len(exercises) >= 3 else [f"{len(exercises)} exercises"]
    if len(exercises) != sum(tagged(cell, "solution") for cell in cells):
        problems.append("not one solution for each exercise")
    for k, i in enumerate(exercises, 1):
        before, after = cells[i - 1].source, cells[i + 1:i + 4]
        solution = next((cell for cell in after if tagged(cell, "solution")), None)
        wrong = [what for what, fine in {
            "header": re.search(rf"### Exercise {number}\.{k}: \S", before),
            "difficulty": re.search(
                r"Difficulty: (easy|medium|hard) - Minutes: \d+ - Important: (yes|no)", before),
            "check in the cell": re.search(r"checks\.n\d\d\.", cells[i].source) and "..." in cells[i].source,
            "folded hint": any("<details>" in cell.source and "<summary>" in cell.source
                               for cell in after if cell.cell_type == "markdown"),
            "hidden solution": solution and solution.metadata.get("jupyter", {}).get("source_hidden"),
            "solution folded in Colab": solution and solution.metadata.get("cellView") == "form"
                                        and solution.source.startswith("#@title Solution\n"),
            "solution that is checked": solution and re.search(r"assert checks\.n\d\d\.\w", solution.source),
        }.items() if not fine]
        problems += [f"exercise {number}.{k}: {', '.join(wrong)}"] if wrong else []
    return problems


@every_notebook
def test_a_cell_shows_its_mechanism(path):
    """Pictures are drawn in the package, and no cell but those of the exercises is long."""
    for k, cell in enumerate(nbformat.read(path, 4).cells, 1):
        if cell.cell_type == "code" and not any(tagged(cell, kind) for kind in ("setup", "exercise", "solution")):
            assert not re.search(r"subplots|\.imshow\(|\.legend\(", cell.source), f"cell {k} draws by itself"
            code = [line for line in cell.source.splitlines() if line.strip() and not line.lstrip().startswith("#")]
            assert len(code) <= MOST_CODE, f"cell {k} has {len(code)} lines of code"


@every_notebook
def test_no_figure_is_shown_twice(path):
    """A cell whose last line returns a figure shows it once more, unless the line ends with a semicolon."""
    for k, cell in enumerate(nbformat.read(path, 4).cells, 1):
        kinds = {output.output_type for output in cell.get("outputs", []) if "image/png" in output.get("data", {})}
        assert kinds != {"execute_result", "display_data"}, f"cell {k}"


@every_notebook
def test_a_cell_with_a_knob_prints_nothing_above_it(path):
    """The picture of a knob replaces what its cell has put out, so that a line printed above it is not stored."""
    for k, cell in enumerate(nbformat.read(path, 4).cells, 1):
        if cell.cell_type == "code" and (knob := re.search(r"^interact\(", cell.source, re.MULTILINE)):
            above = cell.source[:knob.start()]
            assert not re.search(r"^(print|display|\w+ = course\.yours_or_ours)\(", above, re.MULTILINE), f"cell {k}"


@every_notebook
def test_a_folded_cell_is_folded_everywhere(path):
    """JupyterLab, Colab and the pages fold a cell each by a mark of its own; the fault of notebook 09 was open in two of them."""
    for k, cell in enumerate(nbformat.read(path, 4).cells, 1):
        hidden = cell.metadata.get("jupyter", {}).get("source_hidden", False)
        marks = cell.metadata.get("cellView") == "form", cell.source.startswith("#@title "), bool(folded(cell))
        assert marks == (hidden, hidden, hidden), f"cell {k}"


@every_notebook
def test_each_exercise_says_what_comes_and_what_is_wanted(path):
    """A stub has a docstring, because its text alone left open what kind of arrays come; the text has a sentence."""
    cells, problems = nbformat.read(path, 4).cells, []
    for before, cell in zip(cells, cells[1:]):
        if tagged(cell, "exercise"):
            (stub,) = (node for node in ast.parse(cell.source).body if isinstance(node, ast.FunctionDef))
            task = re.split(r"Important: \w+", before.source)[-1]
            problems += [] if ast.get_docstring(stub) else [f"{stub.name}: no docstring"]
            problems += [] if len(_words(task)) >= 5 else [f"{stub.name}: no sentence that says what to write"]
    assert not problems


@every_notebook
def test_what_is_said_of_gates_holds_in_the_library_and_in_its_pictures(path):
    """Where gates start, and which shade of their maps is open: all maps of gates are light where they are shut."""
    prose = " ".join(" ".join(cell.source.split()) for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown")
    assert set(re.findall(r"(0\.\d+), where they start", prose)) <= {str(Config(data="", out="").gate_start)}
    for colours in course.GATE_MAPS.values():
        shut, half, opened = (np.mean(to_rgb(colormaps[colours](value))) for value in (0.0, 0.5, 1.0))
        assert shut > half > opened and np.ptp(to_rgb(colormaps[colours](0.5))) > 0.2  # and half open is no grey
    assert not re.findall(r"[Bb]right means open|gr[ae]y in the picture", prose)


@every_notebook
def test_no_table_is_printed_as_markdown(path):
    tables = [cell.source[:60] for cell in nbformat.read(path, 4).cells
              if cell.cell_type == "code" and re.search(r"^\|[-:| ]+\|$", printed(cell), re.MULTILINE)]
    assert not tables  # course.show_table


@every_notebook
def test_the_outputs_are_there_and_as_new_as_the_source(path):
    notebook = nbformat.read(path, 4)
    stored = notebook.metadata.get("csam_lite", {}).get("sources")
    command = f"python -m csam_lite course --write {path.stem[:2]}"
    assert stored == sources_hash(notebook), f"the source was changed; run: {command}"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    pictures = sum("image/png" in output.get("data", {}) for cell in code for output in cell.outputs)
    assert pictures >= 2, f"{pictures} pictures"


@every_notebook
def test_the_file_is_small_and_of_no_machine(path):
    assert path.stat().st_size < 300_000
    notebook = nbformat.read(path, 4)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    texts = [{mime: data for mime, data in output.get("data", {}).items() if mime != "image/png"}
             for output in outputs] + [output.get("text", "") for output in outputs]
    text = json.dumps([cell.source for cell in notebook.cells] + texts)
    assert not re.findall(r"(?<![\w.:/])(?:/root|/home|/tmp|/work|/usr|/Users|[A-Z]:\\\\)[^\s\"]*", text)
    assert "widgets" not in notebook.metadata and "vnd.jupyter.widget" not in json.dumps(outputs)
    assert not [output for output in outputs if output.output_type == "error"]


@every_notebook
def test_every_picture_is_whole_and_of_readable_size(path):
    import struct

    for cell in nbformat.read(path, 4).cells:
        for output in cell.get("outputs", ()):
            if "image/png" in (data := output.get("data", {})):
                width, height = struct.unpack(">II", base64.b64decode(data["image/png"])[16:24])
                assert 200 <= width <= 1600 and 100 <= height <= 1600, (width, height, cell.source[:60])


def _words(markdown):
    """The words a reader reads: without code, equations, addresses and tags."""
    text = re.sub(r"```.*?```|\$\$.*?\$\$", " ", markdown, flags=re.DOTALL)
    text = re.sub(r"`[^`]*`|\$[^$\n]*\$|\]\([^)]*\)|<[^>]*>|https?:\S+", " ", text)
    return re.findall(r"[A-Za-z][A-Za-z'’-]*", text)


@every_notebook
def test_spelling(path):
    """Known misspellings, in prose and comments (codespell's lists)."""
    pytest.importorskip("codespell_lib", reason="spelling needs csam-lite[test]")
    cells = nbformat.read(path, 4).cells
    text = "\n".join(" ".join(_words(cell.source)) if cell.cell_type == "markdown" else cell.source
                     for cell in cells)
    call = [sys.executable, "-m", "codespell_lib", "-"]
    misspelt = subprocess.run(call, input=text, capture_output=True, encoding="utf-8").stdout
    assert not misspelt, misspelt


@every_notebook
def test_no_cell_needs_a_solution(path):
    """A reader who answers nothing sees all that follows: what a solution alone defines is used by no other cell."""
    stored, loaded = {True: set(), False: set()}, set()
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "code":
            solution = tagged(cell, "solution")
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    stored[solution].add(node.id)
                elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                    stored[solution].add(node.name)
                elif isinstance(node, ast.arg):
                    stored[solution].add(node.arg)
                elif isinstance(node, ast.Name) and not solution:
                    loaded.add(node.id)
    assert not (stored[True] - stored[False]) & loaded


# All of them

def run_command(tmp_path, *options):
    """All notebooks on phantoms, as `python -m csam_lite course` runs them.

    The limit is of computing time, not of time by the clock; on a busy machine two threads wait for each other.
    """
    command = [sys.executable, "-m", "csam_lite", "course", *options, "--timeout", "900", "--out", str(tmp_path / "out")]
    run = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
                         env=os.environ | {"PYTHONUTF8": "1"})
    assert run.returncode == 0, run.stdout
    assert run.stdout.count("| ok ") == len(NOTEBOOKS), run.stdout
    together = re.search(r"together +\| +[\d.]+ +\| +([\d.]+)", run.stdout)
    assert float(together[1]) < (600 if os.getloadavg()[0] < 3 else 1200)


@pytest.mark.skipif(not NOTEBOOKS, reason="no notebooks here")
def test_the_whole_course_runs_with_solutions(tmp_path):
    run_command(tmp_path)


@pytest.mark.skipif(not NOTEBOOKS, reason="no notebooks here")
@pytest.mark.readers
def test_the_whole_course_runs_for_a_learner_who_answers_nothing(tmp_path, request):
    if "readers" not in request.config.option.markexpr:
        pytest.skip("takes minutes; run it with -m readers (test_no_cell_needs_a_solution looks at every cell)")
    run_command(tmp_path, "--learner")
