"""Execute the notebooks of the course: `python -m csam_lite course`, its test, and how stored outputs are
made.

Each notebook runs in a process of its own, with a time limit. Then its outputs are inspected. A notebook
fails by an error in a cell, by an error that a widget's callback swallowed, and by a check that failed or
printed nothing; one line names the cell.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from csam_lite.common.errors import InputError, first_line
from csam_lite.common.files import temporary_folder
from csam_lite.common.locks import only_process
from csam_lite.common.tables import markdown
from csam_lite.course.notebooks import PACKAGE, choose, find_notebooks, printed, store, tagged
from csam_lite.data.dataset import find_dataset

if TYPE_CHECKING:
    from nbformat import NotebookNode

MARK = ".csam_lite_course"  # this file marks a folder of ours, which may be emptied
KEPT = "Task05_Prostate"    # of the course data: a download is not repeated
MOST_PRINTED = 20_000_000   # bytes of output of a cell
KERNEL = ("import ctypes, runpy, signal; ctypes.CDLL(None).prctl(1, int(signal.SIGKILL)); "
          "runpy.run_module('ipykernel_launcher', run_name='__main__', alter_sys=True)")
BUSY = 5                    # on a busy machine a notebook may take so many times longer than its limit


@dataclass
class Outcome:
    """How one notebook went: seconds of wall time and of computing; `problem` is one line, or None."""

    notebook: str
    seconds: float
    cpu_seconds: float
    problem: str | None


def run_course(data: str = "phantom", out: str | Path = "course_run", names: Sequence[str] = (),
               full: bool = False, learner: bool = False, write: bool = False, timeout: float = 0.0,
               seed: int = 0, notebooks: Path | None = None,
               more: Mapping[str, object] | None = None) -> list[Outcome]:
    """Execute notebooks in the folder `out`, which then holds NAME.ipynb, NAME.html and what the notebooks
    made.

    data: "phantom", "msd" or a folder of labelled scans. names: numbers or names of notebooks (default: all).
    full: QUICK = False. learner: without the solutions, as a learner first sees them; each exercise must then
    say what to do. write: save each notebook that ran well, with its outputs, in place. timeout: seconds a
    notebook may take; 0 means 300, or 7200 if `full`. seed: SEED in the notebooks. notebooks: their
    folder, if not that of the repository. more: further parameters of the chosen notebooks, such as
    {"MY_SCAN": "scan.nii.gz"} of notebook 09.
    On a machine with more work than processors it may take longer, by that much, but at most five times.
    Raises InputError for arguments that cannot be used, where another process runs the course in `out`, and,
    after all have run, if a notebook failed.
    """
    if not 0 <= timeout < math.inf:
        raise InputError(f"--timeout {timeout:g}: must be a number of seconds, or 0 for the usual limit")
    if write and (data != "phantom" or full or learner or seed):
        raise InputError("--write: stores what a first reader sees; leave out --data, --full, --learner and "
                         "--seed")
    chosen = choose(notebooks or find_notebooks(), names)
    if data not in ("phantom", "msd"):
        data = str(find_dataset(Path(data).resolve(), labelled=True).root)
    parameters = {} if write else {"DATA": data, "QUICK": not full, "SEED": seed, **(more or {})}
    timeout = timeout or (7200.0 if full else 300.0)
    out = Path(out).resolve()
    _check_ours(out)
    busy = f"{out}: another process runs the course there; wait for it, or choose another --out"
    with only_process(out, busy):
        _empty_folder(out)
        outcomes = [_run_one(path, out, parameters, learner, write, timeout) for path in chosen]
    print(f"\n{_table(outcomes)}\n\nPages and executed notebooks are in {out}/")
    if problems := [outcome.problem for outcome in outcomes if outcome.problem]:
        raise InputError(problems[0] + (f" (and {len(problems) - 1} more, above)" if problems[1:] else ""))
    return outcomes


def _run_one(path: Path, out: Path, parameters: dict, learner: bool, write: bool, timeout: float) -> Outcome:
    """Execute one notebook, write its page, store it in place if asked to, and print how it went."""
    from csam_lite.course.page import write_page  # loads nbconvert

    print(f"{path.stem} ...", end=" ", flush=True)
    started, computed, problem = time.monotonic(), _cpu_seconds(), None
    try:
        executed, problem = _execute(path, out, parameters, learner, timeout)
        if executed:
            write_page(executed, out / f"{path.stem}.html")
        if write and not problem:
            store(executed, path)
    except Exception as error:  # a file may hold anything, and a cell may do anything to its folder
        why = _one_line(f"{type(error).__name__}: {first_line(error)}")
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            problem = f"{out}: cannot be written ({error.strerror}); free some space, or choose another --out"
        problem = problem or f"{path.name}: cannot be executed or shown ({why})"
    outcome = Outcome(path.stem, time.monotonic() - started, _cpu_seconds() - computed, problem)
    verdict = f"FAILED, {outcome.seconds:.1f} s: {problem}" if problem else f"ok, {outcome.seconds:.1f} s"
    print(verdict, flush=True)
    return outcome


def _table(outcomes: list[Outcome]) -> str:
    together = Outcome("together", sum(outcome.seconds for outcome in outcomes),
                       sum(outcome.cpu_seconds for outcome in outcomes), None)
    rows = [{"notebook": outcome.notebook, "seconds": f"{outcome.seconds:.1f}",
             "CPU seconds": f"{outcome.cpu_seconds:.1f}", "result": "failed" if outcome.problem else "ok"}
            for outcome in [*outcomes, together]]
    rows[-1]["result"] = ""
    return markdown(rows)


def _cpu_seconds() -> float:
    """The computing time of all processes that this one started and that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def _check_ours(out: Path) -> None:
    """Raises InputError for a folder that holds something other than a run of the course."""
    try:
        # one look, because another process may put the mark there between two
        names = {path.name for path in out.iterdir()} if out.is_dir() else set()
        ours = MARK in names or not names and (out.is_dir() or not out.exists())
    except OSError as error:
        raise InputError(f"{out}: cannot be read ({error.strerror}); choose another --out") from error
    if not ours:
        raise InputError(f"{out}: holds something other than a run of the course; choose another --out")


def _empty_folder(out: Path) -> None:
    """Remove what an earlier run of the course left in `out`. Raises InputError where that cannot be done."""
    try:
        (out / MARK).touch()
        for path in [*out.iterdir(), *out.glob("course_data/*")]:
            if path.name not in (MARK, "course_data") and not path.name.startswith(KEPT):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error


def _execute(path: Path, out: Path, parameters: dict, learner: bool,
             timeout: float) -> tuple[NotebookNode | None, str | None]:
    """Execute one notebook; return (the executed notebook or None, one line on the problem or None)."""
    import nbformat
    from papermill import inspect_notebook

    try:
        notebook = nbformat.read(path, as_version=4)
        known = set(inspect_notebook(_for_papermill(path)))
    except Exception as error:  # for what is no notebook, nbformat and papermill raise errors of many kinds
        why = _one_line(first_line(error))
        return None, f"{path.name}: is no notebook that can be read ({why}); copy it again"
    if missing := set(parameters) - known:
        return None, f"{path.name}: has no parameter {', '.join(sorted(missing))} in a cell tagged parameters"
    places = {cell.get("id"): f"cell {number}" for number, cell in enumerate(notebook.cells, 1)}

    def where(cell: NotebookNode) -> str:
        first = next((line.strip() for line in cell.source.splitlines() if line.strip()), "")
        return f"{path.name}, {places.get(cell.get('id'), 'the injected parameters')} ({first[:50]})"

    if learner:
        notebook.cells = [cell for cell in notebook.cells if not tagged(cell, "solution")]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    source, target = out / f".{path.name}", out / path.name
    nbformat.write(notebook, source)
    started = time.monotonic()
    code = _run_process(source, target, parameters, timeout)
    if not (out / MARK).exists():  # the notebooks that follow need the folder
        out.mkdir(parents=True, exist_ok=True)
        (out / MARK).touch()
        return None, f"{path.name}: deleted the folder in which it ran, {out}"
    source.unlink(missing_ok=True)

    executed = nbformat.read(target, as_version=4) if target.exists() else None
    if executed is None:
        return None, f"{path.name}: did not start ({_last_line(out / 'log.txt')})"
    problem = _first_problem(executed, learner, where)
    if not problem and code is None:
        problem = f"{where(_running(executed))}: not done after {time.monotonic() - started:.0f} s"
    elif not problem and code != 0:
        last = _last_line(out / "log.txt")
        problem = f"{where(_running(executed))}: the kernel or its client ended ({last})"
    return executed, problem


def _run_process(source: Path, target: Path, parameters: dict, timeout: float) -> int | None:
    """Execute `source` into `target` in a process of its own; return its exit code, or None if it took too
    long.
    """
    # The kernel must find this very package, because otherwise the setup cell installs another one.
    search_path = os.pathsep.join(filter(None, (str(PACKAGE.parent), os.environ.get("PYTHONPATH"))))
    with (temporary_folder() as private,
          open(target.parent / "log.txt", "w", encoding="utf-8") as log):
        kernel = private / "kernel"
        arguments = [str(source), str(target), json.dumps(parameters), str(kernel)]
        call = [sys.executable, "-m", "csam_lite.course.execute", *arguments]
        process = subprocess.Popen(call, cwd=target.parent, env=os.environ | {"PYTHONPATH": search_path},
                                   stdout=log, stderr=log)
        try:
            return _wait(process, timeout)
        finally:
            _stop(process, kernel)


def _wait(process: subprocess.Popen, timeout: float) -> int | None:
    """The exit code of a process, or None if it took longer than `timeout` seconds.

    Where more processes want to run than there are processors, it may take longer, by as much.
    """
    started = time.monotonic()
    while True:
        try:
            return process.wait(max(0.1, min(timeout - (time.monotonic() - started), 5.0)))
        except subprocess.TimeoutExpired:
            load = os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else 1.0
            if time.monotonic() - started >= timeout * min(max(load, 1.0), BUSY):
                return None


def _stop(process: subprocess.Popen, kernel: Path) -> None:
    """End the client, if it still runs, and its kernel, whose process number stands in the file `kernel`."""
    ended = process.poll() == 0  # then its kernel has ended before it
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        pass
    if not ended and kernel.exists() and hasattr(os, "killpg"):
        # The client asks its kernel to end, but a kernel that computes in C code does not listen.
        with suppress(OSError, ValueError):
            os.killpg(int(kernel.read_text(encoding="utf-8")), signal.SIGKILL)
    process.kill()
    process.wait()


def _first_problem(notebook: NotebookNode, learner: bool, where: Callable[[NotebookNode], str]) -> str | None:
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            if output.output_type == "error":  # of the cell, or of a callback that a widget swallowed
                return f"{where(cell)}: {output.ename}: {_one_line(output.evalue)}"
        text = printed(cell)
        if "Traceback (most recent call last)" in text:
            return f"{where(cell)}: printed a traceback: {text.strip().splitlines()[-1]}"
        executed_stub = learner and tagged(cell, "exercise") and cell.execution_count
        if executed_stub and not re.search(r"^\[\.\.\]", text, re.MULTILINE):
            return f"{where(cell)}: the untouched exercise does not say what to do (no line starts with [..])"
        if tagged(cell, "solution") and "[FAIL]" in text:
            failure = text[text.index("[FAIL]"):].splitlines()[0]
            return f"{where(cell)}: the solution fails its check: {failure}"
    return None


def _running(notebook: NotebookNode) -> NotebookNode:
    """The cell that was being executed when the process ended; the last cell if there was none."""
    running = [cell for cell in notebook.cells
               if cell.metadata.get("papermill", {}).get("status") == "running"]
    return (running or notebook.cells)[-1]


def _last_line(log: Path) -> str:
    """The last line of a log that says something; a rule of dashes does not."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    lines = [line for line in text.splitlines() if re.search(r"\w", line)]
    return _one_line(lines[-1]) if lines else "no message"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]


def _for_papermill(path: str | Path) -> str:
    """A path as papermill takes it, which formats it: braces are doubled."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _papermill(source: str, target: str, parameters: dict, kernel: str) -> None:
    """Execute one notebook; this is all that the process of a notebook does.

    kernel: the file into which the process number of the kernel is written.
    """
    import papermill
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from nbformat.v4 import new_output
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine, papermill_engines
    from papermill.exceptions import PapermillExecutionError
    from papermill.utils import merge_kwargs, remove_args

    class ThisPython(KernelSpecManager):
        """Knows one kernel, this Python: the one that is installed as "python3" may belong to another."""

        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            known = get_kernel_dict()
            if sys.platform == "linux":  # the kernel is killed when this process ends, however that ends
                module = known["argv"].index("-m")
                known["argv"][module:module + 2] = ["-c", KERNEL]
            return KernelSpec(resource_dir="", **known)

    class Client(PapermillNotebookClient):
        """papermill's client, which notes the process of its kernel and stops to listen to a cell that prints
        without end.
        """

        printed: dict[int, int] = {}  # bytes, by the number of the cell

        def create_kernel_manager(self):
            manager = super().create_kernel_manager()
            manager.kernel_spec_manager = ThisPython(parent=manager)
            return manager

        async def async_start_new_kernel(self, **options):
            await super().async_start_new_kernel(**options)
            Path(kernel).write_text(str(self.km.provisioner.pid), encoding="utf-8")

        def output(self, outs, msg, display_id, cell_index):
            before = self.printed.get(cell_index, 0)
            self.printed[cell_index] = before + _length(msg["content"])
            if self.printed[cell_index] <= MOST_PRINTED:
                return super().output(outs, msg, display_id, cell_index)
            if before <= MOST_PRINTED:
                outs.append(new_output("error", ename="TooMuchOutput", traceback=[], evalue=(
                    f"the cell puts out more than {MOST_PRINTED // 1_000_000} MB; let it print less")))
            return None

    class Engine(NBClientEngine):
        """nbclient without its replacement for Output widgets.

        The replacement sometimes waits for ever (jupyter/nbclient#312), and it hides errors.
        """

        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, log_output=False, stdout_file=None,
                                     stderr_file=None, start_timeout=60, execution_timeout=None, **options):
            options = merge_kwargs(remove_args(["input_path", "timeout"], **options), kernel_name=kernel_name,
                                   timeout=execution_timeout, startup_timeout=start_timeout, iopub_timeout=60)
            client = Client(nb_man, **options)
            client.widget_registry = {}
            return client.execute()

    papermill_engines.register("csam_lite", Engine)
    try:
        papermill.execute_notebook(_for_papermill(source), _for_papermill(target), parameters,
                                   engine_name="csam_lite", kernel_name="python3", progress_bar=False)
    except PapermillExecutionError:
        pass  # the error stands in the notebook that was written, where run_course finds it


def _length(content: object) -> int:
    """The letters of all texts in what a kernel sends."""
    if isinstance(content, dict):
        return sum(map(_length, content.values()))
    return sum(map(_length, content)) if isinstance(content, list) else len(str(content))


if __name__ == "__main__":
    _papermill(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), sys.argv[4])
