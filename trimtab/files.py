"""Files that are either the old or the new one, never a torn one, and locks that die with their holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path


def write_atomically(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace ``path`` by ``data``; durable when it returns, and a reader sees the old content or the new, nothing between.

    The new file never has more rights than ``mode``, not even for a moment. Raises OSError (disk full, no rights).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()  # of an earlier process with our id that died while writing
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make new names in a folder survive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def try_lock(path: Path, *, create: bool = True) -> int | None:
    """Take the exclusive lock of a file; the descriptor that holds it, or None while somebody else does.

    The kernel frees the lock when the last process that inherited the descriptor has closed it or died: a held lock means life,
    a free one death, with no clock in between. Raises FileNotFoundError without ``create``.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    handle = os.open(path, flags, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except BaseException:
        os.close(handle)
        raise
    return handle
