"""One process at a time in a folder or at a file, without a lock file that stays behind."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from csam_lite.common.errors import InputError

try:
    import fcntl
except ImportError:  # Windows has no locks on folders
    fcntl = None  # type: ignore[assignment]


@contextmanager
def only_process(path: str | Path | None, busy: str, is_file: bool = False) -> Iterator[None]:
    """Hold `path`, a folder or (`is_file`) a file, during the block; it is made if need be.

    The lock ends with the process, however that ends.

    Raises InputError with the message `busy` where another process holds it. Nothing is held for None, on
    Windows, and on file systems without locks.
    """
    if path is None or fcntl is None:
        yield
        return
    path = Path(path)
    try:
        (path.parent if is_file else path).mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT if is_file else os.O_RDONLY, 0o666)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); choose another folder or name"
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(busy) from error
        except OSError:
            pass  # a file system without locks
        if not _is_at(handle, path):  # who held it has just finished, and given it another name
            raise InputError(busy)
        yield
    finally:
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    """Whether the open file or folder still has this name."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
