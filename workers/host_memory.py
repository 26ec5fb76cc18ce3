"""How the C library keeps freed memory of a process that trains on a CPU."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_THRESHOLD = -3
KEEP_BYTES = 1 << 30
"""Blocks up to this size come from the heap, and the heap gives nothing back below it."""


def keep_freed_memory() -> bool:
    """Let the C library keep what tensors free, instead of giving it back to the kernel and asking for it again each step.

    By default glibc maps a large tensor anew each time, and the kernel zeroes its pages one fault after the other, which costs
    more than many kernels that fill them. Returns whether the library has such settings (mallopt(3)); else nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    settings = ((M_MMAP_THRESHOLD, KEEP_BYTES), (M_TRIM_THRESHOLD, KEEP_BYTES), (M_TOP_PAD, 64 << 20))
    return all(mallopt(name, value) == 1 for name, value in settings)
