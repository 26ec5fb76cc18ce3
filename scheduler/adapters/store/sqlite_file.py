"""The file under the embedded store: where it may lie, its rights, its schema, and how connections to it are set up."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import apsw

from trimtab.errors import StoreError

SCHEMA = 1
_BUSY_MS = 5000
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "9p", "ceph", "glusterfs", "lustre", "gpfs", "beegfs", "fuse.sshfs"}
)

_TABLES = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE records(
    kind TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL CHECK (version > 0), value TEXT NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE events(number INTEGER PRIMARY KEY, hash TEXT NOT NULL, draft TEXT NOT NULL) STRICT;
CREATE TABLE ops(op_id TEXT PRIMARY KEY, last_event INTEGER NOT NULL, at REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX ops_by_age ON ops(at);
CREATE TABLE lease(
    one INTEGER PRIMARY KEY CHECK (one = 1), holder TEXT NOT NULL, term INTEGER NOT NULL, expires_at REAL NOT NULL
) STRICT;
"""


def refuse_unsafe_folder(folder: Path) -> None:
    """Raise StoreError where others may write into the folder, or where its file system cannot lock safely."""
    try:
        mode = folder.stat().st_mode
    except OSError as error:
        raise StoreError(f"the state folder {folder} cannot be used: {error.strerror}") from error
    if not stat.S_ISDIR(mode):
        raise StoreError(f"{folder} is not a folder")
    if mode & stat.S_IWOTH:
        raise StoreError(f"everybody may write into the state folder {folder} (mode {mode & 0o7777:04o}); allowed: 0700")
    kind = file_system(folder)
    if kind in _NETWORK:
        raise StoreError(f"the state folder {folder} lies on a network file system ({kind}), where two hosts could open it")


def file_system(folder: Path, *, mounts: str = "/proc/self/mountinfo") -> str:
    """Type of the file system that holds the folder; empty where the machine does not say (no such file outside Linux)."""
    try:
        lines = Path(mounts).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    best, kind = "", ""
    path = str(folder.resolve())
    for line in lines:
        left, separator, right = line.partition(" - ")
        fields = left.split()
        if not separator or len(fields) < 5:
            continue
        point = fields[4].replace("\\040", " ")
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, right.split()[0]
    return kind


def create_private(path: Path) -> None:
    """Create the file for its owner alone, or check that it is so."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        mode = os.fstat(descriptor).st_mode
        if mode & 0o077:
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def open_writer(path: Path) -> apsw.Connection:
    """The connection that alone writes and checkpoints, with the schema made or checked. Raises StoreError."""
    try:
        db = apsw.Connection(str(path))
        _set_up(db)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        found = db.execute("PRAGMA quick_check(1)").fetchall()
        if found != [("ok",)]:
            raise StoreError(f"the store {path} is damaged: {found[0][0]}")
        _make_schema(db, path)
    except apsw.Error as error:
        raise StoreError(f"the store {path} cannot be opened: {type(error).__name__}: {error}") from error
    return db


def open_reader(path: Path) -> apsw.Connection:
    """A connection that only reads and never checkpoints."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    _set_up(db)
    db.execute("PRAGMA query_only = ON")
    return db


def _set_up(db: apsw.Connection) -> None:
    db.set_busy_timeout(_BUSY_MS)
    for pragma in ("trusted_schema = OFF", "foreign_keys = ON", "mmap_size = 0", "cell_size_check = ON"):
        db.execute(f"PRAGMA {pragma}")


def _make_schema(db: apsw.Connection, path: Path) -> None:
    with db:
        if db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'meta'").fetchone() == (0,):
            db.execute(_TABLES)
            db.execute("INSERT INTO meta(key, value) VALUES ('schema', ?)", (str(SCHEMA),))
        row = db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
        found = int(row[0]) if row is not None else 0
        if found != SCHEMA:
            raise StoreError(f"the store {path} has schema {found}; this version of trimtab knows {SCHEMA}")
