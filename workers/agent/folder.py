"""The agent's view of its attempt's folder."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import zipfile
from collections.abc import Mapping
from pathlib import Path

import trimtab
from trimtab import processes, wire
from trimtab.attempt_files import (
    AGENT_FILE,
    CHECKPOINT_FILE,
    EXIT_FILE,
    LOG_FOLDER,
    ORDER_FILE,
    REQUEST_FILE,
    AgentRecord,
    StandingRequest,
)
from trimtab.files import write_atomically
from trimtab.ids import AttemptRef
from trimtab.orders import CheckpointNote, RunOrder, RunReport

KERNEL_FOLDER = "kernel"


class AttemptFolder:
    """Reads and writes the files that ``trimtab.attempt_files`` names."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._request_key: tuple[int, int] | None = None

    @property
    def logs(self) -> Path:
        """Folder of the logs."""
        return self.path / LOG_FOLDER

    def read_order(self) -> RunOrder:
        """The order. Raises OSError, ValueError (not JSON), WireError."""
        return wire.loads(RunOrder, (self.path / ORDER_FILE).read_bytes())

    def record_agent(self, attempt: AttemptRef) -> AgentRecord:
        """Write who this process is."""
        process = processes.identify(os.getpid())
        assert process is not None, "this process lives"
        record = AgentRecord(attempt=attempt, host=socket.gethostname(), process=process)
        self._write(AGENT_FILE, record)
        return record

    def record_checkpoint(self, note: CheckpointNote) -> None:
        """Keep the newest checkpoint where it survives the death of agent and control process."""
        self._write(CHECKPOINT_FILE, note)

    def record_exit(self, report: RunReport) -> None:
        """The last word."""
        self._write(EXIT_FILE, report)

    def has_exit(self) -> bool:
        """Whether the attempt has ended, or was ended before it began."""
        return (self.path / EXIT_FILE).exists()

    def new_request(self) -> StandingRequest | None:
        """What the executor asks, if it changed since the last call. Raises ValueError, once, for a file that is no request."""
        path = self.path / REQUEST_FILE
        try:
            found = path.stat()
            key = (found.st_mtime_ns, found.st_ino)
            if key == self._request_key:
                return None
            self._request_key = key
            return wire.loads(StandingRequest, path.read_bytes())
        except FileNotFoundError:
            return None

    def write_for_ranks(self, order: RunOrder) -> tuple[str, str]:
        """The order without its secret, and the plan; the paths of both."""
        self._write("worker-order.json", dataclasses.replace(order, credential=""))
        plan: Mapping[str, object] = {
            "attempt": str(order.attempt),
            "job_id": order.job_id,
            "strategy": order.strategy,
            "slots": order.slots,
            "predicted_step_s": order.predicted_step_s,
            "predicted_memory": order.predicted_memory,
            "checkpoint_dir": order.checkpoint_dir,
            "resume_from": order.resume_from,
        }
        self._write("plan.json", plan)
        return str(self.path / "worker-order.json"), str(self.path / "plan.json")

    def unpack_kernel(self) -> str:
        """A folder from which any interpreter can import ``trimtab``: unpacked from the agent's archive, or where it lies."""
        package = Path(trimtab.__file__).parent
        if package.is_dir():
            return str(package.parent)
        target = self.path / KERNEL_FOLDER
        prefix = package.name + "/"
        with zipfile.ZipFile(package.parent) as archive:
            for name in archive.namelist():
                if name.startswith(prefix) and not name.endswith("/"):
                    path = target / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(archive.read(name))
        return str(target)

    def _write(self, name: str, value: object) -> None:
        text = json.dumps(wire.encode(value), sort_keys=True, indent=1)
        write_atomically(self.path / name, text.encode() + b"\n")
