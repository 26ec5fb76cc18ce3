"""The control plane's secret key: made once, kept in a file for its owner alone."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from trimtab.errors import StoreError

KEY_BYTES = 32


def load_or_make_key(path: Path) -> bytes:
    """The key in the file; a new one is made, durably, where there is none. Raises StoreError for a file that others may read."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return _load(path)
    except OSError as error:
        raise StoreError(f"the key file {path} cannot be made: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as file:
        key = secrets.token_bytes(KEY_BYTES)
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return key


def _load(path: Path) -> bytes:
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) or mode & 0o077:
        raise StoreError(f"the key file {path} must be a file for its owner alone (mode 0600), found {mode & 0o7777:04o}")
    key = path.read_bytes()
    if len(key) < KEY_BYTES:
        raise StoreError(f"the key file {path} holds {len(key)} bytes, {KEY_BYTES} are needed; remove it where no attempt runs")
    return key
