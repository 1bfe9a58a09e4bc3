"""Keep the memory that large tensors free, so that the next tensor finds it warm."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # <malloc.h>


def keep_freed_memory() -> None:
    """Ask the C library to keep freed blocks in the process instead of giving them back to the system. Linux
    with glibc; elsewhere nothing.

    By default a tensor above 32 MB gets fresh pages each time, which the system fills with zeros when they
    are touched; `bench --fresh-memory` shows what that costs a training step on a CPU. The price: the process
    holds its peak until it ends.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
