"""How this process treats memory that it has freed."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Parameters of `mallopt`, from glibc's `malloc.h`."""


def keep_freed_memory() -> bool:
    """Keep freed memory for the next allocation instead of giving it back to the system.

    PyTorch on a CPU allocates and frees the results of every layer. By default glibc gives large
    ones back at once, and the system must clear the same pages again in every call. How many
    depends on what the process did before.

    Returns:
        Whether it could be set; False with a C library other than glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    largest = 2**31 - 1
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, largest))


def give_back_freed_memory() -> bool:
    """Give freed memory of all threads back to the system, after something large is gone.

    Returns:
        Whether it could be asked for; False with a C library other than glibc.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return False
    return True
