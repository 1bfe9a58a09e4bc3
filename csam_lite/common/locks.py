"""One process at a time in a folder, without a file that stays behind."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from csam_lite.common.errors import InputError

try:
    import fcntl
except ImportError:  # Windows has no locks on folders
    fcntl = None


@contextmanager
def only_process(folder: str | Path | None) -> Iterator[None]:
    """Hold `folder`, which is made if need be, during the block; the lock ends with the process, however that
    ends.

    Raises InputError where another process holds it. None, Windows and file systems without locks hold
    nothing.
    """
    if folder is None or fcntl is None:
        yield
        return
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}); choose another folder or name"
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{folder}: another process is training into this folder; wait for it, or choose another "
                "--out"
            ) from error
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(handle)
