"""Keeps solver libraries from writing to the standard output: HiGHS prints a banner there whatever its options say."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

_LOCK = threading.Lock()


@contextlib.contextmanager
def quiet_stdout() -> Iterator[None]:
    """Point file descriptor 1 at the null device for the body. One body at a time; a closed descriptor 1 is left alone."""
    with _LOCK:
        if sys.stdout is not None and not sys.stdout.closed:
            sys.stdout.flush()
        try:
            saved = os.dup(1)
        except OSError:
            yield
            return
        sink = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(sink, 1)
            yield
        finally:
            os.dup2(saved, 1)
            os.close(saved)
            os.close(sink)
