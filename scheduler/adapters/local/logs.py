"""LogStore in folders: the agent writes, this reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from scheduler.adapters.local.folders import JobFolders
from scheduler.adapters.local.sight import agent_process
from scheduler.config import Home
from scheduler.ports import LogChunk
from trimtab import processes
from trimtab.attempt_files import AGENT_LOG, EXIT_FILE, LOG_FOLDER, rank_log
from trimtab.errors import NotFoundError
from trimtab.ids import AttemptRef

MAX_READ_BYTES = 1 << 20
_RANK = re.compile(r"rank-(\d+)\.log")


class FolderLogs:
    """See the port."""

    def __init__(self, home: Home) -> None:
        self._folders = JobFolders(home.jobs)

    def ranks(self, attempt: AttemptRef) -> Sequence[int]:
        """See the port."""
        logs = self._logs(attempt)
        names = [path.name for path in logs.iterdir()]
        found = [int(match[1]) for name in names if (match := _RANK.fullmatch(name))]
        return sorted([*found, *([-1] if AGENT_LOG in names else [])])

    def read(self, attempt: AttemptRef, rank: int, *, offset: int, limit: int) -> LogChunk:
        """See the port; at most ``MAX_READ_BYTES`` at once. A negative offset counts from the end. Raises NotFoundError."""
        logs = self._logs(attempt)
        # Asked before the file is read: what is written in between is then found by the next read.
        ended = _has_ended(logs.parent)
        try:
            with open(logs / rank_log(rank), "rb") as file:
                size = file.seek(0, 2)
                begin = max(0, size + offset) if offset < 0 else min(offset, size)
                file.seek(begin)
                data = file.read(max(0, min(limit, MAX_READ_BYTES)))
        except FileNotFoundError:
            if ended:
                known = ", ".join(map(str, self.ranks(attempt))) or "none"
                raise NotFoundError(f"{attempt} has no log of rank {rank}; there are {known}") from None
            return LogChunk(data=b"", next_offset=max(0, offset), complete=False)
        return LogChunk(data=data, next_offset=begin + len(data), complete=ended and begin + len(data) >= size)

    def _logs(self, attempt: AttemptRef) -> Path:
        try:
            folder = self._folders.attempt(attempt) / LOG_FOLDER
        except ValueError as error:
            raise NotFoundError(str(error)) from error
        if not folder.is_dir():
            raise NotFoundError(f"{attempt} was never started here")
        return folder


def _has_ended(folder: Path) -> bool:
    """Whether nobody writes these logs any more: only the agent does, and its lock is not this reader's to try."""
    if (folder / EXIT_FILE).exists():
        return True
    agent = agent_process(folder)
    return agent is not None and not processes.lives(agent)
