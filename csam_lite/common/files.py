"""Write whole files or none: no reader ever meets a half-written one."""

import errno
import os
from contextlib import contextmanager, suppress
from pathlib import Path

from csam_lite.common.errors import InputError


@contextmanager
def whole_file(path):
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds, remove it if not.

    The temporary name keeps the suffixes of `path` (nibabel chooses its format by them).
    Raises InputError where the folder cannot be written or the disk is full.
    """
    path = Path(path)
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.umask(mask := os.umask(0))
        part.chmod(0o666 & ~mask)  # some writers make files that nobody else may read
        os.replace(part, path)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        mend = "free some space, or choose another folder" if full else "choose another folder or name"
        raise InputError(f"{path}: cannot be written ({error.strerror or error}); {mend}") from error
    finally:
        with suppress(OSError):
            part.unlink()
