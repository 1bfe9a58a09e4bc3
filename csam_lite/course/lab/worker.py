"""The process that runs one hand-in: it executes each answer alone and asks a fresh copy of the check.

It reads the exercises as JSON from standard input and writes a line of JSON for each event to a pipe of its
own, so that whatever an answer prints is not taken for a result. Before an answer runs, the process gives up
what an answer does not need: memory above a limit, large files, files outside the working directory, other
processes, the network. These are guards for a classroom: they stop accidents and simple tricks, not an expert
who attacks Python itself. For strangers' hand-ins, grade in a container.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

MOST_OUTPUT = 10_000      # characters of what an answer prints that are kept
MOST_FILES = 100          # that an answer may open for writing
LARGEST_FILE = 1_000_000  # bytes
FORBIDDEN = (
    "socket.connect", "socket.bind", "socket.send", "socket.getaddrinfo", "socket.gethostby", "webbrowser.",
    "subprocess.", "os.fork", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.startfile", "os.kill",
    "pty.spawn", "ctypes.dlopen",
)
CHANGES = (
    "os.remove", "os.rmdir", "os.rename", "os.truncate", "os.chmod", "os.chown", "os.link", "os.symlink",
    "os.mkdir", "shutil.",
)


class Bounded(io.TextIOBase):
    """Standard output that keeps the first characters and drops the rest."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text[:max(0, MOST_OUTPUT - len(self.text))]
        return len(text)


def limit_memory(megabytes: int) -> None:
    """Let this process take at most this much more memory than it has now (where the system supports it)."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    except (ImportError, OSError):
        return
    most = pages * resource.getpagesize() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def limit_computing(seconds: float) -> None:
    """Let the system end this process if it computes longer from now on (where the system can do so)."""
    try:
        import resource
    except ImportError:
        return
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used + seconds), hard))


def guard(folder: Path) -> None:
    """Refuse, from now on, the network, other processes, and changes of files outside `folder`."""
    opened = 0

    def inside(path: object) -> bool:
        if isinstance(path, int):
            return True
        return Path(os.path.realpath(os.fsdecode(path))).is_relative_to(folder)

    def refuse(event: str, arguments: tuple) -> None:
        nonlocal opened
        if event.startswith(FORBIDDEN):
            raise PermissionError(f"not allowed in a graded answer: {event}")
        if event.startswith(CHANGES):
            paths = [argument for argument in arguments if isinstance(argument, (str, bytes, os.PathLike))]
            if not all(map(inside, paths)):
                raise PermissionError(f"not allowed in a graded answer: {event} outside the working "
                                      "directory")
        if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
            opened += 1
            if opened > MOST_FILES or not inside(arguments[0]):
                raise PermissionError("not allowed in a graded answer: many files, or one outside the "
                                      "working directory")

    sys.addaudithook(refuse)


def forget(package: str) -> None:
    """Let the next import load the modules of this package anew, without what an answer did to them."""
    for module in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        del sys.modules[module]
    importlib.invalidate_caches()


def find_check(name: str) -> Callable:
    """A fresh copy of the check `name`, such as "n02.statistics"."""
    forget("csam_lite.course.checks")
    module, function = name.split(".")
    return getattr(importlib.import_module(f"csam_lite.course.checks.{module}"), function)


def prepare(exercise: dict) -> dict:
    """The names that an answer finds: the imports of its notebook, loaded anew."""
    import torch

    forget("csam_lite")
    torch.manual_seed(0)
    names: dict = {"__name__": "answer"}
    exec(exercise["imports"], names)
    return names


def grade(exercise: dict, names: dict) -> tuple[bool | None, str]:
    """Run one answer; return what the check says (True, False or None) and a line that explains it."""
    said = Bounded()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        for source in exercise["earlier"]:  # an answer may use the answers before it
            with contextlib.suppress(Exception):
                exec(source, names)
        try:
            exec(compile(exercise["source"], f"exercise {exercise['number']}", "exec"), names)
        except SyntaxError as error:
            return False, f"the cell is no Python: {error.msg} (line {error.lineno})"
        except BaseException as error:  # SystemExit and KeyboardInterrupt too
            return False, f"the cell raised {type(error).__name__}: {error}"
        said.text = ""
        try:
            result = find_check(exercise["check"])(names.get(exercise["name"]))
        except BaseException as error:
            return False, f"your code raised {type(error).__name__}: {error}"
    lines = [line.strip() for line in said.text.splitlines() if line.strip()]
    first = next((k for k, line in enumerate(lines) if line.startswith(("[FAIL]", "[..]", "[OK]"))), 0)
    return result, " ".join(lines[first:first + 2])


def main() -> None:
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    silent = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(silent, descriptor)
    task = json.load(sys.stdin)
    import torch

    import csam_lite.course.checks  # noqa: F401  # what it needs is loaded before memory is limited

    torch.set_num_threads(1)
    limit_memory(task["megabytes"])
    guard(Path.cwd().resolve())
    for exercise in task["exercises"]:
        try:
            names = prepare(exercise)
        except BaseException as error:  # not the answer's fault, unless an answer before it did damage
            print(json.dumps({"broken": f"{type(error).__name__}: {error}"}), file=results, flush=True)
            os._exit(1)
        print(json.dumps({"started": exercise["number"]}), file=results, flush=True)
        limit_computing(task["seconds"])
        passed, message = grade(exercise, names)
        limit_computing(3600)
        print(json.dumps({"number": exercise["number"], "passed": passed is True, "open": passed is None,
                          "message": message[:500]}), file=results, flush=True)
    os._exit(0)  # without what an answer registered to run at the end


if __name__ == "__main__":
    main()
