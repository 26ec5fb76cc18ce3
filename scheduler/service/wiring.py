"""What the control plane is built from: its ports and its settings. No globals, no environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from scheduler.core.policy import Policy
from scheduler.ports import (
    ArtifactStore,
    Clock,
    Executor,
    LogStore,
    MeasurementShelf,
    PlannerRunner,
    PriceBook,
    ProbeShelf,
    StateStore,
    Telemetry,
)

_COMMITS = ("submit", "cancel", "suspend", "resume", "vouch", "claim", "report", "publish", "reflect", "decide", "assign")
_ACTS = ("start", "stop", "forget")
CRASH_POINTS = frozenset(
    [f"{name}.{when}" for name in _COMMITS for when in ("before-commit", "committed")]
    + [f"{name}.{when}" for name in _ACTS for when in ("before-act", "acted")]
    + ["cycle.observed", "start.committed"]
)
"""Every name that ``crash_point`` is called with: one between any two effects. A test dies at each of them."""


def no_crash(_name: str) -> None:
    """The crash point of production: nothing happens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPorts:
    """The outside. ``random_bytes`` feeds ids and op ids. ``crash_point`` is called between any two effects: tests die there."""

    store: StateStore
    executor: Executor
    planner: PlannerRunner
    prices: PriceBook
    logs: LogStore
    artifacts: ArtifactStore
    probes: ProbeShelf
    measurements: MeasurementShelf
    clock: Clock
    telemetry: Telemetry
    random_bytes: Callable[[int], bytes]
    crash_point: Callable[[str], None] = no_crash


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSettings:
    """``credential_key`` (32 bytes, secret, kept across restarts) makes the credentials of agents; ``address`` is their gateway.

    ``holder`` names this process in the leader's lease (host, boot id, pid). ``expires_after_s`` is the life of a plan.
    """

    home: str
    address: str
    holder: str
    credential_key: bytes
    runtime_python: str
    runtime_environment: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    store_name: str = ""
    pid: int = 0
    policy: Policy = field(default_factory=Policy)
    cycle_s: float = 1.0
    inventory_every_s: float = 5.0
    lease_s: float = 10.0
    plan_debounce_s: float = 0.2
    plan_time_limit_s: float = 10.0
    plan_expires_after_s: float = 1800.0
    plan_keep_s: float = 7 * 86_400.0
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.credential_key) < 32:
            raise ValueError(f"credential_key needs at least 32 bytes, found {len(self.credential_key)}")
