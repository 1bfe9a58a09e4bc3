"""Write whole files or none: no reader ever meets a half-written one."""

from __future__ import annotations

import errno
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from csam_lite.common.errors import InputError

_HOST = re.sub(r"[^A-Za-z0-9]", "", socket.gethostname())[
    :32
]  # process numbers of another machine say nothing here
_PART = re.compile(r"\.part-([A-Za-z0-9]*)-(\d+)-")
_OLD = 7 * 24 * 3600  # seconds after which nobody is still writing
LONGEST_NAME = 255  # bytes of the name of a file, on most systems
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds, remove it if not.

    The temporary name keeps the suffixes of `path` (nibabel chooses its format by them). Temporary files that
    killed processes have left in the folder are removed. Raises InputError where the folder cannot be written
    or the disk is full.
    """
    path = Path(path)
    if not path.name:
        raise InputError(f"{path}: is a folder; give the name of a file")
    start = f".part-{_HOST}-{os.getpid()}-"
    part = path.with_name(start + _end_of(path.name, LONGEST_NAME - len(start)))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_left_parts(path.parent)
        yield part
        os.umask(mask := os.umask(0))
        part.chmod(0o666 & ~mask)  # some writers make files that nobody else may read
        os.replace(part, path)
    except OSError as error:
        advice = f"{'free some space, or ' if error.errno in _FULL else ''}choose another folder or name"
        raise InputError(f"{path}: cannot be written ({error.strerror or error}); {advice}") from error
    finally:
        with suppress(OSError):
            part.unlink()


def _end_of(name: str, most: int) -> str:
    """The end of a name, of at most `most` bytes."""
    while len(os.fsencode(name)) > most:
        name = name[1:]
    return name


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a new folder for temporary files, and remove it at the end.

    Raises InputError where it cannot be made, or where its disk becomes full during the block.
    """
    made = False
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            made = True
            yield Path(folder)
    except OSError as error:
        if made and (error.errno not in _FULL or error.filename):
            raise
        where = tempfile.tempdir or "the folder for temporary files"
        raise InputError(f"{where}: temporary files cannot be written there ({error.strerror or error}); "
                         "free some space, or name another folder in the variable TMPDIR") from error


def user_cache() -> Path:
    """The folder for what can be made or downloaded again: below $XDG_CACHE_HOME, else in .cache of the
    user's home."""
    root = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(root) / "csam_lite"


def make_folder(path: str | Path) -> Path:
    """Make a folder, and those above it, where they are missing; return it. Raises InputError where it cannot
    be made.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); choose another folder or name"
        ) from error
    return Path(path)


def remove_left_parts(folder: Path) -> None:
    """Remove the temporary files of `whole_file` in a folder whose process is dead, or that are a week
    old."""
    for path in folder.glob(".part-*"):
        with suppress(OSError):
            match = _PART.match(path.name)
            if match and path.is_file() and (match[1] == _HOST and not _is_alive(int(match[2]))
                                             or time.time() - path.stat().st_mtime > _OLD):
                path.unlink()


def _is_alive(process: int) -> bool:
    """Whether a process of this number runs on this machine. Windows has no way to ask without harm; there it
    counts as alive."""
    if os.name == "nt":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True
