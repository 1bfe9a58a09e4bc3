"""Execute the notebooks of the course: `python -m csam_lite course`, its test, and how the notebooks get the outputs they are kept with.

Each notebook runs in a process of its own with an outer time limit, and what it left is then looked through: an error in a cell, an error
that a widget's callback swallowed, a check that failed or kept silent, each fails the notebook with a line that names the cell.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from csam_lite.common.errors import InputError
from csam_lite.common.files import whole_file
from csam_lite.course.page import make_smaller, tidy, write_page

PACKAGE = Path(__file__).parents[1]
MARK = ".csam_lite_course"  # this file tells a folder of ours, that may be emptied, from someone's documents
KEPT = "Task05_Prostate"    # of the course data: a download is not made twice


@dataclass
class Outcome:
    """How one notebook went: seconds by the clock and of computing; `problem` is None or one line that names notebook and cell."""

    notebook: str
    seconds: float
    cpu_seconds: float
    problem: str | None


def run_course(data="phantom", out="course_run", names=(), full=False, learner=False, write=False, timeout=0.0, seed=0, notebooks=None):
    """Execute notebooks into the clean folder `out`: NAME.ipynb, NAME.html (opens offline) and what they make. Returns Outcomes.

    data: "phantom", "msd" or a folder of labelled scans. names: numbers or names of notebooks; all if none. full: QUICK = False.
    learner: as a learner first sees them, without the solutions; each exercise must then say what to do. write: execute as they are and
    save each notebook that ran well with its outputs, in place. timeout: seconds a notebook; 0: 300, or 7200 if `full`.
    Raises InputError for unusable arguments, and after all have run if one failed.
    """
    from csam_lite.common.tables import markdown

    if write and (data != "phantom" or full or learner):
        raise InputError("--write: keeps what a first reader sees; leave out --data, --full and --learner")
    chosen = _choose(notebooks or find_notebooks(), names)
    if data not in ("phantom", "msd"):
        from csam_lite.data.dataset import find_dataset

        data = str(find_dataset(Path(data).resolve(), labelled=True).root)
    parameters = {} if write else {"DATA": data, "QUICK": not full, "SEED": seed}
    out = _clean(out)
    outcomes = []
    for path in chosen:
        print(f"{path.stem} ...", end=" ", flush=True)
        started, computed = time.monotonic(), _cpu_seconds()
        executed, problem = _execute(path, out, parameters, learner, timeout or (7200.0 if full else 300.0))
        outcomes.append(Outcome(path.stem, time.monotonic() - started, _cpu_seconds() - computed, problem))
        if executed:
            write_page(executed, out / f"{path.stem}.html")
        if write and not problem:
            _save_in_place(executed, path)
        print(f"{'FAILED' if problem else 'ok'}, {outcomes[-1].seconds:.1f} s" + (f": {problem}" if problem else ""), flush=True)
    total = Outcome("together", sum(one.seconds for one in outcomes), sum(one.cpu_seconds for one in outcomes), None)
    rows = [{"notebook": one.notebook, "seconds": f"{one.seconds:.1f}", "CPU seconds": f"{one.cpu_seconds:.1f}",
             "result": "failed" if one.problem else "ok" if one is not total else ""} for one in [*outcomes, total]]
    print(f"\n{markdown(rows)}\n\nPages and executed notebooks are in {out}/")
    if failed := [one.problem for one in outcomes if one.problem]:
        raise InputError(failed[0] + (f" (and {len(failed) - 1} more, above)" if failed[1:] else ""))
    return outcomes


def _cpu_seconds():
    """Of all processes that this one started and that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def find_notebooks():
    """The folder `notebooks` of the repository: beside the package, or in the working directory."""
    for folder in (PACKAGE.parent / "notebooks", Path("notebooks")):
        if any(folder.glob("[0-9][0-9]_*.ipynb")):
            return folder
    raise InputError("notebooks/: not found beside the package or here; run this in a clone of the repository")


def sources_hash(notebook):
    """Of all that a person writes in a notebook, nothing of what running it adds; kept in its metadata, it tells old outputs from new."""
    sources = [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in notebook.cells]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()[:16]


def tagged(cell, tag):
    """Whether a cell has the tag."""
    return tag in cell.metadata.get("tags", [])


def printed(cell):
    """What a code cell printed, standard output and error."""
    return "".join(output.text for output in cell.get("outputs", ()) if output.output_type == "stream")


def _choose(folder, names):
    found = sorted(Path(folder).resolve().glob("[0-9][0-9]_*.ipynb"))
    chosen = []
    for name in names:
        fitting = [path for path in found if path.stem == name.removesuffix(".ipynb") or path.stem[:2] == name.zfill(2)]
        if not fitting:
            raise InputError(f"{name}: no such notebook; choose from {', '.join(path.stem for path in found)}")
        chosen += fitting
    return chosen or found


def _clean(out):
    out = Path(out).resolve()
    if out.exists() and not (out.is_dir() and ((out / MARK).exists() or not any(out.iterdir()))):
        raise InputError(f"{out}: holds something else than a run of the course; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).touch()
    for path in [*out.iterdir(), *out.glob("course_data/*")]:
        if path.name not in (MARK, "course_data") and not path.name.startswith(KEPT):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return out


def _execute(path, out, parameters, learner, timeout):
    """Execute one notebook; return (the executed notebook or None, problem or None)."""
    import nbformat
    from papermill import inspect_notebook

    source = nbformat.read(path, as_version=4)
    if missing := set(parameters) - set(inspect_notebook(str(path))):
        return None, f"{path.name}: has no parameter {', '.join(sorted(missing))} in a cell tagged parameters"
    numbers = {cell.get("id"): number for number, cell in enumerate(source.cells, 1)}
    if learner:
        source.cells = [cell for cell in source.cells if not tagged(cell, "solution")]
    for cell in source.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    given, target = out / f".{path.name}", out / path.name
    nbformat.write(source, given)

    # Kernels find this very package: without it the setup cell would install another one.
    found = os.pathsep.join(filter(None, (str(PACKAGE.parent), os.environ.get("PYTHONPATH"))))
    call = [sys.executable, "-m", "csam_lite.course.execute", str(given), str(target), json.dumps(parameters)]
    with open(out / "log.txt", "w") as log:
        process = subprocess.Popen(call, cwd=out, env=os.environ | {"PYTHONPATH": found}, stdout=log, stderr=log)
        try:
            process.wait(timeout)
            late = False
        except BaseException as error:
            _stop(process)
            late = isinstance(error, subprocess.TimeoutExpired)
            if not late:
                raise
    given.unlink()
    executed = nbformat.read(target, as_version=4) if target.exists() else None
    if executed is None:
        return None, f"{path.name}: did not start ({_last_line(out / 'log.txt')})"

    def where(cell):
        number = numbers.get(cell.get("id"))
        first = next((line.strip() for line in cell.source.splitlines() if line.strip()), "")
        return f"{path.name}, {f'cell {number}' if number else 'the injected parameters'} ({first[:50]})"

    if problem := _first_problem(executed, learner, where):
        return executed, problem
    if late:
        return executed, f"{where(_running(executed))}: not done after {timeout:g} s"
    if process.returncode:
        return executed, f"{where(_running(executed))}: the kernel or its client ended ({_last_line(out / 'log.txt')})"
    return executed, None


def _first_problem(notebook, learner, where):
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            if output.output_type == "error":  # of the cell, or of a callback that interact or an Output widget swallowed
                return f"{where(cell)}: {output.ename}: {_one_line(output.evalue)}"
        text = printed(cell)
        if "Traceback (most recent call last)" in text:
            return f"{where(cell)}: printed a traceback: {text.strip().splitlines()[-1]}"
        if learner and tagged(cell, "exercise") and not re.search(r"^\[\.\.\]", text, re.MULTILINE) and cell.execution_count:
            return f"{where(cell)}: the untouched exercise does not say what to do (no line starts with [..])"
        if tagged(cell, "solution") and "[FAIL]" in text:
            return f"{where(cell)}: the solution fails its check: {text[text.index('[FAIL]'):].splitlines()[0]}"
    return None


def _running(notebook):
    """The cell that was being executed when the process ended; the last one if none was."""
    started = [cell for cell in notebook.cells if cell.metadata.get("papermill", {}).get("status") == "running"]
    return (started or notebook.cells)[-1]


def _stop(process):
    """End the client, which ends its kernel."""
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_line(log):
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return _one_line(lines[-1]) if lines else "no message"


def _one_line(text):
    return " ".join(text.split())[:300]


def _save_in_place(executed, path):
    """The notebook with its outputs, without what a machine adds: times, widget state (a widget without it shows an error) and versions."""
    import nbformat

    for cell in executed.cells:
        for name in ("papermill", "execution"):
            cell.metadata.pop(name, None)
    tidy(executed)
    executed.metadata.clear()
    executed.metadata.update(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"}, language_info={"name": "python"},
        csam_lite={"sources": sources_hash(executed)})
    executed.nbformat_minor = 5
    make_smaller(executed)
    with whole_file(path) as part:
        part.write_text(nbformat.writes(executed) + "\n", encoding="utf-8")


def _papermill(given, target, parameters):
    """What the process of one notebook does."""
    import papermill
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine, papermill_engines
    from papermill.exceptions import PapermillExecutionError
    from papermill.utils import merge_kwargs, remove_args

    class Engine(NBClientEngine):
        """nbclient without its stand-in for Output widgets: that one waits for ever now and then (jupyter/nbclient#312) and hides errors."""

        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, log_output=False, stdout_file=None, stderr_file=None, start_timeout=60,
                                     execution_timeout=None, **options):
            options = merge_kwargs(remove_args(["input_path", "timeout"], **options), timeout=execution_timeout, kernel_name=kernel_name,
                                   startup_timeout=start_timeout)
            client = PapermillNotebookClient(nb_man, **options)
            client.widget_registry = {}
            return client.execute()

    papermill_engines.register("csam_lite", Engine)
    try:
        papermill.execute_notebook(given, target, parameters, engine_name="csam_lite", kernel_name="python3", progress_bar=False)
    except PapermillExecutionError:
        pass  # stands in the notebook that was written, where run_course finds it


if __name__ == "__main__":
    _papermill(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
