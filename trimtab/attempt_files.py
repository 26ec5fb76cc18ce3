"""The folder of one attempt: names of its files, and what executor and agent tell each other by them.

order.json       RunOrder, 0600, written by the executor before the agent starts
spawned.json     ProcessIdentity of the agent as the executor started it
agent.json       AgentRecord, the first thing that an agent writes
request.json     StandingRequest, written by the executor at any time, read by the agent
checkpoint.json  CheckpointNote of the newest checkpoint that rank 0 announced
exit.json        the last RunReport, kind EXITED; once it is there nothing of the attempt is started any more
agent.lock       locked for life by the agent (``trimtab.files.try_lock``)
family.lock      locked for life by the agent and by whatever its ranks leave running
logs/            rank-<r>.log and agent.log
"""

from __future__ import annotations

from dataclasses import dataclass

from trimtab.ids import AttemptRef
from trimtab.processes import ProcessIdentity

ORDER_FILE = "order.json"
SPAWNED_FILE = "spawned.json"
AGENT_FILE = "agent.json"
REQUEST_FILE = "request.json"
CHECKPOINT_FILE = "checkpoint.json"
EXIT_FILE = "exit.json"
AGENT_LOCK = "agent.lock"
FAMILY_LOCK = "family.lock"
LOG_FOLDER = "logs"
AGENT_LOG = "agent.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRecord:
    """Which process is the agent of an attempt, on which host."""

    attempt: AttemptRef
    host: str
    process: ProcessIdentity

    def label(self) -> str:
        """One line that names this agent and no other: host, boot, process id and start."""
        return f"{self.host}/{self.process.boot_id}/{self.process.pid}/{self.process.start_ticks}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingRequest:
    """What is asked of an agent by file, so that it reaches one that hears no gateway.

    ``stop_by_s`` is on the system-wide monotonic clock of this boot: nothing of the attempt may run after it. ``num_checkpoints``
    rises with each request for a checkpoint.
    """

    stop_by_s: float | None = None
    num_checkpoints: int = 0


def rank_log(rank: int) -> str:
    """Name of a rank's log below ``logs/``; rank -1 is the agent's own."""
    return AGENT_LOG if rank < 0 else f"rank-{rank}.log"
